"""Fill the fields that a case leaves open, and say which ones."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from predictor.case.defaults import DEFAULTS, EXCHANGE
from predictor.case.gpus import bench_results_folder
from predictor.case.models import public_model
from predictor.case.reading import case_from_sections
from predictor.case.rule import RuleError
from predictor.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from predictor.case.usual import Draft
    from predictor.case.whole import Case

TENSOR_PARALLEL_CHOICES = (1, 2, 4, 8)
# Values that stand for the absence of something: filled, but not worth telling.
_NOTHING = (False, 0, 1, "none")
_ALWAYS_TOLD = ("training.micro_batch_size",)
# Fields of a public model that its name may fill in somebody else's record of it.
_CANONICAL = (
    "num_query_groups",
    "head_dim",
    "vocab_size",
    "tied_embeddings",
    "normalization",
    "position_embedding",
    "qk_norm",
    "linear_bias",
    "activation",
    "attention_window",
    "full_attention_frequency",
    "max_position_embeddings",
)
_CANONICAL_MOE = (
    "num_shared_experts",
    "shared_expert_ffn_hidden_size",
    "first_dense_layers",
    "moe_layer_frequency",
    "routing_groups",
    "groups_per_token",
    "residual_ffn_hidden_size",
)


@frozen
class Resolved:
    """A case without gaps.

    Attributes:
        case: The case; no field that has a default is None.
        defaults_taken: One line for each default: ``training.micro_batch_size = 1``.
    """

    case: Case
    defaults_taken: tuple[str, ...]


def with_expert_exchange(case: Case, *, virtual_pipeline: int) -> Case:
    """A resolved case of another layout, with the defaults that depend on where experts lie.

    Fields that are given stay.

    Args:
        case: Resolved but for these defaults.
        virtual_pipeline: Of the layout, whatever the case has.
    """
    draft, plan = case.to_dict(), case.plan
    draft["plan"]["virtual_pipeline"] = virtual_pipeline
    found = {
        default.key.partition(".")[2]: default.value(draft)
        for default in DEFAULTS
        if default.key in EXCHANGE
    }
    absent = {key: value for key, value in found.items() if getattr(plan, key) is None}
    return replace(case, plan=replace(plan, **absent))


def resolve(case: Case) -> Resolved:
    """Fill every absent field of ``case`` that has a default.

    Raises:
        CaseError: The filled case breaks a rule.
    """
    return _resolved(case, bench_results_folder())


@lru_cache(maxsize=1024)
def _resolved(case: Case, datasheets: Path) -> Resolved:
    """Resolve once a process; some defaults come from the folder of datasheets."""
    del datasheets  # part of the key alone
    draft = case.to_dict()
    taken = [*_fill_from_public_model(draft)]
    for default in DEFAULTS:
        *path, name = default.key.split(".")
        section = _section(draft, path)
        if section is None or section.get(name) is not None:
            continue
        value = default.value(draft)
        if value is None:
            continue
        section[name] = value
        told = value not in _NOTHING and default.matters(draft)
        if told or default.key in _ALWAYS_TOLD:
            taken.append(f"{default.key} = {_plain(value)}")
    filled = case_from_sections(draft)
    return Resolved(case=filled, defaults_taken=tuple(taken))


def tensor_parallel_candidates(case: Case) -> tuple[int, ...]:
    """Return the degrees of 1, 2, 4 and 8 that the rules allow ``case``, smallest first.

    A case that names its degree has that one alone.
    """
    if case.plan.tensor_parallel is not None:
        return (case.plan.tensor_parallel,)
    return tuple(d for d in TENSOR_PARALLEL_CHOICES if _is_legal(case, d))


def _is_legal(case: Case, degree: int) -> bool:
    try:
        replace(case, plan=replace(case.plan, tensor_parallel=degree))
    except RuleError:
        return False
    return True


def _section(draft: Draft, path: list[str]) -> dict[str, Any] | None:
    section: dict[str, Any] | None = draft
    for part in path:
        section = section.get(part) if section is not None else None
    return section


def _fill_from_public_model(draft: Draft) -> Iterator[str]:
    """Fill what the name of a public model tells, where the record has the same shape."""
    model = draft["model"]
    public = public_model(model)
    if public is None:
        return
    preset = public["name"]
    longest = public.get("max_position_embeddings", 0)
    if draft["training"].get("seq_length", 0) > longest:
        public.pop("max_position_embeddings", None)
    yield from _fill(model, public, _CANONICAL, "model", preset)
    if "moe" in model and "moe" in public:
        _scale_dense_layers(public, model["num_layers"])
        yield from _fill(model["moe"], public["moe"], _CANONICAL_MOE, "model.moe", preset)
    if "mla" in public and "mla" not in model:
        model["mla"] = public["mla"]
        yield f"model.mla, as {preset} has it"


def _scale_dense_layers(public: dict[str, Any], layers: int) -> None:
    """Keep the share of dense layers in a model cut to fewer layers, at least one where it had any.

    DeepSeek-V3 has three dense layers of 61; its four-layer proxies have one.
    """
    dense = public["moe"].get("first_dense_layers", 0)
    if dense and layers < public["num_layers"]:
        share = round(dense * layers / public["num_layers"])
        public["moe"] = {**public["moe"], "first_dense_layers": max(1, share)}


def _fill(
    into: dict[str, Any], public: dict[str, Any], keys: tuple[str, ...], path: str, preset: str
) -> Iterator[str]:
    for key in keys:
        if key in public and key not in into:
            into[key] = public[key]
            yield f"{path}.{key} = {_plain(public[key])}, as {preset} has it"


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return str(value).lower() if isinstance(value, bool) else str(value)
