"""What this version of a stack cannot estimate, by name."""

from collections.abc import Iterator

from predictor.case import HYBRID_RULE, Case, is_hybrid, load_gpu
from predictor.errors import NotPredictable
from predictor.iteration.schedules import SPLIT_BACKWARD
from predictor.iteration.stack import Stack
from predictor.iteration.step import CORE_ATTENTION

Reason = tuple[bool, str]
"""Whether it applies, and its words: the field, its value and what is supported."""


def refuse(case: Case, stack: Stack) -> None:
    """Refuse a resolved case that the stack cannot estimate.

    Raises:
        NotPredictable: With the first reason that applies.
    """
    every = (_of_model, _of_formats, _of_plan, _of_adapters)
    for reasons in (each(case, stack) for each in every):
        for applies, words in reasons:
            if applies:
                raise NotPredictable(words)


def _of_model(case: Case, stack: Stack) -> Iterator[Reason]:
    model, seq_length = case.model, case.training.seq_length
    yield is_hybrid(model.name or ""), f"model {model.name!r} {HYBRID_RULE}"
    yield (
        model.moe is not None and "experts" not in stack.knows,
        f"mixture-of-experts layers are not supported by {stack.name} yet",
    )
    yield (
        model.mla is not None and "latent" not in stack.knows,
        f"latent attention (model.mla) is not supported by {stack.name} yet",
    )
    yield (
        (model.attention_window or seq_length) < seq_length and "windows" not in stack.knows,
        f"sliding-window attention is not supported by {stack.name} yet",
    )
    yield (
        model.position_embedding not in {"rope", "learned"} | stack.knows,
        f"position_embedding {model.position_embedding!r} is not supported yet",
    )


def _of_formats(case: Case, stack: Stack) -> Iterator[Reason]:
    precision, gpu = case.training.precision, case.cluster.gpu
    formats = load_gpu(gpu).peak_flops_per_second
    yield (
        precision != "bf16" and precision not in stack.knows,
        f"precision {precision!r} is not supported yet; bf16 is",
    )
    yield (
        precision in {"fp8", "mxfp8"} and "fp8" not in formats,
        f"precision {precision!r}: {gpu} has no 8-bit products; H100 has",
    )
    yield (
        precision == "nvfp4" and case.model.moe is not None,
        "precision 'nvfp4' with experts is not supported yet; fp8 and mxfp8 are",
    )
    yield (
        precision == "nvfp4" and "fp4" not in formats,
        f"precision 'nvfp4': {gpu} has no 4-bit products; GPUs of Blackwell have",
    )


def _of_adapters(case: Case, stack: Stack) -> Iterator[Reason]:
    model, plan, rank = case.model, case.plan, case.training.adapter_rank
    if rank is None:
        return
    without = f"training.adapter_rank {rank}: LoRA is not supported yet"
    yield (
        "adapters" not in stack.knows,
        f"{without} by {stack.name}, but by megatron-core-te",
    )
    yield (
        any((model.moe, model.mla, model.mtp_num_layers)),
        f"{without} with experts, latent attention or prediction modules; dense layers are",
    )
    yield (
        plan.sharding == "parameters",
        f"{without} with sharding 'parameters'; none and optimizer are",
    )
    yield (
        plan.schedule in SPLIT_BACKWARD,
        f"{without} with schedule {plan.schedule!r}; gpipe, 1f1b and interleaved are",
    )


def _of_plan(case: Case, stack: Stack) -> Iterator[Reason]:
    training, cluster = case.training, case.cluster
    yield (
        len(set(cluster.stage_gpus or ())) > 1,
        "cluster.stage_gpus: only `predictor estimate` and `predictor place` know several",
    )
    yield (
        training.recompute == "custom",
        "recompute 'custom' does not say what is recomputed; give none, selective or full",
    )
    yield (
        training.recompute_modules not in {None, (CORE_ATTENTION,)}
        and "modules" not in stack.knows,
        f"recompute_modules other than {CORE_ATTENTION} are not supported by {stack.name}",
    )
    yield (
        case.plan.attention_backend is not None and "backends" not in stack.knows,
        f"attention_backend: {stack.name} has one of its own; megatron-core-te has a choice",
    )
    yield (
        case.plan.moe_experts == "fused" and training.precision != "mxfp8",
        "moe_experts 'fused': those kernels take precision 'mxfp8'; 'grouped' runs others",
    )
    yield (
        case.plan.context_parallel != 1 and "context" not in stack.knows,
        f"context_parallel above 1 is not supported by {stack.name} yet",
    )
    yield (
        not stack.parallel and cluster.num_gpus > 1,
        f"implementation {case.implementation!r} runs on one GPU, num_gpus is more",
    )
