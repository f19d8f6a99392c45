"""One training step of Megatron-Core's GPT on one GPU, for the child process alone.

Local layers with PyTorch's scaled dot product attention, gradients in an fp32 buffer, AdamW list by
list (``foreach``, what Megatron-Core takes where Apex is missing): what ``megatron-core-local``
stands for. Needs Megatron-Core 0.19, neither Apex nor Transformer Engine.
"""

from __future__ import annotations

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

if TYPE_CHECKING:
    from collections.abc import Callable


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


def megatron_iteration(step: dict[str, Any]) -> Callable[[], None]:
    """Build the model and its optimizer; return forward, backward and step of one micro-batch."""
    parallel_state.initialize_model_parallel(create_gloo_process_groups=False)
    tensor_parallel.model_parallel_cuda_manual_seed(1)
    config = _config(step["model"])
    ddp = DistributedDataParallelConfig(grad_reduce_in_fp32=True)
    model = DistributedDataParallel(config, ddp, _model(step, config))
    optimizer = get_megatron_optimizer(
        OptimizerConfig(lr=1e-4, bf16=True, params_dtype=torch.bfloat16),
        [model],
        use_gloo_process_groups=False,
    )
    config.finalize_model_grads_func = finalize_model_grads
    config.grad_scale_func = optimizer.scale_loss
    size = (step["batch"], step["seq_length"])
    tokens = torch.randint(0, step["model"]["vocab_size"], size, device="cuda")
    places = torch.arange(step["seq_length"], device="cuda").expand_as(tokens)
    run = partial(
        get_forward_backward_func(),
        forward_step_func=lambda _, part: (
            part(tokens, places, None, labels=tokens),
            lambda losses: (losses.mean(), {}),
        ),
        data_iterator=None,
        model=model,
        num_microbatches=1,
        seq_length=step["seq_length"],
        micro_batch_size=step["batch"],
    )

    def iteration() -> None:
        model.zero_grad_buffer()
        optimizer.zero_grad()
        run()
        optimizer.step()

    return iteration


def _config(shape: dict[str, Any]) -> TransformerConfig:
    return TransformerConfig(
        num_layers=shape["num_layers"],
        hidden_size=shape["hidden_size"],
        ffn_hidden_size=shape["ffn_hidden_size"],
        num_attention_heads=shape["num_attention_heads"],
        num_query_groups=shape["num_query_groups"],
        kv_channels=shape["head_dim"],
        gated_linear_unit=True,
        activation_func=torch.nn.functional.silu,
        normalization="RMSNorm",
        add_bias_linear=False,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        bias_dropout_fusion=True,
        bias_activation_fusion=True,
        masked_softmax_fusion=False,
        gradient_accumulation_fusion=False,
        apply_rope_fusion=False,
        persist_layer_norm=False,
        bf16=True,
        params_dtype=torch.bfloat16,
        pipeline_dtype=torch.bfloat16,
    )


def _model(step: dict[str, Any], config: TransformerConfig) -> Any:  # noqa: ANN401 - Megatron's
    spec = get_gpt_layer_local_spec(normalization="RMSNorm")
    spec.submodules.self_attention.submodules.core_attention = Attention
    model = GPTModel(
        config=config,
        transformer_layer_spec=spec,
        vocab_size=step["model"]["vocab_size"],
        max_sequence_length=step["seq_length"],
        share_embeddings_and_output_weights=step["model"]["tied_embeddings"],
        position_embedding_type="rope",
    )
    return Float16Module(config, model.cuda())
