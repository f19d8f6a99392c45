"""Every reader of what people bring, as one call on bytes: it returns, or raises our own error.

``benchmarks/fuzz.py`` drives these entries by coverage, ``test_readers.py`` by hypothesis and by
the inputs that were once found. Seeds are the repository's own files, cut short, and those of
``seeds/<reader>/`` where the repository has none (``seeding.py``).
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from math import isfinite
from typing import TYPE_CHECKING, Any

from seeding import HERE, MEASURED, SEEDS, SKU, small_fit

from predictor import Case, estimate
from predictor.bench.journal import read_records as read_journal
from predictor.case import gpus, load_gpu
from predictor.case.importers import merged, read_configuration
from predictor.costs import interference, levels, loading
from predictor.costs.ladder import size_names
from predictor.costs.questions import answer
from predictor.report.page.search import read_search
from predictor.run_records import read_records
from predictor.search.prices import load_prices
from predictor.search.study import read_study
from predictor.tables.importers import read_aiconfigurator, read_nccl_tests
from predictor.tables.reading import read_table
from predictor.tables.runs import read_runs
from predictor.validate import check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

GIVEN = {
    "cluster.gpu": SKU,
    "cluster.num_gpus": 8,
    "training.seq_length": 2048,
    "training.global_batch_size": 64,
}
"""Fields that a file of another tool leaves open."""


class WrongNumber(Exception):  # noqa: N818 - named by its cause, as ours are
    """An answer that is no number, negative, or outside of its own interval."""


class Sparse(bytes):
    """The beginning of a file that goes on with a gigabyte of zeros."""

    size = 2**30


@dataclass(frozen=True)
class Reader:
    """One reader.

    Attributes:
        read: Takes bytes and an empty folder of its own.
        seeds: Legal inputs.
    """

    read: Callable[[bytes, Path], object]
    seeds: Callable[[], Iterable[bytes]]


def check_numbers(answer: object, place: str = "") -> None:
    """Refuse whatever is not finite."""
    if isinstance(answer, dict):
        for key, value in answer.items():
            check_numbers(value, f"{place}.{key}")
    elif isinstance(answer, list | tuple):
        for value in answer:
            check_numbers(value, place)
    elif isinstance(answer, float) and not isfinite(answer):
        raise WrongNumber(f"{place} = {answer}")


def check_estimate(case: Case) -> None:
    """Estimate a legal case and look at what comes out."""
    found = estimate(case).to_dict()
    check_numbers(found)
    low, high = found["interval_seconds"]
    seconds = found["iteration_seconds"]
    if not 0.0 < low <= seconds <= high:
        raise WrongNumber(f"iteration_seconds = {seconds} in {low} to {high}")
    for key, value in found.items():
        if isinstance(value, int | float) and value < 0:
            raise WrongNumber(f"{key} = {value}")


def check_answers(replies: Iterable[dict[str, Any]]) -> None:
    """Look at answers to questions about operators."""
    for reply in replies:
        check_numbers(reply)
        if "error" not in reply and not 0.0 <= reply["low"] <= reply["seconds"] <= reply["high"]:
            raise WrongNumber(str(reply))


def written(folder: Path, name: str, data: bytes) -> Path:
    """Put an input into a file."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(data)
        if isinstance(data, Sparse):
            file.truncate(data.size)
    return path


def suffix(data: bytes, other: str = ".toml") -> str:
    """The ending of an input that may be in one of two syntaxes."""
    return ".json" if data.lstrip()[:1] in {b"{", b"["} else other


# Cases and what stands beside them.


def read_case(data: bytes, folder: Path) -> None:
    """A case file, and the estimate of what is legal."""
    check_estimate(Case.from_file(written(folder, f"case{suffix(data)}", data)))


def read_run_records(data: bytes, folder: Path) -> None:
    """Run records, packed or not, and the estimate of each."""
    name = "runs.jsonl.gz" if data.startswith(b"\x1f\x8b") else "runs.jsonl"
    for record in read_records(written(folder, name, data)):
        check_numbers(check(record).to_dict())


def read_named(name: str, section: str) -> Callable[[bytes, Path], object]:
    """A file that a case names."""

    def read(data: bytes, folder: Path) -> None:
        written(folder, name, data)
        case = written(folder, "case.toml", (HERE / "seeds" / f"{section}.toml").read_bytes())
        check_estimate(Case.from_file(case))

    return read


def read_study_file(data: bytes, folder: Path) -> None:
    """A study, and its first and last case."""
    study = read_study(written(folder, f"study{suffix(data)}", data))
    for number in {0, study.cases - 1}:
        Case.from_dict(study.case(number))


def read_price_file(data: bytes, folder: Path) -> None:
    """A table of prices."""
    load_prices(written(folder, f"prices{suffix(data)}", data))


def read_foreign(name: str, form: str, *more: Path) -> Callable[[bytes, Path], object]:
    """A file of another tool, and the case that it stands for, with more files where it needs."""

    def read(data: bytes, folder: Path) -> None:
        found = [read_configuration(str(written(folder, name, data)), form=form)]
        found += [read_configuration(str(path)) for path in more]
        Case.from_dict(merged(found, GIVEN).mapping())

    return read


# Tables, fits and datasheets.


def read_any_table(data: bytes, folder: Path) -> None:
    """A table; its operator stands in a line before its header."""
    name, _, rest = data.partition(b"\n")
    operator = name[:60].decode("ascii", "replace")
    read_table(written(folder, f"{operator if operator.isidentifier() else 'gemm'}.csv", rest))


def read_run_file(data: bytes, folder: Path) -> None:
    """A runs.toml."""
    read_runs(written(folder, "runs.toml", data))


@contextmanager
def bench_results(folder: Path) -> Iterator[None]:
    """Let a folder be that of all tables."""
    before = os.environ.get(gpus.FOLDER_VARIABLE)
    os.environ[gpus.FOLDER_VARIABLE] = str(folder)
    try:
        forget()
        yield
    finally:
        if before is None:
            del os.environ[gpus.FOLDER_VARIABLE]
        else:
            os.environ[gpus.FOLDER_VARIABLE] = before
        forget()


def forget() -> None:
    """Forget what was read of a folder: the next input stands under the same name."""
    for cached in (gpus._read, gpus._folder, loading._load, loading._raw_fit):
        cached.cache_clear()


QUESTIONS = (
    '{"operator": "gemm", "m": 4096, "n": 4096, "k": 4096}',
    '{"operator": "gemm", "m": 77, "n": 8, "k": 100000, "kind": "wgrad", "regime": "sustained"}',
    '{"operator": "gemm", "m": 1, "n": 300, "k": 77, "dtype": "fp8", "bias": true}',
    '{"operator": "optimizer", "elements": 1000000, "dtype": "bf16", "kernel": "adamw"}',
    '{"operator": "host", "stack": "cuda", "quantity": "launch"}',
)
STEP = {
    "model": {"preset": "gpt2", "num_layers": 2},
    "training": {"seq_length": 1024, "global_batch_size": 64},
    "plan": {"tensor_parallel": 2},
    "cluster": {"gpu": SKU, "num_gpus": 8},
}


@cache
def questions_of_fit() -> dict[str, tuple[str, ...]]:
    """By table of the small fit, questions about the first point of each class and larger sizes."""
    found = {}
    for key, tables in json.loads(small_fit())["measured"].items():
        family, _, state = key.partition("/")
        asked = []
        for table in tables:
            point = {name: int(table["points"][name].split()[0]) for name in size_names(family)}
            for factor in (1, 3):
                point[size_names(family)[-1]] *= factor
                asked.append({"operator": family, **table["options"], **point, "cache": state})
        asked.append(asked[0] | {"regime": "sustained"})
        found[key] = tuple(map(json.dumps, asked))
    return found


def check_fit(data: bytes, sku: str) -> None:
    """Answers to questions about a fit's tables, and a step where it has all of them."""
    asked = [each for key, each in questions_of_fit().items() if f'"{key}"'.encode() in data]
    questions = [*QUESTIONS, *(question for each in asked for question in each)]
    check_answers(answer(questions, sku=sku, at_once=len(questions)))
    if len(asked) == len(questions_of_fit()):
        check_estimate(Case.from_dict(STEP | {"cluster": {"gpu": sku, "num_gpus": 8}}))


def read_fit(data: bytes, folder: Path) -> None:
    """A fit.json, and answers of it."""
    written(folder, f"{SKU}/gpu.toml", (MEASURED / "gpu.toml").read_bytes())
    written(folder, f"{SKU}/fit.json", data)
    with bench_results(folder):
        check_fit(data, SKU)


def read_packaged(module: Any, constant: str, load: Any) -> Callable[[bytes, Path], object]:
    """A file of fitted numbers that ships with the package, and a step that rests on it."""

    def read(data: bytes, folder: Path) -> None:
        own = getattr(module, constant)
        setattr(module, constant, written(folder, "packaged.json", data))
        try:
            load.cache_clear()
            loading._load.cache_clear()
            for gpus in (8, 64):
                check_estimate(Case.from_dict(STEP | {"cluster": {"gpu": SKU, "num_gpus": gpus}}))
        finally:
            setattr(module, constant, own)
            load.cache_clear()
            loading._load.cache_clear()

    return read


def read_datasheet(data: bytes, folder: Path) -> None:
    """A gpu.toml, and answers and a step that rest on it."""
    written(folder, f"{SKU}/gpu.toml", (MEASURED / "gpu.toml").read_bytes())
    written(folder, f"{SKU}/fit.json", small_fit())
    written(folder, f"{SKU}/gemm.csv", b"")  # which says that there is something to borrow
    written(folder, "new/gpu.toml", data)
    with bench_results(folder):
        load_gpu("new")
        check_fit(small_fit(), "new")


def read_questions(data: bytes, folder: Path) -> None:
    """Questions about operators."""
    del folder
    check_answers(answer(data.decode("utf-8", "replace").splitlines(), sku=SKU))


def read_search_results(data: bytes, folder: Path) -> None:
    """What ``predictor search --json`` printed, as a page."""
    read_search(written(folder, "found.json", data))


def read_bench_journal(data: bytes, folder: Path) -> None:
    """What an interrupted bench-run left."""
    read_journal(written(folder, "journal.jsonl", data))


# Measurements of others.


def read_nccl_log(data: bytes, folder: Path) -> None:
    """A log of nccl-tests, text or JSON."""
    path = written(folder, "all_reduce_perf.log", data)
    for row in read_nccl_tests([path], load_gpu(SKU), source="fuzz").rows:
        check_numbers([row.seconds, row.seconds_low, row.seconds_high])


def read_foreign_tables(data: bytes, folder: Path) -> None:
    """Tables of aiconfigurator: Parquet as it is, rows in JSON, or a list of reused tables."""
    from pyarrow import ArrowException, Table, parquet  # noqa: PLC0415 - an extra

    place = folder / "a100_sxm" / "gemm" / "trtllm"
    table = written(place, "1.0.0/gemm_perf.parquet", data)
    if data.lstrip()[:1] == b"[":
        try:
            parquet.write_table(Table.from_pylist(json.loads(data)), table)
        except (
            ArithmeticError, AttributeError, ArrowException, RecursionError, TypeError, ValueError,
        ):  # fmt: skip
            return  # no table to read
    elif not data.startswith(b"PAR1"):
        written(place, "2.0.0/reuse.yaml", data)
        table.unlink()
        first = next(iter(SEEDS["aiconfigurator"]()))
        parquet.write_table(Table.from_pylist(json.loads(first)), table)
    imported = read_aiconfigurator("a100_sxm", load_gpu("a100-sxm4-80gb"), folder=folder)
    for row in imported.rows:
        check_numbers(row.seconds)


READ: dict[str, Callable[[bytes, Path], object]] = {
    "aiconfigurator": read_foreign_tables,
    "case": read_case,
    "deepspeed": read_foreign(
        "ds.json", "deepspeed", HERE / "seeds" / "huggingface" / "llama.json"
    ),
    "fit": read_fit,
    "gpu": read_datasheet,
    "histogram": read_named("tokens.txt", "histogram_case"),
    "huggingface": read_foreign("config.json", "huggingface"),
    "journal": read_bench_journal,
    "interference": read_packaged(interference, "SLOWDOWNS_FILE", interference.load_slowdowns),
    "levels": read_packaged(levels, "LEVELS_FILE", levels.load_levels),
    "links": read_named("links.csv", "links_case"),
    "megatron": read_foreign("train.sh", "megatron"),
    "nanotron": read_foreign("config.yaml", "nanotron"),
    "nccl-tests": read_nccl_log,
    "nemo": read_foreign("recipe.yaml", "nemo"),
    "prices": read_price_file,
    "questions": read_questions,
    "records": read_run_records,
    "runs": read_run_file,
    "search": read_search_results,
    "study": read_study_file,
    "table": read_any_table,
    "torchtitan": read_foreign("titan.toml", "torchtitan"),
}
READERS = {name: Reader(read=read, seeds=SEEDS[name]) for name, read in READ.items()}
