"""Megatron's settings as fields of a case, whoever writes them: arguments, recipes or exports.

Names are those of Megatron-Core's configuration classes (core 0.12 to 0.16, and Megatron-Bridge's
copies of them); each dialect translates its own names first. Read in Megatron-LM
``training/arguments.py`` at 000c4ac (2025-10), Megatron-Bridge at a9497c6.
"""

from __future__ import annotations

import ast
import re
from typing import Any

from predictor.case.importers.found import OFF, Draft, Settings
from predictor.case.schema import MAX_LAYERS

COUNTS = {
    "num_layers": "model.num_layers",
    "hidden_size": "model.hidden_size",
    "ffn_hidden_size": "model.ffn_hidden_size",
    "num_attention_heads": "model.num_attention_heads",
    "num_query_groups": "model.num_query_groups",
    "kv_channels": "model.head_dim",
    "vocab_size": "model.vocab_size",
    "max_position_embeddings": "model.max_position_embeddings",
    "mtp_num_layers": "model.mtp_num_layers",
    "seq_length": "training.seq_length",
    "micro_batch_size": "training.micro_batch_size",
    "global_batch_size": "training.global_batch_size",
    "tensor_model_parallel_size": "plan.tensor_parallel",
    "pipeline_model_parallel_size": "plan.pipeline_parallel",
    "context_parallel_size": "plan.context_parallel",
    "virtual_pipeline_model_parallel_size": "plan.virtual_pipeline",
    "expert_model_parallel_size": "plan.expert_parallel",
    "expert_tensor_parallel_size": "plan.expert_tensor_parallel",
}
FLAGS = {
    "qk_layernorm": "model.qk_norm",
    "share_embeddings_and_output_weights": "model.tied_embeddings",
    "sequence_parallel": "plan.sequence_parallel",
    "overlap_grad_reduce": "plan.overlap_grad_reduce",
    "overlap_param_gather": "plan.overlap_param_gather",
    "tp_comm_overlap": "plan.tp_overlap",
    "overlap_moe_expert_parallel_comm": "plan.moe_overlap",
    "moe_shared_expert_overlap": "plan.moe_shared_overlap",
}
EXPERT_COUNTS = {
    "num_moe_experts": "model.moe.num_experts",
    "moe_router_topk": "model.moe.top_k",
    "moe_router_num_groups": "model.moe.routing_groups",
    "moe_router_group_topk": "model.moe.groups_per_token",
    "moe_ffn_hidden_size": "model.moe.expert_ffn_hidden_size",
    "moe_shared_expert_intermediate_size": "model.moe.shared_expert_ffn_hidden_size",
}
LATENT_COUNTS = {
    "q_lora_rank": "model.mla.q_lora_rank",
    "kv_lora_rank": "model.mla.kv_lora_rank",
    "qk_head_dim": "model.mla.qk_nope_head_dim",
    "qk_pos_emb_head_dim": "model.mla.qk_rope_head_dim",
    "v_head_dim": "model.mla.v_head_dim",
}
_POSITIONS = {
    "learned_absolute": "learned",
    "rope": "rope",
    "yarn": "rope",
    "mrope": "rope",
    "alibi": "alibi",
    "none": "none",
}
_SHARDED = {
    "no_shard": "none",
    "optim": "optimizer",
    "optim_grads": "gradients",
    "optim_grads_params": "parameters",
}
_DISPATCHERS = {"alltoall": "alltoall", "alltoall_seq": "alltoall", "allgather": "allgather"}
_CONTEXTS = {"p2p": "ring", "a2a": "ulysses", "allgather": "all-gather", "all_gather": "all-gather"}
_ACTIVATIONS = (
    ("squared_relu", "squared-relu"),
    ("relu2", "squared-relu"),
    ("swiglu", "silu"),
    ("geglu", "gelu"),
    ("reglu", "relu"),
    ("silu", "silu"),
    ("swish", "silu"),
    ("gelu", "gelu"),
    ("relu", "relu"),
)

# Settings that are on unless a file turns them off: on says nothing, off is not modelled.
_ON = frozenset(
    (
        "apply_rope_fusion",
        "async_tensor_model_parallel_allreduce",
        "average_in_collective",
        "barrier_with_l1_time",
        "batch_p2p_comm",
        "batch_p2p_sync",
        "bias_activation_fusion",
        "bias_dropout_fusion",
        "bias_gelu_fusion",
        "bias_swiglu_fusion",
        "fp8_wgrad",
        "gradient_accumulation_fusion",
        "masked_softmax_fusion",
        "overlap_p2p_comm",
        "persist_layer_norm",
        "scatter_gather_tensors_in_pipeline",
        "tp_comm_bulk_dgrad",
        "tp_comm_bulk_wgrad",
        "tp_comm_overlap_ag",
        "tp_comm_overlap_rs",
        "tp_comm_split_ag",
        "tp_comm_split_rs",
        "torch_fsdp2_reshard_after_forward",
    )
)
_NOTHING = frozenset({"none", "null", "vanilla", "false", "no_shard"})
# What changes neither the time nor the memory of an iteration, by the beginning of its name.
_FREE = re.compile(
    r"""(
    _target_|_args_|_partial_|_call_|exp_manager|checkpoint|ckpt|dist_ckpt|distrib_optim_fully|save
    |load|no_load|no_save|load_|finetune|pretrained_checkpoint|use_checkpoint|use_dist_ckpt|async_save
    |use_persistent_ckpt|use_mp_args|use_tokenizer|non_persistent|auto_detect_ckpt|exit_|replication
    |fully_parallel|storage_writers|most_recent_k|custom_manager|strict_fsdp
    |log|logger|logging|tensorboard|wandb|mlflow|comet|timing_log_option|one_logger|enable_one_logger
    |app_tag|config_logger|barrier_with_l1|report_|throughput_window|filter_warnings|skip_train_metrics
    |profile|profiling|nsys|use_nsys|use_pytorch_profiler|record_|memory_snapshot|nvtx|straggler
    |run_workload|ft_|ft$|enable_ft|calc_ft|inprocess|rerun|error_injection|result_rejected
    |iterations_to_skip|adlr_|autoresume|disable_straggler|nvrx|tensor_inspect
    |eval|val_|valid|test_|full_validation|multiple_validation|skip_train|limit_|max_steps|max_epochs
    |train_iters|train_samples|train_sync|data_|dataset|dataloader|blend|split|splits|mock|mid_level
    |num_workers|num_dataset|mmap|reset_position|eod_mask|create_attention_mask|object_storage
    |path_to_cache|persistent_workers|pin_memory|drop_last|random_seed|allow_ambiguous|token_dtype
    |defer_npy|fast_cache|add_extra_token|sequences_per|index_mapping|skip_warmup|shuffle|train_data
    |tokenizer|tiktoken|vocab_file|merge_file|vocab_extra|trust_remote|legacy_tokenizer|sample_rate
    |mask_prob|short_seq|hf_model_id|seed|rng|te_rng|inference|data_parallel_random_init|init_method
    |embedding_init|output_layer_init|init_model|perform_initialization|use_cpu_init|no_initialization
    |lr|min_lr|decoupled|warmup|scheduler|sched|override_opt|weight_decay|start_weight|end_weight|wd_
    |adam_|sgd_|muon_|lion_|betas|eps$|clip_grad|gradient_clip|apply_wd|do_layer_norm_weight|optim_lr
    |loss_scale|initial_loss|min_loss|hysteresis|native_amp|check_for_spiky|check_for_large|spiky
    |norm_epsilon|layernorm_epsilon|layernorm_zero|apply_layernorm_1p|rotary_|rope_|use_rope_scaling
    |seq_len_interp|original_max_position|yarn|mscale|beta_fast|beta_slow|softmax_scale
    |attention_softmax_in_fp32|apply_query_key|normalize_attention|use_scaled_init|mtp_loss
    |fp8_margin|fp8_interval|fp8_amax|fp8_quantizer|fp4_quantizer|fp4_recipe|amax_|moe_aux|moe_z
    |moe_router_(load|pre|score|topk_|enable_expert_bias|bias_update|dtype
        |force|padding)|moe_token_drop|moe_per_layer|moe_upcycling|moe_use_upcycling
    |moe_deepep_num|moe_hybridep|moe_input_jitter|distributed_backend|distributed_timeout|local_rank
    |lazy_mpu|use_gloo|disable_gloo|enable_gloo|external_gpu|flight_recorder|high_priority
    |nccl_communicator|use_tp_pp_dp|use_decentralized|manual_gc|gc_|enable_experimental
    |enable_megatron_core_exp|deprecated|use_mcore|mcore_gpt|mcore|transformer_engine|transformer_layer_spec|spec$|test_mode|name$|description|restore_from|resume
    |accelerator|benchmark|enable_(checkpointing|model_summary|progress)|num_sanity|replace_sampler|use_distributed_sampler|callbacks
    |log_every|accumulate_grad_batches|pre_process|post_process|onnx|apex_|should_pad
    |parallel_output|kitchen|mamba|hetereogenous|retro|bert_|img_|vision|mup_|linear_(conv|key|num|value)
    |softmax_type|cpu_offloading_(activations|weights|retain|double)|min_offloaded|microbatch_group
    |deallocate|clone_scatter|variable_seq|fp8_multi|fp8_dot|num_layers_at_(start|end)_in_bf16
    |disable_msc|legacy|enable_msc|empty_cuda|calculate_per_token_loss|decrease_batch
    |check_weight_hash|check_optimizer|skip_sync_grad|timers|.*_func$|tp_comm_bootstrap|disable_jit
    |optimizer_config_override|env_vars|pipeline_dtype|params_dtype|autocast|use_flash_attn
    |cuda_graph_(warmup|scope|retain|use_single)|align_|bucket_size|ddp_|gradient_reduce_div
    |gradient_as_bucket|grad_div_ar|grad_allreduce_chunk|contiguous_grad|pad_buckets|wgrad_deferral
    |suggested_comm|tp_comm_overlap_cfg|sharp_enabled|qk_clip_|attention_type|rotary_percentage
    |use_te_rng|use_legacy_static|master_|node_rank|rdzv|nproc|nnodes|no_python|tee|role|max_restarts
    |scatter_embedding|use_mamba_mem|fsdp_all_gather_in|megatron_fsdp_main_params|monitor|redirects|standalone|hostfile|run_path|start_method|nproc_per_node|moe_extended_tp
    )""",
    re.VERBOSE,
)


def is_free(name: str, value: object) -> bool:
    """Whether a setting that nobody read changes nothing that is counted."""
    leaf = name.rpartition(".")[2].lower()
    if leaf in _ON:
        return value is True or value in OFF[:1]
    parts = name.lower().split(".")
    return value in OFF or str(value).lower() in _NOTHING or any(map(_FREE.match, parts))


def read_fields(settings: Settings) -> None:
    """Put every field that Megatron's settings tell."""
    settings.put_counts(COUNTS)
    settings.put_flags(FLAGS)
    if settings.value_of("plan.tensor_parallel") == 1 and settings.flag("sequence_parallel"):
        settings.put("plan.sequence_parallel", value=False, name="tensor_model_parallel_size")
    _read_shape(settings)
    _read_experts(settings)
    _read_latent(settings)
    _read_numbers(settings)
    _read_recompute(settings)
    _read_sharding(settings)
    _read_pipeline(settings)
    _read_context(settings)
    for name in ("attention_dropout", "hidden_dropout", "ffn_dropout"):
        if settings.real(name):
            settings.not_modelled(
                f"{settings.where(name)} = {settings.raw(name)}: no dropout is modelled"
            )
    settings.unmodelled("optimizer", unless=(*OFF, "adam", "adamw"))
    settings.unmodelled("attention_backend", unless=(*OFF, "auto", "fused", "flash"))
    multiple = settings.count("make_vocab_size_divisible_by")
    if multiple is not None and (settings.value_of("model.vocab_size") or 0) % multiple:
        settings.unmodelled("make_vocab_size_divisible_by", unless=(128, "128"))
    kinds = {"transformer_engine": "megatron-core-te", "local": "megatron-core-local"}
    kind = settings.word("transformer_impl", kinds)
    settings.put("implementation", kind, "transformer_impl")


def _read_shape(settings: Settings) -> None:
    gated = settings.flag("gated_linear_unit")
    if gated is not None:
        settings.put("model.gated_mlp", gated, "gated_linear_unit")
    if settings.has("activation_func"):
        words = str(settings.raw("activation_func")).lower().replace("-", "_")
        known = next((ours for theirs, ours in _ACTIVATIONS if theirs in words), None)
        if known is None:
            raise settings.fail("activation_func", "is not an activation that is read")
        settings.put("model.activation", known, "activation_func")
    norms = {"LayerNorm": "layernorm", "RMSNorm": "rmsnorm", "layernorm1p": "layernorm"}
    norm = settings.word("normalization", norms)
    if norm is not None:
        settings.put("model.normalization", norm, "normalization")
    position = settings.word("position_embedding_type", _POSITIONS)
    if position is not None:
        settings.put("model.position_embedding", position, "position_embedding_type")
    if settings.has("add_bias_linear"):
        every, of_qkv = settings.flag("add_bias_linear"), settings.flag("add_qkv_bias")
        bias = "all" if every else "qkv" if of_qkv else "none"
        settings.put("model.linear_bias", bias, "add_bias_linear")
    if settings.has("window_size"):
        left = _integers(settings.raw("window_size"))
        if not left:
            raise settings.fail("window_size", "must be a pair of whole numbers")
        settings.put("model.attention_window", left[0] + 1, "window_size")
        if isinstance(settings.raw("window_attn_skip_freq"), str | int):
            frequency = settings.count("window_attn_skip_freq")
            settings.put("model.full_attention_frequency", frequency, "window_attn_skip_freq")


def _integers(value: object) -> list[int]:
    words = value if isinstance(value, list | tuple) else re.findall(r"-?\d{1,9}", str(value))
    return [int(word) for word in words]


def _read_experts(settings: Settings) -> None:
    names = (*EXPERT_COUNTS, "moe_token_dispatcher_type", "moe_grouped_gemm", "moe_layer_freq")
    if not settings.count("num_moe_experts"):
        for name in names:
            settings.has(name)  # without experts, none of them says anything
        return
    settings.put_counts(EXPERT_COUNTS)
    settings.put_default("model.moe.top_k", 2, "Megatron's default of moe_router_topk")
    settings.derive(
        "model.moe.expert_ffn_hidden_size",
        lambda draft: draft.get("model.ffn_hidden_size"),
        "ffn_hidden_size, as Megatron without moe_ffn_hidden_size",
    )
    if settings.value_of("model.moe.shared_expert_ffn_hidden_size"):
        settings.put_default("model.moe.num_shared_experts", 1, "its shared experts are one")
    _read_placing(settings)
    capacity = settings.real("moe_expert_capacity_factor")
    settings.put("model.moe.capacity_factor", capacity, "moe_expert_capacity_factor")
    if settings.flag("moe_pad_expert_input_to_capacity"):
        settings.put(
            "model.moe.pad_to_capacity", value=True, name="moe_pad_expert_input_to_capacity"
        )
    deep = settings.flag("moe_enable_deepep") or settings.has("moe_flex_dispatcher_backend")
    flex = {"flex": "deepep"} if deep else {"flex": "alltoall"}
    dispatcher = settings.word("moe_token_dispatcher_type", {**_DISPATCHERS, **flex})
    settings.put("plan.moe_dispatcher", dispatcher, "moe_token_dispatcher_type")
    grouped = settings.flag("moe_grouped_gemm")
    if grouped is not None:
        kind = "grouped" if grouped else "sequential"
        settings.put("plan.moe_experts", kind, "moe_grouped_gemm")


def _read_placing(settings: Settings) -> None:
    """Which layers have experts: every so many, or a pattern of ones and zeros."""
    value = settings.raw("moe_layer_freq")
    if value is None:
        return
    pattern = pattern_of(value)
    if pattern is None:
        raise settings.fail("moe_layer_freq", "must be a number or a pattern as ([0]*3+[1]*58)")
    if isinstance(pattern, int):
        settings.put("model.moe.moe_layer_frequency", pattern, "moe_layer_freq")
        return
    dense = pattern.index(1) if 1 in pattern else len(pattern)
    if pattern != [0] * dense + [1] * (len(pattern) - dense):
        settings.leave_open(
            "model.moe.first_dense_layers",
            "moe_layer_freq mixes layers in a way that a case cannot say; give "
            "--first-dense-layers and --moe-layer-frequency",
        )
        return
    settings.put("model.moe.first_dense_layers", dense, "moe_layer_freq")


def pattern_of(value: object) -> list[int] | int | None:
    """A frequency, or what lists, sums and products of them stand for; None if neither."""
    if isinstance(value, list):
        return value if all(each in (0, 1) for each in value) else None
    text = str(value).strip()
    if re.fullmatch(r"\d{1,5}", text):
        return int(text) or None
    if not re.fullmatch(r"[\d\s()\[\],+*]{1,500}", text):
        return None
    try:
        found = _evaluated(ast.parse(text, mode="eval").body)
    except (SyntaxError, RecursionError, MemoryError, ValueError, TypeError):
        return None
    return found if isinstance(found, list) and all(each in (0, 1) for each in found) else None


def _evaluated(node: ast.expr) -> Any:  # noqa: ANN401 - a number or a list of them
    """Numbers, lists, ``+`` and ``*`` alone; nothing grows beyond the layers of a model."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int) and node.value <= MAX_LAYERS:
        return node.value
    if isinstance(node, ast.List):
        return [_evaluated(each) for each in node.elts]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mult):
        left, right = _evaluated(node.left), _evaluated(node.right)
        if isinstance(node.op, ast.Add) and isinstance(left, list) and isinstance(right, list):
            return [*left, *right][: MAX_LAYERS + 1]
        if isinstance(left, list) and isinstance(right, int) and len(left) * right <= MAX_LAYERS:
            return left * right
    raise ValueError


def _read_latent(settings: Settings) -> None:
    if not settings.flag("multi_latent_attention"):
        for name in LATENT_COUNTS:
            settings.has(name)
        return
    settings.put_counts(LATENT_COUNTS)
    for path, value in (
        ("kv_lora_rank", 32),
        ("qk_nope_head_dim", 128),
        ("qk_rope_head_dim", 64),
        ("v_head_dim", 128),
    ):
        settings.put_default(f"model.mla.{path}", value, "Megatron's default")
    nope, rope = (settings.value_of(f"model.mla.qk_{part}_head_dim") for part in ("nope", "rope"))
    settings.put("model.head_dim", nope + rope, "multi_latent_attention")


def _read_numbers(settings: Settings) -> None:
    """Number formats of products, gradients and weights."""
    half, brain = settings.flag("fp16"), settings.flag("bf16")
    if half and brain:
        raise settings.fail("fp16", "cannot stand beside bf16")
    words = {"tensorwise": "tensorwise", "delayed": "delayed", "mxfp8": "mxfp8"}
    recipe = settings.word("fp8_recipe", {**words, "blockwise": "blockwise", "custom": "custom"})
    small = settings.raw("fp8")
    if settings.raw("fp4") not in OFF:
        settings.put("training.precision", "nvfp4", "fp4")
    elif small not in OFF:
        settings.put("training.precision", "mxfp8" if recipe == "mxfp8" else "fp8", "fp8")
        name = "fp8_recipe" if recipe else "fp8"
        settings.put("training.fp8_recipe", recipe or "delayed", name)
    elif brain or half:
        settings.put("training.precision", "bf16" if brain else "fp16", "bf16" if brain else "fp16")
    if settings.has("grad_reduce_in_fp32"):
        wide = settings.flag("grad_reduce_in_fp32")
        narrow = "fp16" if half else "bf16"
        settings.put("training.gradient_dtype", "fp32" if wide else narrow, "grad_reduce_in_fp32")


def _read_recompute(settings: Settings) -> None:
    kinds = {"full": "full", "selective": "selective", "none": "none"}
    kind = settings.word("recompute_granularity", kinds)
    method = settings.word("recompute_method", {"uniform": "uniform", "block": "block"})
    layers = settings.count("recompute_num_layers")
    settings.put("training.recompute", kind, "recompute_granularity")
    modules = settings.raw("recompute_modules")
    if kind == "selective" and modules not in (*OFF, "core_attn", ["core_attn"]):
        settings.not_modelled(
            f"{settings.where('recompute_modules')} = {modules}: selective recomputation is that "
            "of attention's core alone"
        )
    if kind != "full":
        return
    if method == "block":
        settings.put("training.recompute_layers", layers, "recompute_num_layers")
    elif layers is not None and layers > 1:
        settings.not_modelled(
            f"{settings.where('recompute_num_layers')} = {layers}: every layer is kept as a block "
            "of its own"
        )


def _read_sharding(settings: Settings) -> None:
    distributed = settings.flag("use_distributed_optimizer")
    if settings.flag("use_torch_fsdp2"):
        kept = settings.flag("torch_fsdp2_reshard_after_forward") is False
        settings.put("plan.sharding", "gradients" if kept else "parameters", "use_torch_fsdp2")
    elif settings.flag("use_megatron_fsdp") or settings.flag("use_custom_fsdp"):
        kind = settings.word("data_parallel_sharding_strategy", _SHARDED) or "parameters"
        name = "use_megatron_fsdp" if settings.has("use_megatron_fsdp") else "use_custom_fsdp"
        settings.put("plan.sharding", kind, name)
    else:
        settings.has("data_parallel_sharding_strategy")  # nothing without Megatron-FSDP
        if distributed is not None:
            kind = "optimizer" if distributed else "none"
            settings.put("plan.sharding", kind, "use_distributed_optimizer")
    copies = settings.count("num_distributed_optimizer_instances") or 1
    if copies > 1:
        settings.derive(
            "plan.sharding_group",
            lambda draft: _replicas(draft, beside=copies),
            f"replicas over num_distributed_optimizer_instances = {copies}",
        )


def _replicas(draft: Draft, *, beside: int = 1) -> int | None:
    """Ranks of the data and context parallel group, over ``beside``, where the job is known."""
    gpus = draft.get("cluster.num_gpus")
    if not isinstance(gpus, int):
        return None
    ranks = (draft.get("plan.tensor_parallel") or 1) * (draft.get("plan.pipeline_parallel") or 1)
    return gpus // ranks // beside or None


def data_parallel_of(draft: Draft) -> int | None:
    """Replicas of the model, where the size of the job is known."""
    ranks = _replicas(draft)
    return None if ranks is None else ranks // (draft.get("plan.context_parallel") or 1) or None


def _read_pipeline(settings: Settings) -> None:
    stages, layers = (
        settings.value_of("plan.pipeline_parallel"),
        settings.value_of("model.num_layers"),
    )
    per_chunk = settings.count("num_layers_per_virtual_pipeline_stage")
    if per_chunk and stages and layers:
        if layers % (stages * per_chunk):
            rule = f"times the stages ({stages}) must divide num_layers ({layers})"
            raise settings.fail("num_layers_per_virtual_pipeline_stage", rule)
        chunks = layers // stages // per_chunk
        settings.put("plan.virtual_pipeline", chunks, "num_layers_per_virtual_pipeline_stage")
    chunks = settings.value_of("plan.virtual_pipeline") or 1
    if chunks > 1 and settings.has("overlap_p2p_comm"):
        settings.put("plan.overlap_p2p", settings.flag("overlap_p2p_comm"), "overlap_p2p_comm")
    _read_uneven(settings, stages, layers, chunks)


def _read_uneven(settings: Settings, stages: int | None, layers: int | None, chunks: int) -> None:
    """Layers of each stage where the first or the last has another count than the rest."""
    counted = (
        settings.flag("account_for_embedding_in_pipeline_split"),
        settings.flag("account_for_loss_in_pipeline_split"),
    )
    if (
        any(counted)
        and stages
        and layers
        and (layers + sum(map(bool, counted))) % (stages * chunks)
    ):
        rule = (
            f"with embedding and loss, {stages * chunks} chunks must divide num_layers ({layers})"
        )
        raise settings.fail("account_for_embedding_in_pipeline_split", rule)
    first = settings.count("num_layers_in_first_pipeline_stage")
    last = settings.count("num_layers_in_last_pipeline_stage")
    if (first is None and last is None) or not stages or not layers or stages < 2:  # noqa: PLR2004
        return
    name = "num_layers_in_first_pipeline_stage"
    name = name if first is not None else "num_layers_in_last_pipeline_stage"
    if chunks > 1:
        settings.not_modelled(f"{settings.where(name)}: not together with virtual stages")
        return
    between = stages - (first is not None) - (last is not None)
    rest = layers - (first or 0) - (last or 0)
    if rest < 0 or (between and rest % between) or (not between and rest):
        raise settings.fail(name, f"leaves {rest} layers for {between} stages")
    middle = [rest // between] * between if between else []
    whole = [
        *([first] if first is not None else []),
        *middle,
        *([last] if last is not None else []),
    ]
    settings.put("plan.layers_per_stage", whole, name)


def _read_context(settings: Settings) -> None:
    kinds = settings.raw("cp_comm_type")
    if kinds in OFF:
        return
    words = [kinds] if isinstance(kinds, str) else list(kinds)
    known = {_CONTEXTS.get(str(word)) for word in words}
    if len(known) == 1 and None not in known:
        settings.put("plan.context_parallel_kind", known.pop(), "cp_comm_type")
    else:
        settings.unmodelled("cp_comm_type")
