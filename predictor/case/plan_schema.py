"""The fields of ``[plan]``."""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

from predictor.case.kinds import Choice, Count, Flag, Real, Sequence
from predictor.case.limits import MAX_GPUS, MAX_LAYERS, MAX_STAGES
from predictor.case.section import Section, optional
from predictor.values import frozen

ContextParallelKind = Literal["ring", "all-gather", "ulysses"]
Schedule = Literal["gpipe", "1f1b", "interleaved", "zb-h1", "zb-h2", "zb-1p", "zb-2p", "dualpipe"]
Sharding = Literal["none", "optimizer", "gradients", "parameters"]
MoeDispatcher = Literal["alltoall", "allgather", "hierarchical", "deepep"]
MoeExperts = Literal["sequential", "grouped", "fused", "batched"]
DispatchDtype = Literal["bf16", "fp8"]
CudaGraph = Literal["none", "router", "attention", "iteration"]
AttentionBackend = Literal["cudnn", "flash"]

_DEGREE = Count(MAX_GPUS)


@frozen(kw_only=True)
class Plan(Section):
    """How the work is laid out over the GPUs."""

    path: ClassVar[str] = "plan"

    tensor_parallel: int = optional(_DEGREE, "Ranks that share a layer's matrices.")
    sequence_parallel: bool = optional(
        Flag(), "Norms split along the sequence over the tensor ranks."
    )
    context_parallel: int = optional(_DEGREE, "Ranks that share a sequence.")
    context_parallel_kind: ContextParallelKind = optional(
        Choice(get_args(ContextParallelKind)),
        "How ranks of a sequence see each other's keys and values.",
    )
    pipeline_parallel: int = optional(Count(MAX_STAGES), "Pipeline stages.")
    virtual_pipeline: int = optional(Count(MAX_LAYERS), "Model chunks of a stage.")
    schedule: Schedule = optional(
        Choice(get_args(Schedule)),
        "Order of the micro-batches in the pipeline.",
    )
    layers_per_stage: tuple[int, ...] = optional(
        Sequence(Count(MAX_LAYERS, 0)), "Layers of each stage, or of each of its chunks."
    )
    expert_parallel: int = optional(_DEGREE, "Ranks that share the experts.")
    expert_tensor_parallel: int = optional(_DEGREE, "Ranks that share one expert.")
    data_parallel: int = optional(_DEGREE, "Replicas; follows from the rest.")
    sharding: Sharding = optional(
        Choice(get_args(Sharding)),
        "What the replicas split: ZeRO 0, 1, 2 or 3.",
    )
    sharding_group: int = optional(
        _DEGREE, "Ranks over which the replicas split; absent: all of them."
    )
    moe_dispatcher: MoeDispatcher = optional(
        Choice(get_args(MoeDispatcher)),
        "How tokens travel to their experts.",
    )
    moe_experts: MoeExperts = optional(
        Choice(get_args(MoeExperts)),
        "How a rank runs its experts: one by one, in grouped products, in grouped products that "
        "activate and cast what they write, or padded to one size.",
    )
    moe_dispatch_dtype: DispatchDtype = optional(
        Choice(get_args(DispatchDtype)),
        "Number format of dispatched tokens; combine stays in bf16.",
    )
    moe_compression: float = optional(
        Real(1.0), "What if tokens were compressed: bytes sent over bytes before (LSH-MoE)."
    )
    moe_shared_overlap: bool = optional(
        Flag(), "Shared experts run beside dispatch and combine; absent: as the stack does."
    )
    moe_permute_fusion: bool = optional(
        Flag(), "Tokens are put in their experts' order, and back, by one kernel each."
    )
    overlap_grad_reduce: bool = optional(
        Flag(), "Gradients are reduced during the backward pass; absent: as the stack does."
    )
    overlap_param_gather: bool = optional(
        Flag(), "Parameters are gathered during the forward pass; absent: as the stack does."
    )
    overlap_p2p: bool = optional(
        Flag(), "Pipeline transfers run beside computation; absent: as the stack does."
    )
    tp_overlap: bool = optional(
        Flag(), "Tensor-parallel transfers run beside products; absent: as the stack does."
    )
    moe_overlap: bool = optional(
        Flag(),
        "Dispatch and combine of one micro-batch run beside the computation of another; absent: "
        "as the stack does.",
    )
    cuda_graph: CudaGraph = optional(
        Choice(get_args(CudaGraph)),
        "What CUDA graphs hold: nothing, an expert layer's router and counts, its attention too, "
        "or the whole iteration.",
    )
    attention_backend: AttentionBackend = optional(
        Choice(get_args(AttentionBackend)),
        "Whose kernels attention runs, cuDNN's or FlashAttention-2's; absent: as the stack does.",
    )
