"""Rules between fields of a case: what must divide what, and what needs what.

A rule that lacks one of its numbers holds; :func:`predictor.case.resolve` checks again when all of
them are there. Layers may divide unevenly over stages.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from predictor.case.link_rules import check_links
from predictor.case.model_rules import check_model
from predictor.case.models import has_latent_attention
from predictor.case.rule import RuleError, check_divides

if TYPE_CHECKING:
    from predictor.case.cluster_schema import Cluster
    from predictor.case.model_schema import Model
    from predictor.case.plan_schema import Plan
    from predictor.case.training_schema import Training
    from predictor.case.whole import Case

COLUMN_MODULES = frozenset({"linear_qkv", "linear_fc1"})
"""Modules whose output is split over tensor ranks; their adapters' ranks are split too."""

# An embedding and a loss may each take a layer's place in a pipeline chunk.
PLACES_BESIDE_LAYERS = 2


def check(case: Case) -> None:
    """Hold every rule against ``case``.

    Raises:
        RuleError: The first rule that is broken.
    """
    check_model(case.model)
    _check_tensor_parallel(case.model, case.training, case.plan)
    _check_context_parallel(case.model, case.training, case.plan)
    _check_pipeline(case.model, case.plan)
    _check_training(case.model, case.training)
    _check_adapters(case.training, case.plan)
    _check_world(case.plan, case.cluster)
    _check_experts(case.model, case.plan, case.cluster)
    _check_batch(case.training, case.plan, case.cluster)
    if case.cluster.stage_gpus is not None:
        _check_stage_gpus(case.plan, case.cluster, case.cluster.stage_gpus)
    if case.cluster.links is not None:
        check_links(case.cluster, case.cluster.links)


def replicas(plan: Plan, cluster: Cluster) -> int | None:
    """Return the data-parallel degree that the rest of the plan leaves, or None if it is open."""
    if plan.tensor_parallel is None:
        return None
    return cluster.num_gpus // _ranks_of_a_replica(plan)


def _ranks_of_a_replica(plan: Plan) -> int:
    degrees = (plan.tensor_parallel, plan.context_parallel, plan.pipeline_parallel)
    return prod(degree or 1 for degree in degrees)


def _check_tensor_parallel(model: Model, training: Training, plan: Plan) -> None:
    degree = plan.tensor_parallel
    if degree is None:
        return
    key = "plan.tensor_parallel"
    check_divides(key, degree, of="num_attention_heads", dividend=model.num_attention_heads)
    groups = model.num_query_groups
    if groups and model.mla is None and groups % degree and degree % groups:
        raise RuleError(
            key, degree, f"must divide num_query_groups ({groups}) or be a multiple of it"
        )
    check_divides(key, degree, of="ffn_hidden_size", dividend=model.ffn_hidden_size)
    if plan.sequence_parallel:
        shares = degree * (plan.context_parallel or 1)
        if training.seq_length and training.seq_length % shares:
            rule = (
                f"times context_parallel ({plan.context_parallel or 1}) must divide seq_length "
                f"({training.seq_length}) under sequence_parallel"
            )
            raise RuleError(key, degree, rule)


def _check_context_parallel(model: Model, training: Training, plan: Plan) -> None:
    key, degree = "plan.context_parallel", plan.context_parallel
    check_divides(key, degree, of="seq_length", dividend=training.seq_length)
    if degree and plan.context_parallel_kind == "ulysses":
        shares = degree * (plan.tensor_parallel or 1)
        if model.num_attention_heads and model.num_attention_heads % shares:
            rule = (
                f"times tensor_parallel ({plan.tensor_parallel or 1}) must divide "
                f"num_attention_heads ({model.num_attention_heads}) under ulysses"
            )
            raise RuleError(key, degree, rule)


def _check_pipeline(model: Model, plan: Plan) -> None:
    stages, chunks = plan.pipeline_parallel or 1, plan.virtual_pipeline or 1
    if chunks > 1 and stages == 1:
        rule = "needs pipeline_parallel of at least 2"
        raise RuleError("plan.virtual_pipeline", chunks, rule)
    if plan.schedule == "interleaved" and plan.virtual_pipeline == 1:
        rule = "needs virtual_pipeline of at least 2"
        raise RuleError("plan.schedule", plan.schedule, rule)
    places = model.num_layers + PLACES_BESIDE_LAYERS
    if stages * chunks > places:
        rule = (
            f"times virtual_pipeline ({chunks}) may not exceed num_layers + "
            f"{PLACES_BESIDE_LAYERS} ({places})"
        )
        raise RuleError("plan.pipeline_parallel", stages, rule)
    if plan.layers_per_stage is not None:
        _check_layers_per_stage(model, plan.layers_per_stage, stages, chunks)


def _check_layers_per_stage(
    model: Model, layers: tuple[int, ...], stages: int, chunks: int
) -> None:
    key = "plan.layers_per_stage"
    if len(layers) not in {stages, stages * chunks}:
        raise RuleError(key, list(layers), f"must have one entry for each of {stages} stages")
    if min(layers) < 0 or sum(layers) != model.num_layers:
        rule = f"must be counts that add up to num_layers ({model.num_layers})"
        raise RuleError(key, list(layers), rule)


def _check_stage_gpus(plan: Plan, cluster: Cluster, skus: tuple[str, ...]) -> None:
    key, stages = "cluster.stage_gpus", plan.pipeline_parallel or 1
    if len(skus) != stages:
        rule = f"must name one for each of pipeline_parallel ({stages}) stages"
        raise RuleError(key, list(skus), rule)
    if skus[0] != cluster.gpu:
        raise RuleError(key, list(skus), f"must begin with cluster.gpu ({cluster.gpu})")


def _check_training(model: Model, training: Training) -> None:
    layers = training.recompute_layers
    if layers is not None and layers > model.num_layers:
        rule = f"may not exceed num_layers ({model.num_layers})"
        raise RuleError("training.recompute_layers", layers, rule)
    modules = set(training.recompute_modules or ())
    latent = modules & {"mla_up_proj"}
    absent = {
        "model.mla": () if not latent or has_latent_attention(model) else latent,
        "model.moe": modules & {"moe", "moe_act", "shared_experts"} if model.moe is None else (),
    }
    for section, named in absent.items():
        if named:
            rule = f"names a part of layers that have {section}, which is not set"
            raise RuleError("training.recompute_modules", min(named), rule)


def _check_adapters(training: Training, plan: Plan) -> None:
    rank, modules = training.adapter_rank, training.adapter_modules
    key = "training.adapter_modules"
    if modules is not None:
        if rank is None:
            raise RuleError(key, list(modules), "needs adapter_rank")
        if not modules or len(set(modules)) < len(modules):
            raise RuleError(key, list(modules), "must name at least one module, each once")
    if modules is None or set(modules) & COLUMN_MODULES:
        check_divides(
            "plan.tensor_parallel", plan.tensor_parallel, of="adapter_rank", dividend=rank
        )


def _check_world(plan: Plan, cluster: Cluster) -> None:
    ranks = _ranks_of_a_replica(plan)
    if cluster.num_gpus % ranks:
        rule = (
            "must be a multiple of tensor_parallel x context_parallel x pipeline_parallel "
            f"({plan.tensor_parallel or 1} x {plan.context_parallel or 1} x "
            f"{plan.pipeline_parallel or 1} = {ranks})"
        )
        raise RuleError("cluster.num_gpus", cluster.num_gpus, rule)
    derived = replicas(plan, cluster)
    if derived is None:
        return
    if plan.data_parallel not in {None, derived}:
        rule = f"num_gpus ({cluster.num_gpus}) over the other degrees ({ranks}) is {derived}"
        raise RuleError("plan.data_parallel", plan.data_parallel, rule)
    check_divides(
        "plan.sharding_group",
        plan.sharding_group,
        of="data_parallel x context_parallel",
        dividend=derived * (plan.context_parallel or 1),
    )


def _check_experts(model: Model, plan: Plan, cluster: Cluster) -> None:
    degree, tensor = plan.expert_parallel or 1, plan.expert_tensor_parallel or 1
    if model.moe is None:
        if degree > 1:
            raise RuleError("plan.expert_parallel", degree, "needs a model with experts")
        return
    check_divides("plan.expert_parallel", degree, of="num_experts", dividend=model.moe.num_experts)
    check_divides(
        "plan.expert_tensor_parallel",
        tensor,
        of="expert_ffn_hidden_size",
        dividend=model.moe.expert_ffn_hidden_size,
    )
    if plan.tensor_parallel is None:
        return
    ranks = cluster.num_gpus // (plan.pipeline_parallel or 1)
    if ranks % (degree * tensor):
        rule = (
            f"times expert_tensor_parallel ({tensor}) must divide the ranks of a pipeline "
            f"stage ({ranks})"
        )
        raise RuleError("plan.expert_parallel", degree, rule)


def _check_batch(training: Training, plan: Plan, cluster: Cluster) -> None:
    degree = replicas(plan, cluster)
    if training.global_batch_size is None or degree is None:
        return
    micro = training.micro_batch_size or 1
    if training.global_batch_size % (micro * degree):
        rule = (
            f"must be a multiple of micro_batch_size x data_parallel ({micro} x {degree}): "
            "every replica runs the same number of whole micro-batches"
        )
        raise RuleError("training.global_batch_size", training.global_batch_size, rule)
