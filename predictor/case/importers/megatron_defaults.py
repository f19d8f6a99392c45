"""What Megatron-LM does where an argument is absent; another file may say otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from predictor.case.importers.megatron_layout import data_parallel_of

if TYPE_CHECKING:
    from predictor.case.importers.found import Draft
    from predictor.case.importers.settings import Settings

_DEFAULT_COUNTS = {
    "tensor_model_parallel_size": "plan.tensor_parallel",
    "pipeline_model_parallel_size": "plan.pipeline_parallel",
    "context_parallel_size": "plan.context_parallel",
    "expert_model_parallel_size": "plan.expert_parallel",
}
_WITHOUT_FLAG = {
    "plan.sequence_parallel": "--sequence-parallel",
    "plan.overlap_grad_reduce": "--overlap-grad-reduce",
    "plan.overlap_param_gather": "--overlap-param-gather",
    "plan.tp_overlap": "--tp-comm-overlap",
    "plan.moe_overlap": "--overlap-moe-expert-parallel-comm",
}


def read_defaults(settings: Settings) -> None:
    """Note the defaults of a pretraining command for every field that its arguments leave."""
    for name, path in _DEFAULT_COUNTS.items():
        settings.put_default(path, 1, f"Megatron's default, no --{name.replace('_', '-')}")
    for path, flag in _WITHOUT_FLAG.items():
        settings.put_default(path, value=False, words=f"Megatron's default, no {flag}")
    settings.put_default("training.micro_batch_size", 1, "no --micro-batch-size")
    settings.derive(
        "training.global_batch_size",
        _one_micro_batch,
        "micro_batch_size x replicas, as Megatron without --global-batch-size",
    )
    settings.put_default("training.recompute", "none", "no --recompute-granularity")
    settings.put_default("plan.sharding", "none", "no --use-distributed-optimizer")
    settings.put_default("implementation", "megatron-core-te", "Megatron's default")
    if settings.value_of("training.precision") is None:
        settings.leave_open(
            "training.precision",
            "neither --bf16 nor --fp16: Megatron then trains in fp32, which is not modelled; give "
            "--precision bf16",
        )
    if settings.value_of("model.num_layers") is not None:
        _read_model_defaults(settings)


def _one_micro_batch(draft: Draft) -> int | None:
    replicas = data_parallel_of(draft)
    return None if replicas is None else replicas * int(draft["training.micro_batch_size"])


def _read_model_defaults(settings: Settings) -> None:
    gated = settings.value_of("model.gated_mlp") or False
    settings.put_default("model.gated_mlp", gated, "no --swiglu")
    settings.put_default("model.activation", "gelu", "no --swiglu")
    settings.put_default("model.normalization", "layernorm", "no --normalization")
    settings.put_default("model.position_embedding", "learned", "no --position-embedding-type")
    settings.put_default(
        "model.tied_embeddings", value=True, words="no --untie-embeddings-and-output-weights"
    )
    settings.put_default("model.linear_bias", "all", "no --disable-bias-linear")
    settings.put_default("model.qk_norm", value=False, words="no --qk-layernorm")
    hidden = settings.value_of("model.hidden_size")
    if hidden:
        settings.put_default(
            "model.ffn_hidden_size", 4 * hidden, "4 x hidden_size, no --ffn-hidden-size"
        )
    if not settings.flag("group_query_attention"):
        heads = settings.value_of("model.num_attention_heads")
        settings.put_default("model.num_query_groups", heads, "no --group-query-attention")
    for name in ("attention_dropout", "hidden_dropout"):
        if not settings.has(name):
            flag = f"--{name.replace('_', '-')}"
            settings.not_modelled(
                f"{settings.origin}: no {flag}: Megatron drops 10 %, which is not modelled"
            )
