"""A case with something else than it has: other fields, other hardware."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from json import dumps
from typing import Any

from predictor.case import Case, load_gpu, load_network
from predictor.case.reading import case_from_dict, case_from_sections
from predictor.costs.change import NETWORK, PROPERTIES, Change, changed_gpu, costs_with
from predictor.errors import CaseError
from predictor.iteration.answer import Estimate
from predictor.iteration.estimate import estimate
from predictor.values import frozen


@frozen
class WhatIf:
    """Two estimates and what lies between them.

    Attributes:
        before: As the case is.
        after: With the changes.
        notes: What a reader must know of the changes.
    """

    before: Estimate
    after: Estimate
    notes: tuple[str, ...]


Changes = Sequence[str] | Mapping[str, object]
"""Changes as a command line has them, ``["plan.tensor_parallel=4"]``, or values by name."""


def what_if(case: Case, *, fields: Changes = (), hardware: Changes = ()) -> WhatIf:
    """Estimate a case as it is and with changes.

    Without changed fields the plan of the first estimate holds for the second too, so that nothing
    but the hardware differs.

    Args:
        case: The case.
        fields: ``plan.tensor_parallel=4``: dotted paths with values as TOML writes them, or
            ``{"plan.tensor_parallel": 4}``.
        hardware: ``hbm_bandwidth=x2``: see :class:`~predictor.costs.change.Change`; or
            ``{"hbm_bandwidth": "x2"}``.

    Raises:
        CaseError: A change cannot be read, or the changed case breaks a rule.
        NotPredictable: As an estimate.
    """
    changes = [Change.read(text) for text in _texts(hardware)]
    case, notes = _without_curve(case) if _of_network(changes) else (case, ())
    before = estimate(case)
    changed = _with_fields(case, _texts(fields)) if fields else before.case
    changed = _with_network(estimate(changed).case if fields else changed, changes)
    of_gpu = [change for change in changes if change.name in PROPERTIES]
    if not of_gpu:
        return WhatIf(before, estimate(changed), notes)
    gpu = changed_gpu(load_gpu(changed.cluster.gpu), of_gpu)
    after = estimate(changed, costs=costs_with(changed.cluster.gpu, gpu))
    words = "changed hardware is extrapolated: the shares of the measured GPU over other rates"
    return WhatIf(before, after, (*notes, words))


def _texts(changes: Changes) -> list[str]:
    """Changes as a command line has them."""
    if isinstance(changes, str):
        return [changes]
    if not isinstance(changes, Mapping):
        return list(changes)
    return [
        f"{name}={value if isinstance(value, str) else 'none' if value is None else dumps(value)}"
        for name, value in changes.items()
    ]


def _of_network(changes: Sequence[Change]) -> list[Change]:
    return [change for change in changes if change.name in NETWORK]


def _without_curve(case: Case) -> tuple[Case, tuple[str, ...]]:
    """A published curve belongs to its network's rate; both estimates do without it."""
    resolved = estimate(case).case
    name = resolved.cluster.network
    if name is None or load_network(name).curve is None:
        return case, ()
    tables = resolved.to_dict()
    tables["cluster"].pop("network")
    return case_from_sections(tables), (f"the published curve of {name} is left aside in both",)


def _with_network(case: Case, changes: Sequence[Change]) -> Case:
    for change in _of_network(changes):
        name = NETWORK[change.name]
        now = getattr(case.cluster, name)
        if now is None:
            raise CaseError(
                f"--hardware {change.name}={change.words}: the job stays inside one node "
                f"({case.cluster.num_gpus} of {case.cluster.gpus_per_node} GPUs)"
            )
        value = now * change.factor(now)
        case = replace(case, cluster=replace(case.cluster, **{name: value, "network": None}))
    return case


def _with_fields(case: Case, fields: Sequence[str]) -> Case:
    """The case with fields set; ``none`` takes one away, so that its default holds.

    Raises:
        CaseError: A path or value is not legal.
    """
    tables: dict[str, Any] = case.to_dict()
    seen: set[str] = set()
    for text in fields:
        path, equals, words = (part.strip() for part in text.partition("="))
        if not equals or not path:
            rule = "must be section.field=value, as plan.tensor_parallel=4"
            raise CaseError(f"--set {text}: {rule}")
        if path in seen:
            raise CaseError(f"--set {text}: {path} is set twice; keep one")
        seen.add(path)
        *sections, name = path.split(".")
        inner = tables
        for section in sections:
            inner = inner.setdefault(section, {})
            if not isinstance(inner, dict):
                raise CaseError(f"--set {text}: {section} is not a table")
        if words == "none":
            inner.pop(name, None)
        else:
            inner[name] = _value(words)
    return case_from_dict(tables, origin="--set")


def _value(words: str) -> object:
    """A value as TOML has it; a bare word is a string."""
    try:
        return tomllib.loads(f"value = {words}")["value"]
    except tomllib.TOMLDecodeError:
        return words
