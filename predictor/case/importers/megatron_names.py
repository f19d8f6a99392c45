"""What Megatron's settings are called, what their words stand for, which change nothing counted.

Names are those of Megatron-Core's configuration classes (core 0.12 to 0.16, and Megatron-Bridge's
copies of them). Read in Megatron-LM ``training/arguments.py`` at 000c4ac (2025-10), Megatron-Bridge
at a9497c6.
"""

import re

from predictor.case.importers.settings import OFF

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
    "moe_permute_fusion": "plan.moe_permute_fusion",
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
POSITIONS = {
    "learned_absolute": "learned",
    "rope": "rope",
    "yarn": "rope",
    "mrope": "rope",
    "alibi": "alibi",
    "none": "none",
}
SHARDED = {
    "no_shard": "none",
    "optim": "optimizer",
    "optim_grads": "gradients",
    "optim_grads_params": "parameters",
}
DISPATCHERS = {"alltoall": "alltoall", "alltoall_seq": "alltoall", "allgather": "allgather"}
CONTEXTS = {"p2p": "ring", "a2a": "ulysses", "allgather": "all-gather", "all_gather": "all-gather"}
ACTIVATIONS = (
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
