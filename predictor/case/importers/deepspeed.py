"""A DeepSpeed JSON as fields of a case; the model comes from elsewhere.

Read in DeepSpeed's documentation, "DeepSpeed Configuration JSON" (docs/_pages/config-json.md).
"""

from __future__ import annotations

import re

from predictor.case.importers.files import flattened, parse
from predictor.case.importers.found import Draft, Imported, ranks_of
from predictor.case.importers.settings import OFF, Setting, Settings
from predictor.errors import CaseError

FORM = "deepspeed"
TAKEN_AS = "hf-fsdp2"

KEYS = frozenset(
    (
        "zero_optimization",
        "train_batch_size",
        "train_micro_batch_size_per_gpu",
        "fp16",
        "bf16",
        "gradient_accumulation_steps",
        "zero_allow_untested_optimizer",
        "gradient_clipping",
    )
)
"""Keys at the top by which a file is known."""

_STAGES = ("none", "optimizer", "gradients", "parameters")
_FREE = re.compile(
    r"""optimizer\.(params|type)|scheduler\.|steps_per_print|wall_clock_breakdown|dump_state|tensorboard
    |wandb|comet|csv_monitor|flops_profiler|autotuning|comms_logger|monitor_config|checkpoint\b
    |checkpoint\.|elasticity|data_efficiency|curriculum|seed|gradient_clipping|prescale_gradients
    |gradient_predivide_factor|zero_allow|zero_force|memory_breakdown|dataloader|disable_allgather
    |load_universal|compression_training\.$|(fp16|bf16)\.(loss|initial|hysteresis|min_loss|auto_cast
    |consecutive|check_grad|immediate)|zero_optimization\.(allgather|reduce_(scatter|bucket)
    |contiguous|stage3_|sub_group|round_robin|ignore_unused|elastic|load_from|legacy|memory_efficient
    |gather_16bit|grad_hooks|param_persist|model_persist|prefetch|max_live|max_reuse|module_granularity
    |log_trace|use_all_reduce)|communication_data_type|fp32_allreduce|sparse_gradients|graph_harvesting
    |use_node_local|eigenvalue|hybrid_engine|nebula|aio\.|amp\.""",
    re.VERBOSE,
)


def read_deepspeed(origin: str, text: str) -> Imported:
    """Read a configuration.

    Raises:
        CaseError: It is damaged, or a value is not legal.
    """
    found = flattened(origin, text, parse(origin, text, "json"))
    autos = [name for name, setting in found.items() if setting.value == "auto"]
    known = {n: (Setting(None, s.shown, s.line) if n in autos else s) for n, s in found.items()}
    settings = Settings(origin, FORM, known)
    for name in autos:
        if not _FREE.match(name):
            settings.not_modelled(
                f"{settings.where(name)} = 'auto': the trainer decides; give a flag"
            )
    settings.put_default("implementation", TAKEN_AS, "a configuration of DeepSpeed")
    settings.not_modelled(
        f"{origin}: DeepSpeed around Hugging Face's layers is taken as {TAKEN_AS}, which shards "
        "alike; implementation deepspeed has Megatron-LM's of 2021, without fused attention"
    )
    _read_zero(settings)
    _read_batch(settings)
    _read_numbers(settings)
    return settings.finished(lambda name, value: value in OFF or bool(_FREE.match(name)))


def _read_zero(settings: Settings) -> None:
    name = "zero_optimization.stage"
    stage = settings.count(name)
    if stage is not None and not 0 <= stage < len(_STAGES):
        raise settings.fail(name, "must be 0, 1, 2 or 3")
    if stage is not None:
        settings.put("plan.sharding", _STAGES[stage], name)
    settings.put_default("plan.sharding", "none", f"DeepSpeed's default, no {name}")
    overlap = "zero_optimization.overlap_comm"
    if settings.has(overlap):
        settings.put("plan.overlap_grad_reduce", settings.flag(overlap), overlap)
    for part in ("offload_optimizer", "offload_param"):
        settings.unmodelled(f"zero_optimization.{part}.device", unless=(*OFF, "none"))
        for detail in ("pin_memory", "nvme_path", "buffer_count", "buffer_size", "ratio"):
            settings.has(f"zero_optimization.{part}.{detail}")
    width = "tensor_parallel.autotp_size"
    if settings.count(width):
        settings.put("plan.tensor_parallel", settings.count(width), width)
    settings.put_default("plan.tensor_parallel", 1, f"DeepSpeed's default, no {width}")


def _read_batch(settings: Settings) -> None:
    whole, micro = (
        settings.count("train_batch_size"),
        settings.count("train_micro_batch_size_per_gpu"),
    )
    steps = settings.count("gradient_accumulation_steps")
    settings.put("training.global_batch_size", whole, "train_batch_size")
    settings.put("training.micro_batch_size", micro, "train_micro_batch_size_per_gpu")
    if micro and steps and whole:
        if whole % (micro * steps):
            rule = f"must be a multiple of micro-batch x accumulation ({micro} x {steps})"
            raise settings.fail("train_batch_size", rule)
        replicas = whole // (micro * steps)
        settings.derive(
            "cluster.num_gpus",
            lambda draft: replicas * ranks_of(draft),
            f"train_batch_size / (micro-batch x accumulation) = {replicas} replicas",
        )
    elif micro and not whole:
        settings.derive(
            "training.global_batch_size",
            lambda draft: _whole(draft, micro * (steps or 1)),
            "micro-batch x accumulation x replicas",
        )
    elif whole and not micro:
        settings.derive(
            "training.micro_batch_size",
            lambda draft: _micro(settings, draft, whole, steps or 1),
            "train_batch_size / (accumulation x replicas)",
        )


def _whole(draft: Draft, of_a_replica: int) -> int | None:
    gpus = draft.get("cluster.num_gpus")
    return None if gpus is None else of_a_replica * (gpus // ranks_of(draft))


def _micro(settings: Settings, draft: Draft, whole: int, steps: int) -> int | None:
    gpus = draft.get("cluster.num_gpus")
    if gpus is None:
        return None
    parts = steps * (gpus // ranks_of(draft))
    if parts == 0 or whole % parts:
        rule = f"must be a multiple of accumulation x replicas ({parts})"
        raise settings.fail("train_batch_size", rule)
    return int(whole // parts)


def _read_numbers(settings: Settings) -> None:
    brain = settings.flag("bf16.enabled") or settings.flag("bfloat16.enabled")
    half = settings.flag("fp16.enabled")
    if brain and half:
        raise CaseError(f"{settings.origin}: fp16.enabled = true: cannot stand beside bf16.enabled")
    if brain:
        named = "bf16.enabled" if settings.has("bf16.enabled") else "bfloat16.enabled"
        settings.put("training.precision", "bf16", named)
    elif half:
        settings.put("training.precision", "fp16", "fp16.enabled")
    else:
        settings.leave_open(
            "training.precision",
            "neither bf16 nor fp16 is enabled: DeepSpeed then trains in fp32, which is not "
            "modelled; give --precision bf16",
        )
    words = {"fp32": "fp32", "fp16": "fp16", "bf16": "bf16"}
    kind = settings.word("data_types.grad_accum_dtype", words)
    if kind is not None:
        settings.put("training.gradient_dtype", kind, "data_types.grad_accum_dtype")
