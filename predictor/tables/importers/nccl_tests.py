"""Logs of NVIDIA's nccl-tests: what ``all_reduce_perf`` and its like print, or write with ``-J``.

:mod:`predictor.tables.importers.nccl_logs` reads one log; here its sizes and times become rows.
``size`` is the buffer that our operators' docstrings name. In-place times are taken where our
operator is in place. Several logs of one collective are rounds of one measurement: median, lowest
and highest.
"""

import re
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from predictor.case import Gpu
from predictor.errors import TableError, nearest
from predictor.operators import OPERATORS, Operator
from predictor.tables.importers.nccl_logs import PROGRAMS, Log, read_log
from predictor.tables.importers.writing import Import
from predictor.tables.schema import Row

MICROSECONDS: Final = 1e-6
_CHIP: Final = re.compile(r"\b[A-Z]{1,3}\d{2,4}[A-Z]?\b")
"""In a name as the driver tells it, ``NVIDIA A100-SXM4-40GB``; memories and sockets have one
digit."""
_OTHER_FORM: Final = re.compile(r"\b(PCIe|NVL)\b", re.IGNORECASE)
"""In a name: a card, whose power and links are not those of the socket."""

_DTYPES: Final = {"float": "fp32", "half": "fp16", "bfloat16": "bf16"}


def read_nccl_tests(
    paths: Sequence[Path],
    gpu: Gpu,
    *,
    source: str,
    collective: str | None = None,
    ranks_per_node: int | None = None,
) -> Import:
    """Rows of logs.

    Args:
        paths: Text or JSON, one run of one program each.
        gpu: SKU that the logs are of.
        source: Who measured and where it was published; goes into the provenance.
        collective: Operator, for logs that do not say.
        ranks_per_node: For logs whose hosts do not tell.

    Raises:
        TableError: A log cannot be read, names no collective, no ranks or no times, is of another
            GPU, or holds a number that is none (file, line and rule named).
    """
    if collective is not None and collective not in PROGRAMS.values():
        known = ", ".join(PROGRAMS.values())
        hint = nearest(collective, PROGRAMS.values())
        raise TableError(f"collective = {collective!r}: must be one of {known}{hint}")
    if not source.strip():
        raise TableError("an import needs its source: who measured, where it was published")
    times: dict[Operator, list[float]] = {}
    for path in paths:
        log = read_log(path, collective)
        _require_gpu(log, gpu)
        for operator, seconds in _timed(log, gpu, ranks_per_node):
            times.setdefault(operator, []).append(seconds)
    run = f"nccl-tests-{'-'.join(re.findall('[A-Za-z0-9]+', source))[:48]}"
    provenance = {
        "sku": gpu.sku,
        "kind": "imported",
        "source": source,
        "files": [path.name for path in paths],
        "points": len(times),
        "notes": "mean of many calls in a row; clocks and power are not given",
    }
    return Import(run=run, provenance=provenance, rows=tuple(_rows(run, times)))


def _require_gpu(log: Log, gpu: Gpu) -> None:
    """Refuse a log of another chip than the SKU's; names that tell no chip say nothing.

    Raises:
        TableError: A rank's GPU is another one.
    """
    wanted = gpu.sku.partition("-")[0]
    for name in sorted(log.gpus):
        chips = {chip.lower() for chip in _CHIP.findall(name)}
        card = _OTHER_FORM.search(name) and "-sxm" in gpu.sku
        if (chips and wanted not in chips) or card:
            raise TableError(
                f"{log.path}: ranks ran on {name!r}, not on a {gpu.sku}: name the SKU that was "
                "measured with --gpu (`predictor gpus` lists those known)"
            )


def _rows(run: str, times: Mapping[Operator, Sequence[float]]) -> Iterator[Row]:
    for operator, rounds in times.items():
        yield Row(
            operator=operator,
            seconds=statistics.median(rounds),
            seconds_low=min(rounds),
            seconds_high=max(rounds),
            rounds=len(rounds),
            samples=len(rounds),
            cache="warm",
            run=run,
        )


def _timed(log: Log, gpu: Gpu, ranks_per_node: int | None) -> Iterator[tuple[Operator, float]]:
    kind = OPERATORS[log.collective]
    in_place = any(each.name == "in_place" and each.default is True for each in fields(kind))
    ranks = len(log.hosts)
    inside = max(Counter(log.hosts).values()) if ranks_per_node is None else ranks_per_node
    if not 1 <= inside <= ranks:
        raise TableError(f"{log.path}: ranks_per_node = {inside}: must be 1 to {ranks}, its ranks")
    types = {word for _, word, _, _ in log.timings}
    if types.isdisjoint(_DTYPES):
        told = ", ".join(map(repr, sorted(types)))
        raise TableError(f"{log.path}: type {told} must be one of {', '.join(_DTYPES)}")
    for size, word, outside_us, inside_us in log.timings:
        microseconds = inside_us if in_place and inside_us is not None else outside_us
        if size == 0 or microseconds is None or word not in _DTYPES:
            continue
        operator: Any = kind
        yield (
            operator(
                bytes=size,
                ranks=ranks,
                ranks_per_node=inside,
                dtype=_DTYPES[word],
                nvls=gpu.switches_reduce and not log.no_nvls,
                groups=log.groups,
            ),
            microseconds * MICROSECONDS,
        )
