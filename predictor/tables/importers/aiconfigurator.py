"""Tables of NVIDIA's aiconfigurator-core (PyPI, Apache-2.0): GEMM, attention and NCCL of many GPUs.

Latencies are of one call, without spread, clock or power. Products stand as cold, as our own that
they agree with; the source does not say.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Final

from predictor.case import Gpu
from predictor.errors import TableError, nearest
from predictor.operators import OPERATORS, Collective, Operator
from predictor.tables.importers.aiconfigurator_package import (
    DATA,
    PACKAGE,
    newest_table,
    package_root,
)
from predictor.tables.importers.aiconfigurator_tables import TABLES
from predictor.tables.importers.writing import Import
from predictor.tables.schema import Row

_SKUS: Final = {
    "a100_sxm": "a100-sxm4-80gb",
    "b200_sxm": "b200-sxm",
    "b300_sxm": "b300-sxm",
    "gb200": "gb200",
    "gb300": "gb300",
    "h100_sxm": "h100-sxm5-80gb",
    "h200_sxm": "h200-sxm5-141gb",
}


def sku_of(system: str) -> str:
    """Our SKU of a system, as far as there is one.

    Raises:
        TableError: Another system.
    """
    if system not in _SKUS:
        known = ", ".join(sorted(_SKUS))
        hint = nearest(system, _SKUS)
        raise TableError(f"no SKU belongs to {system!r}{hint}; known: {known}; name one with --sku")
    return _SKUS[system]


def read_aiconfigurator(
    system: str, gpu: Gpu, *, folder: Path | None = None, operators: Collection[str] = ()
) -> Import:
    """Rows of one system.

    Args:
        system: As the package names it, for example ``a100_sxm``.
        gpu: The SKU that they will belong to; its datasheet bounds what can be true.
        folder: An unpacked wheel (or its ``systems/data``); None takes the installed package.
        operators: Those wanted; empty for all that there are.

    Raises:
        TableError: No such package, folder or system; pyarrow is missing; or a table is damaged,
            too large or faster than the datasheet allows (file, row and rule named).
    """
    for name in operators:
        if name not in OPERATORS:
            raise TableError(f"no operator is called {name!r}{nearest(name, OPERATORS)}")
    root, version = package_root(folder)
    systems = sorted(path.name for path in root.iterdir() if path.is_dir())
    if system not in systems:
        hint = nearest(system, systems)
        raise TableError(f"{root}: no system {system!r}{hint}; there are {', '.join(systems)}")
    run = f"{PACKAGE}-{version}-{system}"
    rows: list[Row] = []
    files = []
    for family, framework, table, convert in TABLES:
        chosen = newest_table(root / system / family / framework, table)
        if chosen is None:
            continue
        found = [
            pair for pair in convert(chosen, gpu) if not operators or pair[0].name in operators
        ]
        if found:
            files.append(str(chosen.path.relative_to(root)))
            rows += [_row(run, operator, seconds) for operator, seconds in found]
    provenance = {
        "sku": gpu.sku,
        "kind": "imported",
        "source": f"{PACKAGE} {version} (PyPI), {DATA.as_posix()}/{system}",
        "licence": "Apache-2.0, Copyright (c) 2025-2026 NVIDIA CORPORATION & AFFILIATES",
        "files": files,
        "points": len(rows),
        "notes": "latency of one call, fp8 products less the casts before them (quantize tables); "
        "spread, clocks, power and the state of caches are not given",
    }
    return Import(run=run, provenance=provenance, rows=tuple(rows))


def _row(run: str, operator: Operator, seconds: float) -> Row:
    return Row(
        operator=operator,
        seconds=seconds,
        seconds_low=seconds,
        seconds_high=seconds,
        rounds=1,
        samples=1,
        cache="warm" if isinstance(operator, Collective) else "cold",
        run=run,
    )
