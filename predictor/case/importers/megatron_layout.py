"""Megatron's settings of sharding, pipeline and context: how the ranks divide the work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from predictor.case.importers.megatron_names import CONTEXTS, SHARDED
from predictor.case.importers.settings import OFF, Settings

if TYPE_CHECKING:
    from predictor.case.importers.found import Draft


def read_sharding(settings: Settings) -> None:
    """Put what data-parallel ranks divide among themselves."""
    distributed = settings.flag("use_distributed_optimizer")
    if settings.flag("use_torch_fsdp2"):
        kept = settings.flag("torch_fsdp2_reshard_after_forward") is False
        settings.put("plan.sharding", "gradients" if kept else "parameters", "use_torch_fsdp2")
    elif settings.flag("use_megatron_fsdp") or settings.flag("use_custom_fsdp"):
        kind = settings.word("data_parallel_sharding_strategy", SHARDED) or "parameters"
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


def read_pipeline(settings: Settings) -> None:
    """Put virtual stages and the layers of each stage."""
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
    embedding = settings.flag("account_for_embedding_in_pipeline_split")
    loss = settings.flag("account_for_loss_in_pipeline_split")
    first = settings.count("num_layers_in_first_pipeline_stage")
    last = settings.count("num_layers_in_last_pipeline_stage")
    if not stages or not layers:
        return
    counted = bool(embedding) + bool(loss)
    if counted and (layers + counted) % (stages * chunks):
        rule = f"{stages * chunks} chunks must divide num_layers ({layers})"
        name = "account_for_embedding_in_pipeline_split"
        raise settings.fail(name, f"with embedding and loss, {rule}")
    ends = [count for count in (first, last) if count is not None]
    if not ends or stages == 1:
        return
    name = f"num_layers_in_{'last' if first is None else 'first'}_pipeline_stage"
    if chunks > 1:
        settings.not_modelled(f"{settings.where(name)}: not together with virtual stages")
        return
    between, rest = stages - len(ends), layers - sum(ends)
    if rest < 0 or (rest % between if between else rest):
        raise settings.fail(name, f"leaves {rest} layers for {between} stages")
    middle = [rest // between] * between if between else []
    whole = [*ends, *middle] if last is None else [*ends[:-1], *middle, last]
    settings.put("plan.layers_per_stage", whole, name)


def read_context(settings: Settings) -> None:
    """Put how ranks that share a sequence exchange keys and values."""
    kinds = settings.raw("cp_comm_type")
    if kinds in OFF:
        return
    words = [kinds] if isinstance(kinds, str) else list(kinds)
    known = {CONTEXTS.get(str(word)) for word in words}
    if len(known) == 1 and None not in known:
        settings.put("plan.context_parallel_kind", known.pop(), "cp_comm_type")
    else:
        settings.unmodelled("cp_comm_type")
