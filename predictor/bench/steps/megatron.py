"""One training step of Megatron-Core's GPT on this process's GPU, among those of its group.

Local layers with PyTorch's scaled dot product attention, gradients in fp32 buffers, AdamW list by
list (``foreach``, what Megatron-Core takes where Apex is missing), experts one after another, their
tokens by all-to-all: what ``megatron-core-local`` stands for. Needs Megatron-Core 0.19, neither
Apex nor Transformer Engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from megatron.core import parallel_state, tensor_parallel
from megatron.core.distributed import (
    DistributedDataParallel,
    DistributedDataParallelConfig,
    finalize_model_grads,
)
from megatron.core.models.gpt import GPTModel
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
from megatron.core.optimizer import OptimizerConfig, get_megatron_optimizer
from megatron.core.pipeline_parallel import get_forward_backward_func
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.module import Float16Module
from megatron.core.transformer.moe.moe_logging import destroy_moe_metrics_tracker
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules

if TYPE_CHECKING:
    from collections.abc import Callable


NORMS = {"rmsnorm": "RMSNorm", "layernorm": "LayerNorm"}
POSITIONS = {"rope": "rope", "learned": "learned_absolute"}


class Attention(torch.nn.Module):  # type: ignore[misc]  # untyped
    """PyTorch's scaled dot product attention in the place of Megatron-Core's core attention."""

    def __init__(self, config: Any, *_: object, **__: object) -> None:  # noqa: ANN401
        """Remember whether queries share keys."""
        super().__init__()
        self.grouped = config.num_query_groups != config.num_attention_heads

    def forward(self, query: Any, key: Any, value: Any, *_: object, **__: object) -> Any:  # noqa: ANN401
        """Attend: (sequence, batch, heads, size) to (sequence, batch, heads * size)."""
        q, k, v = (each.permute(1, 2, 0, 3) for each in (query, key, value))
        context = torch.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=True, enable_gqa=self.grouped
        )
        return context.permute(2, 0, 1, 3).flatten(2)


def norm(config: Any, hidden_size: int, eps: float, **_: object) -> Any:  # noqa: ANN401 - torch's
    """Make PyTorch's norm, whose gradients sequence parallelism sums over tensor-parallel ranks.

    Megatron-Core's own local norm refuses sequence parallelism.
    """
    kind = torch.nn.RMSNorm if config.normalization == "RMSNorm" else torch.nn.LayerNorm
    module = kind(hidden_size, eps=eps)
    for parameter in module.parameters():
        parameter.sequence_parallel = config.sequence_parallel
    return module


@dataclass(frozen=True, slots=True)
class Built:
    """A rank's share of a model, ready to train.

    Attributes:
        config: Megatron-Core's.
        models: The rank's chunks of layers.
        optimizer: Over all of them.
    """

    config: TransformerConfig
    models: list[Any]
    optimizer: Any


def built(step: dict[str, Any]) -> Built:
    """Build the model and its optimizer on a process group that exists.

    Args:
        step: ``model``, ``batch`` (of a micro-batch), ``seq_length``; and, where not one,
            ``micro_batches`` and the degrees and overlaps of ``plan``.
    """
    plan: dict[str, Any] = step.get("plan", {})
    chunks = plan.get("virtual_pipeline", 1)
    parallel_state.destroy_model_parallel()
    destroy_moe_metrics_tracker()  # holds a slot for each layer of the model before
    parallel_state.initialize_model_parallel(
        tensor_model_parallel_size=plan.get("tensor_parallel", 1),
        pipeline_model_parallel_size=plan.get("pipeline_parallel", 1),
        virtual_pipeline_model_parallel_size=chunks if chunks > 1 else None,
        expert_model_parallel_size=plan.get("expert_parallel", 1),
        expert_tensor_parallel_size=plan.get("expert_tensor_parallel", 1),
        create_gloo_process_groups=False,
    )
    tensor_parallel.model_parallel_cuda_manual_seed(1)
    config = _config(step["model"], plan)
    sharded = plan.get("sharding") == "optimizer"
    ddp = DistributedDataParallelConfig(
        grad_reduce_in_fp32=True,
        overlap_grad_reduce=bool(plan.get("overlap_grad_reduce")),
        use_distributed_optimizer=sharded,
    )
    models = [
        DistributedDataParallel(config, ddp, _chunk(step, config, chunk, chunks))
        for chunk in range(chunks)
    ]
    optimizer = get_megatron_optimizer(
        OptimizerConfig(
            lr=1e-4, bf16=True, params_dtype=torch.bfloat16, use_distributed_optimizer=sharded
        ),
        models,
        use_gloo_process_groups=False,
    )
    config.finalize_model_grads_func = finalize_model_grads
    config.grad_scale_func = optimizer.scale_loss
    if plan.get("overlap_grad_reduce"):
        (config.no_sync_func,) = (model.no_sync for model in models)
    return Built(config, models, optimizer)


def megatron_iteration(step: dict[str, Any]) -> Callable[[], None]:
    """All micro-batches of a rank, gradient reduction and AdamW, of a step as ``built`` takes."""
    mine = built(step)
    many = len(mine.models) > 1
    tokens, places = inputs(step)
    run = partial(
        get_forward_backward_func(),
        forward_step_func=lambda _, part: (
            part(tokens, places, None, labels=tokens),
            lambda losses: (losses.mean(), {}),
        ),
        data_iterator=[None] * len(mine.models) if many else None,
        model=mine.models if many else mine.models[0],
        num_microbatches=step.get("micro_batches", 1),
        seq_length=step["seq_length"],
        micro_batch_size=step["batch"],
    )

    def iteration() -> None:
        forget(mine)
        run()
        mine.optimizer.step()

    return iteration


def inputs(step: dict[str, Any]) -> tuple[Any, Any]:
    """Random tokens of a micro-batch and their places in the sequence."""
    size = (step["batch"], step["seq_length"])
    tokens = torch.randint(0, step["model"]["vocab_size"], size, device="cuda")
    return tokens, torch.arange(step["seq_length"], device="cuda").expand_as(tokens)


def forget(mine: Built) -> None:
    """Clear gradients and their buffers."""
    for model in mine.models:
        model.zero_grad_buffer()
    mine.optimizer.zero_grad()


def _config(shape: dict[str, Any], plan: dict[str, Any]) -> TransformerConfig:
    moe = shape.get("moe")
    experts: dict[str, Any] = {}
    if moe:
        experts = {
            "num_moe_experts": moe["num_experts"],
            "moe_router_topk": moe["top_k"],
            "moe_ffn_hidden_size": moe["expert_ffn_hidden_size"],
            "moe_token_dispatcher_type": "alltoall",
            "moe_router_load_balancing_type": "aux_loss",
            "moe_aux_loss_coeff": 0.01,
            "expert_model_parallel_size": plan.get("expert_parallel", 1),
            "expert_tensor_parallel_size": plan.get("expert_tensor_parallel", 1),
        }
    chunks = plan.get("virtual_pipeline", 1)
    gated = shape["gated_mlp"]
    return TransformerConfig(
        num_layers=shape["num_layers"],
        hidden_size=shape["hidden_size"],
        ffn_hidden_size=shape["ffn_hidden_size"],
        num_attention_heads=shape["num_attention_heads"],
        num_query_groups=shape["num_query_groups"],
        kv_channels=shape["head_dim"],
        gated_linear_unit=gated,
        activation_func=torch.nn.functional.silu if gated else torch.nn.functional.gelu,
        normalization=NORMS[shape["normalization"]],
        qk_layernorm=bool(shape.get("qk_norm")),
        add_bias_linear=False,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        bias_dropout_fusion=True,
        bias_activation_fusion=gated,
        masked_softmax_fusion=False,
        gradient_accumulation_fusion=False,
        apply_rope_fusion=False,
        persist_layer_norm=False,
        bf16=True,
        params_dtype=torch.bfloat16,
        pipeline_dtype=torch.bfloat16,
        tensor_model_parallel_size=plan.get("tensor_parallel", 1),
        sequence_parallel=bool(plan.get("sequence_parallel")),
        pipeline_model_parallel_size=plan.get("pipeline_parallel", 1),
        virtual_pipeline_model_parallel_size=chunks if chunks > 1 else None,
        deallocate_pipeline_outputs=True,
        **experts,
    )


def _chunk(
    step: dict[str, Any],
    config: TransformerConfig,
    chunk: int,
    chunks: int,
) -> Any:  # noqa: ANN401 - Megatron's
    """One of the rank's chunks of layers."""
    shape = step["model"]
    moe = shape.get("moe")
    spec = get_gpt_layer_local_spec(
        num_experts=moe["num_experts"] if moe else None,
        qk_layernorm=config.qk_layernorm,
        normalization=config.normalization,
    )
    layer, attention = spec.submodules, spec.submodules.self_attention.submodules
    attention.core_attention = Attention
    layer.input_layernorm = layer.pre_mlp_layernorm = norm
    if config.qk_layernorm:
        attention.q_layernorm = attention.k_layernorm = norm
    held = shape["num_layers"] // chunks // parallel_state.get_pipeline_model_parallel_world_size()
    place = {"ignore_virtual": False, "vp_stage": chunk} if chunks > 1 else {}
    model = GPTModel(
        config=config,
        transformer_layer_spec=TransformerBlockSubmodules([spec] * held, norm),
        vocab_size=shape["vocab_size"],
        max_sequence_length=step["seq_length"],
        pre_process=parallel_state.is_pipeline_first_stage(**place),
        post_process=parallel_state.is_pipeline_last_stage(**place),
        share_embeddings_and_output_weights=shape["tied_embeddings"],
        position_embedding_type=POSITIONS[shape["position_embedding"]],
        vp_stage=chunk if chunks > 1 else None,
    )
    return Float16Module(config, model.cuda())
