"""One training step of Megatron-Core (local layers) or of FSDP2, for ``parallel_steps.py``.

Models are random, bf16 compute; gradients and AdamW states in fp32. Megatron-Core: local layers
with PyTorch's scaled dot product attention, gradient buffers in fp32, AdamW list by list
(``foreach``, what it takes where Apex is missing), experts one after another, tokens by
all-to-all. FSDP2: Hugging Face's model, each layer a unit, fp32 parameters and reduction, fused
AdamW.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.distributed as dist

Step = Callable[[], None]


def fsdp_step(shape: dict[str, Any], training: dict[str, Any], plan: dict[str, Any]) -> Step:
    """Forward, backward and AdamW of a Llama that FSDP2 shards over all ranks."""
    import transformers
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    del plan  # everything is sharded
    config = transformers.LlamaConfig(
        vocab_size=shape["vocab_size"],
        hidden_size=shape["hidden_size"],
        intermediate_size=shape["ffn_hidden_size"],
        num_hidden_layers=shape["num_layers"],
        num_attention_heads=shape["num_attention_heads"],
        num_key_value_heads=shape["num_query_groups"],
        head_dim=shape["head_dim"],
        max_position_embeddings=training["seq_length"],
        tie_word_embeddings=shape["tied_embeddings"],
        use_cache=False,
    )
    config._attn_implementation = "sdpa"  # noqa: SLF001 - the library's own switch
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config)
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for layer in model.model.layers:
        fully_shard(layer, mp_policy=policy)
    fully_shard(model, mp_policy=policy)
    model.to_empty(device="cuda")
    model.tie_weights()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.02)
        for name, buffer in model.named_buffers():
            if name.endswith("inv_freq"):
                places = torch.arange(0, shape["head_dim"], 2, device="cuda") / shape["head_dim"]
                buffer.copy_(10000.0**-places)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    tokens = _tokens(shape, training)

    def step() -> None:
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def megatron_step(shape: dict[str, Any], training: dict[str, Any], plan: dict[str, Any]) -> Step:
    """All micro-batches, gradient reduction and AdamW of Megatron-Core's GPT."""
    from megatron.core import parallel_state, tensor_parallel
    from megatron.core.distributed import (
        DistributedDataParallel,
        DistributedDataParallelConfig,
        finalize_model_grads,
    )
    from megatron.core.optimizer import OptimizerConfig, get_megatron_optimizer
    from megatron.core.pipeline_parallel import get_forward_backward_func

    stages, chunks = plan.get("pipeline_parallel", 1), plan.get("virtual_pipeline", 1)
    parallel_state.destroy_model_parallel()
    parallel_state.initialize_model_parallel(
        tensor_model_parallel_size=plan.get("tensor_parallel", 1),
        pipeline_model_parallel_size=stages,
        virtual_pipeline_model_parallel_size=chunks if chunks > 1 else None,
        expert_model_parallel_size=plan.get("expert_parallel", 1),
        expert_tensor_parallel_size=plan.get("expert_tensor_parallel", 1),
        create_gloo_process_groups=False,
    )
    tensor_parallel.model_parallel_cuda_manual_seed(1)
    config = _transformer_config(shape, plan)
    sharded = plan["sharding"] == "optimizer"
    ddp = DistributedDataParallelConfig(
        grad_reduce_in_fp32=True,
        overlap_grad_reduce=plan["overlap_grad_reduce"],
        use_distributed_optimizer=sharded,
    )
    models = [
        DistributedDataParallel(config, ddp, _chunk(shape, training, config, chunk, chunks))
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
    if plan["overlap_grad_reduce"]:
        (config.no_sync_func,) = (model.no_sync for model in models)
    tokens = _tokens(shape, training)
    places = torch.arange(training["seq_length"], device="cuda").expand_as(tokens)
    batches = training["global_batch_size"] // training["micro_batch_size"]
    run = partial(
        get_forward_backward_func(),
        forward_step_func=lambda _, model: (
            model(tokens, places, None, labels=tokens),
            lambda losses: (losses.mean(), {}),
        ),
        data_iterator=[None] * chunks if chunks > 1 else None,
        model=models if chunks > 1 else models[0],
        num_microbatches=batches // parallel_state.get_data_parallel_world_size(),
        seq_length=training["seq_length"],
        micro_batch_size=training["micro_batch_size"],
    )

    def step() -> None:
        for model in models:
            model.zero_grad_buffer()
        optimizer.zero_grad()
        run()
        optimizer.step()

    return step


def _transformer_config(shape: dict[str, Any], plan: dict[str, Any]) -> Any:  # noqa: ANN401
    from megatron.core.transformer import TransformerConfig

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
        qk_layernorm=shape["qk_norm"],
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
        tensor_model_parallel_size=plan.get("tensor_parallel", 1),
        pipeline_model_parallel_size=plan.get("pipeline_parallel", 1),
        virtual_pipeline_model_parallel_size=chunks if chunks > 1 else None,
        deallocate_pipeline_outputs=True,
        **experts,
    )


def _chunk(
    shape: dict[str, Any],
    training: dict[str, Any],
    config: Any,  # noqa: ANN401 - Megatron's
    chunk: int,
    chunks: int,
) -> torch.nn.Module:
    from megatron.core import parallel_state
    from megatron.core.models.gpt import GPTModel
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
    from megatron.core.transformer.module import Float16Module

    from predictor.bench.steps.megatron import Attention

    moe = shape.get("moe")
    spec = get_gpt_layer_local_spec(
        num_experts=moe["num_experts"] if moe else None,
        qk_layernorm=shape["qk_norm"],
        normalization="RMSNorm",
    )
    spec.submodules.self_attention.submodules.core_attention = Attention
    place = {"ignore_virtual": False, "vp_stage": chunk} if chunks > 1 else {}
    model = GPTModel(
        config=config,
        transformer_layer_spec=spec,
        vocab_size=shape["vocab_size"],
        max_sequence_length=training["seq_length"],
        pre_process=parallel_state.is_pipeline_first_stage(**place),
        post_process=parallel_state.is_pipeline_last_stage(**place),
        share_embeddings_and_output_weights=shape["tied_embeddings"],
        position_embedding_type="rope",
        vp_stage=chunk if chunks > 1 else None,
    )
    return Float16Module(config, model.cuda())


def _tokens(shape: dict[str, Any], training: dict[str, Any]) -> torch.Tensor:
    size = (training["micro_batch_size"], training["seq_length"])
    torch.manual_seed(dist.get_rank())
    return torch.randint(0, shape["vocab_size"], size, device="cuda")
