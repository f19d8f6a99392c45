"""From a resolved case to the sizes of its fullest stage, and what this version refuses."""

import math

from predictor.case import HYBRID_RULE, Case, is_hybrid
from predictor.errors import NotPredictable
from predictor.iteration.dimensions import layer_of, parameters_of
from predictor.iteration.step import StepShape

CLOSED_FORM_SCHEDULES = frozenset({"gpipe", "1f1b", "interleaved"})


def refuse(case: Case, *, parallel: bool) -> None:
    """Refuse what this version cannot estimate, by name.

    Raises:
        NotPredictable: With the field, its value and what is supported.
    """
    model, training, plan = case.model, case.training, case.plan
    reasons = (
        (is_hybrid(model.name or ""), f"model {model.name!r} {HYBRID_RULE}"),
        (
            model.moe is not None,
            "mixture-of-experts layers are not supported yet; dense models are",
        ),
        (model.mla is not None, "latent attention (model.mla) is not supported yet"),
        (
            (model.attention_window or training.seq_length) < training.seq_length,
            "sliding-window attention is not supported yet",
        ),
        (
            model.position_embedding not in {"rope", "learned"},
            f"position_embedding {model.position_embedding!r} is not supported yet",
        ),
        (
            training.precision != "bf16",
            f"precision {training.precision!r} is not supported yet; bf16 is",
        ),
        (training.recompute == "custom", "recompute 'custom' does not say what is recomputed"),
        (plan.context_parallel != 1, "context_parallel above 1 is not supported yet"),
        (
            plan.pipeline_parallel > 1 and plan.schedule not in CLOSED_FORM_SCHEDULES,
            f"schedule {plan.schedule!r} is not supported yet",
        ),
        (
            not parallel and case.cluster.num_gpus > 1,
            f"implementation {case.implementation!r} runs on one GPU, num_gpus is more",
        ),
    )
    for applies, reason in reasons:
        if applies:
            raise NotPredictable(reason)


def micro_batches_of(case: Case) -> int:
    """Micro-batches that each replica runs in a step."""
    per_micro_batch = case.training.micro_batch_size * case.plan.data_parallel
    return max(1, case.training.global_batch_size // per_micro_batch)


def step_shape(case: Case) -> StepShape:
    """Sizes of the fullest pipeline stage of one rank."""
    model, training, plan = case.model, case.training, case.plan
    tp, pp = plan.tensor_parallel, plan.pipeline_parallel
    layer = layer_of(model, tensor_parallel=tp)
    stages = plan.layers_per_stage or (math.ceil(model.num_layers / pp),)
    layers = min(max(stages) * (plan.virtual_pipeline if plan.layers_per_stage else 1), 10**6)
    counts = parameters_of(model, seq_length=model.max_position_embeddings or training.seq_length)
    table = math.ceil(model.vocab_size / tp) * model.hidden_size
    ends = table * (1 if model.tied_embeddings or pp > 1 else 2)
    positions = counts.embedding - model.vocab_size * model.hidden_size
    held = layer.parameters * layers + ends + counts.final_norm + positions
    shards = plan.data_parallel if plan.sharding != "none" else 1
    full = training.recompute == "full"
    replays = min(layers, training.recompute_layers or layers) if full else 0
    return StepShape(
        layer=layer,
        num_layers=layers,
        recompute_layers=replays,
        batch=training.micro_batch_size,
        seq_length=training.seq_length,
        vocab=math.ceil(model.vocab_size / tp),
        parameters=held,
        owned_parameters=math.ceil(held / shards),
        tensors=layer.tensors * layers + 3,
        tied_embeddings=bool(model.tied_embeddings),
        fp32_states=training.master_weights == "fp32" or training.optimizer == "adamw-fused-fp32",
        selective_recompute=training.recompute == "selective",
        sequence_shard=tp if plan.sequence_parallel else 1,
    )
