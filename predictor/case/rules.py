"""Rules between fields of a case: what must divide what, and what needs what.

A rule that lacks one of its numbers holds; :func:`predictor.case.resolve` checks again when all of
them are there. Layers may divide unevenly over stages.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from predictor.case.kinds import LEAST_RATE
from predictor.errors import CaseError

if TYPE_CHECKING:
    from predictor.case.schema import Cluster, Links, Model, Moe, Plan, Training
    from predictor.case.whole import Case

# An embedding and a loss may each take a layer's place in a pipeline chunk.
PLACES_BESIDE_LAYERS = 2
# Nodes or GPUs whose links can be told one by one.
MAX_LINKED = 2048
OVERRIDE_NUMBERS = 3


class RuleError(CaseError):
    """A rule between fields does not hold.

    Attributes:
        key: Dotted path of the field to change.
        value: What it is.
        rule: What it should be.
    """

    def __init__(self, key: str, value: object, rule: str) -> None:
        """Word the message; readers put the origin before it."""
        super().__init__(f"{key} = {value}: {rule}")
        self.key = key
        self.value = value
        self.rule = rule


def check(case: Case) -> None:
    """Hold every rule against ``case``.

    Raises:
        RuleError: the first rule that is broken.
    """
    _check_model(case.model)
    _check_tensor_parallel(case.model, case.training, case.plan)
    _check_context_parallel(case.model, case.training, case.plan)
    _check_pipeline(case.model, case.plan)
    _check_training(case.model, case.training)
    _check_world(case.plan, case.cluster)
    _check_experts(case.model, case.plan, case.cluster)
    _check_batch(case.training, case.plan, case.cluster)
    if case.cluster.stage_gpus is not None:
        _check_stage_gpus(case.plan, case.cluster, case.cluster.stage_gpus)
    if case.cluster.links is not None:
        _check_links(case.cluster, case.cluster.links)


def replicas(plan: Plan, cluster: Cluster) -> int | None:
    """Return the data-parallel degree that the rest of the plan leaves, or None if it is open."""
    if plan.tensor_parallel is None:
        return None
    return cluster.num_gpus // _ranks_of_a_replica(plan)


def _ranks_of_a_replica(plan: Plan) -> int:
    degrees = (plan.tensor_parallel, plan.context_parallel, plan.pipeline_parallel)
    return prod(degree or 1 for degree in degrees)


def _divides(key: str, divisor: int | None, *, of: str, dividend: int | None) -> None:
    if divisor and dividend and dividend % divisor:
        raise RuleError(key, divisor, f"must divide {of} ({dividend})")


def _check_model(model: Model) -> None:
    heads, groups = model.num_attention_heads, model.num_query_groups
    _divides("model.num_query_groups", groups, of="num_attention_heads", dividend=heads)
    if heads is not None and model.head_dim is None and model.hidden_size % heads:
        rule = f"must divide hidden_size ({model.hidden_size}) where head_dim is not given"
        raise RuleError("model.num_attention_heads", heads, rule)
    every = model.full_attention_frequency
    if every is not None and model.attention_window is None:
        raise RuleError("model.full_attention_frequency", every, "needs attention_window")
    moe = model.moe
    if moe is None:
        return
    if moe.top_k > moe.num_experts:
        raise RuleError(
            "model.moe.top_k", moe.top_k, f"may not exceed num_experts ({moe.num_experts})"
        )
    _check_groups(moe)
    if (moe.first_dense_layers or 0) > model.num_layers:
        rule = f"may not exceed num_layers ({model.num_layers})"
        raise RuleError("model.moe.first_dense_layers", moe.first_dense_layers, rule)
    if moe.expert_tokens is not None and (
        len(moe.expert_tokens) != moe.num_experts or sum(moe.expert_tokens) <= 0
    ):
        rule = f"must have a count for each of num_experts ({moe.num_experts}), not all of them 0"
        raise RuleError("model.moe.expert_tokens", f"{len(moe.expert_tokens)} counts", rule)
    if moe.pad_to_capacity and moe.capacity_factor is None:
        raise RuleError("model.moe.pad_to_capacity", moe.pad_to_capacity, "needs capacity_factor")


def _check_groups(moe: Moe) -> None:
    groups, visited = moe.routing_groups, moe.groups_per_token
    if visited is not None and visited > (groups or 0):
        rule = f"may not exceed routing_groups ({groups})"
        raise RuleError("model.moe.groups_per_token", visited, rule)
    if groups is None:
        return
    _divides("model.moe.routing_groups", groups, of="num_experts", dividend=moe.num_experts)
    within = moe.num_experts // groups * (visited or groups)
    if moe.top_k > within:
        rule = f"may not exceed the experts of a token's groups ({within})"
        raise RuleError("model.moe.top_k", moe.top_k, rule)


def _check_tensor_parallel(model: Model, training: Training, plan: Plan) -> None:
    degree = plan.tensor_parallel
    if degree is None:
        return
    key = "plan.tensor_parallel"
    _divides(key, degree, of="num_attention_heads", dividend=model.num_attention_heads)
    groups = model.num_query_groups
    if groups and model.mla is None and groups % degree and degree % groups:
        raise RuleError(
            key, degree, f"must divide num_query_groups ({groups}) or be a multiple of it"
        )
    _divides(key, degree, of="ffn_hidden_size", dividend=model.ffn_hidden_size)
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
    _divides(key, degree, of="seq_length", dividend=training.seq_length)
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
    absent = {
        "model.mla": modules & {"mla_up_proj"} if model.mla is None else (),
        "model.moe": modules & {"moe", "moe_act", "shared_experts"} if model.moe is None else (),
    }
    for section, named in absent.items():
        if named:
            rule = f"names a part of layers that have {section}, which is not set"
            raise RuleError("training.recompute_modules", min(named), rule)


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
    _divides(
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
    _divides("plan.expert_parallel", degree, of="num_experts", dividend=model.moe.num_experts)
    _divides(
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


def _check_links(cluster: Cluster, links: Links) -> None:
    matrix, overrides = links.bytes_per_second or (), links.overrides or ()
    for row, rates in enumerate(matrix):
        if len(rates) != len(matrix):
            rule = f"must have as many entries as there are rows ({len(matrix)})"
            raise RuleError(f"cluster.links.bytes_per_second[{row}]", f"{len(rates)} rates", rule)
        for column, rate in enumerate(rates):
            if rate < LEAST_RATE and row != column:
                key = f"cluster.links.bytes_per_second[{row}][{column}]"
                rule = f"must be at least {LEAST_RATE:g}; the diagonal alone may be 0"
                raise RuleError(key, rate, rule)
    most = (len(matrix) or MAX_LINKED) - 1
    for place, entry in enumerate(overrides):
        _check_override(f"cluster.links.overrides[{place}]", entry, most)
    _check_placement(cluster, links, most)


def _check_override(key: str, entry: tuple[float, ...], most: int) -> None:
    told = list(entry)
    if len(entry) != OVERRIDE_NUMBERS or entry[0] == entry[1] or entry[2] < LEAST_RATE:
        rule = f"must be [from, to, bytes_per_second], of two and at least {LEAST_RATE:g}"
        raise RuleError(key, told, rule)
    if any(end != int(end) or not 0 <= end <= most for end in entry[:2]):
        raise RuleError(key, told, f"from and to must be whole numbers of 0 to {most}")


def _check_placement(cluster: Cluster, links: Links, most: int) -> None:
    if most >= MAX_LINKED:
        rule = f"may describe at most {MAX_LINKED} nodes or GPUs"
        raise RuleError("cluster.links.bytes_per_second", f"{most + 1} rows", rule)
    between = links.between or "nodes"
    each = 1 if between == "gpus" else cluster.gpus_per_node
    if each is None:
        return
    needed = -(-cluster.num_gpus // each)
    if needed > most + 1:
        rule = f"needs {needed} {between}, cluster.links describes {most + 1} at most"
        raise RuleError("cluster.num_gpus", cluster.num_gpus, rule)
    places = links.placement
    if places is not None and (
        len(places) != needed or len(set(places)) != needed or max(places) > most
    ):
        rule = f"must be {needed} different numbers of 0 to {most}, one for each place"
        raise RuleError("cluster.links.placement", f"{len(places)} places", rule)
