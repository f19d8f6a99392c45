"""Seeds of the readers: the repository's own files, cut short, and those of ``seeds/<reader>/``."""

from __future__ import annotations

import gzip
import io
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from predictor.case import load_gpu
from predictor.costs import interference, levels
from predictor.costs.design import chip_of
from predictor.costs.families import FAMILIES
from predictor.costs.ladder import measured_operators
from predictor.costs.points import read_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SKU = "h100-sxm5-80gb"
MEASURED = ROOT / "bench_results" / SKU
SMALL = 4
"""Rows of a table that a seed keeps."""
FEW = 2
"""Tables of a family that a seed keeps."""


def files(*paths: Path) -> Callable[[], Iterable[bytes]]:
    """Seeds that are files, or all files of a folder."""

    def read() -> Iterator[bytes]:
        for path in paths:
            for each in sorted(path.iterdir()) if path.is_dir() else [path]:
                yield each.read_bytes()

    return read


def case_seeds() -> Iterator[bytes]:
    """The examples, and the same in JSON."""
    import tomllib  # noqa: PLC0415 - for seeds alone

    for path in sorted((ROOT / "examples").glob("*.toml")):
        yield path.read_bytes()
        yield json.dumps(tomllib.loads(path.read_text(encoding="utf-8")), default=str).encode()
    yield from files(HERE / "seeds" / "case")()


def record_seeds() -> Iterator[bytes]:
    """Published records of different stacks, one a seed, and the examples packed."""
    lines = gzip.decompress(
        (ROOT / "tests" / "validation" / "published.jsonl.gz").read_bytes()
    ).splitlines()
    yield from lines[:: max(1, len(lines) // 12)]
    yield gzip.compress((ROOT / "examples" / "runs.jsonl").read_bytes(), mtime=0)


def table_seeds() -> Iterator[bytes]:
    """The first rows of every table, after its operator."""
    for path in sorted(MEASURED.glob("*.csv")):
        lines = path.read_bytes().splitlines(keepends=True)[: 1 + SMALL]
        yield f"{path.stem}\n".encode() + b"".join(lines)


@cache
def small_fit() -> bytes:
    """A fit of all families with few measured rows."""
    raw = json.loads((MEASURED / "fit.json").read_bytes())
    chip = chip_of(load_gpu(SKU))
    for key, tables in raw["measured"].items():
        family, _, state = key.partition("/")
        cut = [{**table, "points": _cut(table["points"])} for table in tables[:FEW]]
        raw["measured"][key] = cut
        operators = list(measured_operators(family, read_tables(family, cut)))
        known = set(FAMILIES[family].design(operators, chip, state).group.tolist())
        raw["fits"][key] = {"surface": _cut_surface(raw["fits"][key]["surface"], known)}
    raw["host"] = raw["host"][::SMALL]
    return json.dumps(raw).encode()


def fit_seeds() -> Iterator[bytes]:
    """A small fit, and fits of one table each, which are read much faster."""
    yield small_fit()
    raw = json.loads(small_fit())
    for key in raw["fits"]:
        yield json.dumps(
            raw | {part: {key: raw[part][key]} for part in ("fits", "measured")} | {"host": []}
        ).encode()


def _cut(columns: dict[str, str]) -> dict[str, str]:
    """Lines of few numbers."""
    return {name: " ".join(text.split()[:SMALL]) for name, text in columns.items()}


def _cut_surface(surface: dict[str, Any], known: set[int]) -> dict[str, Any]:
    """Of a few groups."""
    rows = [place for place, group in enumerate(surface["groups"]) if group in known]
    return {
        **surface,
        "groups": [surface["groups"][row] for row in rows],
        "coefficients": [surface["coefficients"][row] for row in (*rows, -1)],
        "known": sorted(known),
        "residuals": {
            group: {
                "coordinates": [" ".join(text.split()[:SMALL]) for text in each["coordinates"]],
                "weights": " ".join(each["weights"].split()[:SMALL]),
            }
            for group, each in surface["residuals"].items()
            if int(group) in known
        },
    }


def datasheet_seeds() -> Iterator[bytes]:
    """All datasheets."""
    for path in sorted((ROOT / "bench_results").glob("*/gpu.toml")):
        yield path.read_bytes()


def runs_seeds() -> Iterator[bytes]:
    """The first run of each SKU."""
    for path in sorted((ROOT / "bench_results").glob("*/runs.toml")):
        lines = io.StringIO(path.read_text(encoding="utf-8")).readlines()
        yield "".join(lines[:40]).encode()


def parquet_seeds() -> Iterator[bytes]:
    """Rows, a list of reused tables, and the rows as Parquet."""
    from pyarrow import Table, parquet  # noqa: PLC0415 - an extra

    yield from files(HERE / "seeds" / "aiconfigurator")()
    stream = io.BytesIO()
    rows = json.loads((HERE / "seeds" / "aiconfigurator" / "gemm.json").read_bytes())
    parquet.write_table(Table.from_pylist(rows), stream)
    yield stream.getvalue()


def question_seeds() -> Iterator[bytes]:
    """The examples, one a seed."""
    yield from (ROOT / "examples" / "questions.jsonl").read_bytes().splitlines()


def seeds_of(name: str) -> Callable[[], Iterable[bytes]]:
    """Seeds in a folder of their own."""
    return files(HERE / "seeds" / name)


SEEDS: dict[str, Callable[[], Iterable[bytes]]] = {
    "aiconfigurator": parquet_seeds,
    "case": case_seeds,
    "deepspeed": seeds_of("deepspeed"),
    "fit": fit_seeds,
    "gpu": datasheet_seeds,
    "histogram": seeds_of("histogram"),
    "huggingface": seeds_of("huggingface"),
    "journal": seeds_of("journal"),
    "interference": files(interference.SLOWDOWNS_FILE),
    "levels": files(levels.LEVELS_FILE),
    "links": seeds_of("links"),
    "megatron": seeds_of("megatron"),
    "nanotron": seeds_of("nanotron"),
    "nccl-tests": seeds_of("nccl-tests"),
    "nemo": seeds_of("nemo"),
    "prices": files(ROOT / "predictor" / "case" / "presets" / "prices"),
    "questions": question_seeds,
    "records": record_seeds,
    "runs": runs_seeds,
    "search": seeds_of("search"),
    "study": files(ROOT / "examples" / "studies"),
    "table": table_seeds,
    "torchtitan": seeds_of("torchtitan"),
}
