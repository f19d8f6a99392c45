"""How torchtitan lays its work out: degrees, shards and copies, the schedule of a pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from predictor.case.importers.found import Draft, ranks_of

if TYPE_CHECKING:
    from predictor.case.importers.settings import Settings

_DEGREES = {
    "parallelism.tensor_parallel_degree": "plan.tensor_parallel",
    "parallelism.pipeline_parallel_degree": "plan.pipeline_parallel",
    "parallelism.context_parallel_degree": "plan.context_parallel",
    "parallelism.expert_parallel_degree": "plan.expert_parallel",
}
_SCHEDULES = {"1F1B": "1f1b", "GPipe": "gpipe", "Interleaved1F1B": "interleaved"}


def read_plan(settings: Settings) -> None:
    """Read the section ``[parallelism]``.

    Raises:
        CaseError: A value is not legal.
    """
    _read_degrees(settings)
    _read_replicas(settings)
    _read_transfers(settings)
    _read_schedule(settings)


def _read_degrees(settings: Settings) -> None:
    settings.put_counts(_DEGREES)
    for name, path in _DEGREES.items():
        settings.put_default(path, 1, f"torchtitan's default, no {name}")
    settings.put_default(
        "plan.sequence_parallel",
        settings.value_of("plan.tensor_parallel") > 1,
        "beside tensor_parallel_degree",
    )


def _read_replicas(settings: Settings) -> None:
    """Copies of the model, and the ranks over which each is sharded; -1 takes all that are left."""
    copies = settings.count("parallelism.data_parallel_replicate_degree") or 1
    shards = settings.count("parallelism.data_parallel_shard_degree")
    shards = -1 if shards is None else shards
    if shards == 0 or shards < -1:
        name = "parallelism.data_parallel_shard_degree"
        raise settings.fail(name, "must be at least 1, or -1 for all that is left")
    if shards > 0:
        settings.derive(
            "cluster.num_gpus", lambda d: copies * shards * ranks_of(d), "product of degrees"
        )
    never = settings.raw("parallelism.fsdp_reshard_after_forward") == "never"
    if shards == 1 and copies > 1:
        settings.put("plan.sharding", "none", "parallelism.data_parallel_shard_degree")
    else:
        kind = "gradients" if never else "parameters"
        words = "fsdp_reshard_after_forward = never" if never else "fully sharded"
        settings.derive(
            "plan.sharding", lambda d: kind if _replicas(d, 1) not in (None, 1) else None, words
        )
    if copies > 1 and shards != 1:
        settings.derive(
            "plan.sharding_group",
            lambda d: _replicas(d, copies),
            f"replicas over data_parallel_replicate_degree = {copies}",
        )


def _read_transfers(settings: Settings) -> None:
    if settings.flag("parallelism.enable_async_tensor_parallel"):
        settings.put("plan.tp_overlap", value=True, name="parallelism.enable_async_tensor_parallel")
    ways = {"allgather": "all-gather", "alltoall": "ring"}
    way = settings.word("parallelism.context_parallel_rotate_method", ways)
    if way is not None:
        settings.put(
            "plan.context_parallel_kind", way, "parallelism.context_parallel_rotate_method"
        )
    settings.put_default("plan.context_parallel_kind", "all-gather", "torchtitan's default")


def _read_schedule(settings: Settings) -> None:
    stages = settings.value_of("plan.pipeline_parallel")
    name = "parallelism.pipeline_parallel_schedule"
    given = settings.raw(name)
    schedule = None if given is None else str(given)
    per_stage = settings.count("parallelism.pipeline_parallel_layers_per_stage")
    if stages == 1:
        settings.has("parallelism.pipeline_parallel_microbatch_size")
        return
    if schedule is not None and schedule not in _SCHEDULES:
        known = ", ".join(_SCHEDULES)
        settings.leave_open(
            "plan.schedule", f"{name} = {schedule}: is not read; known: {known}; give --schedule"
        )
    elif schedule is not None:
        settings.put("plan.schedule", _SCHEDULES[schedule], name)
        if schedule == "Interleaved1F1B" and per_stage is None:
            settings.put("plan.virtual_pipeline", 2, name)
    if per_stage is not None:
        settings.derive(
            "plan.virtual_pipeline",
            lambda d: _chunks(d, per_stage),
            f"layers over stages and pipeline_parallel_layers_per_stage = {per_stage}",
        )


def _chunks(draft: Draft, per_stage: int) -> int | None:
    layers, stages = draft.get("model.num_layers"), draft.get("plan.pipeline_parallel")
    return max(1, -(-layers // per_stage) // stages) if layers and stages else None


def _replicas(draft: Draft, copies: int) -> int | None:
    """Ranks that share the states: shards times context ranks."""
    gpus = draft.get("cluster.num_gpus")
    if gpus is None:
        return None
    return (
        int(gpus // ranks_of(draft) // copies * (draft.get("plan.context_parallel") or 1)) or None
    )
