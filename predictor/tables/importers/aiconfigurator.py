"""Tables of NVIDIA's aiconfigurator-core (PyPI, Apache-2.0): GEMM, attention and NCCL of many GPUs.

Its wheel holds ``systems/data/<system>/<family>/<framework>/<version>/<table>.parquet``. A version
without a table of its own may point to another by ``reuse.yaml``. What is taken:

    gemm       bfloat16 and per-tensor fp8 as TensorRT-LLM's PyTorch flow calls the library: its
               H100 table agrees with our own cuBLAS rows within 0.1 % (median of 116 shapes).
               An fp8 call begins with a search for the largest magnitude and a cast of its bf16
               input (``collector/trtllm/collect_gemm.py``); both have tables of their own
               (quantize) and are taken off: 1.7 % from our H100 rows (median of 24 shapes)
    attention  causal prefill by FlashAttention-2, where vLLM used it (Ampere)
    nccl       nccl-tests inside a node; ``message_size`` counts elements, not bytes

Latencies are milliseconds of one call, without spread, clock or power. Products stand as cold, as
ours that they agree with; the source does not say. Shapes are thinned by a hash of the shape, so
that a rerun keeps the same ones. Left out: other number formats, decoding, generation and custom
collectives.
"""

import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from math import isfinite
from pathlib import Path
from typing import Any, Final

from predictor.case import Gpu
from predictor.errors import TableError, nearest
from predictor.files import YAML_ERRORS, check_plain, read_text
from predictor.operators import OPERATORS, Attention, Collective, Gemm, Operator
from predictor.tables.importers.writing import Import
from predictor.tables.schema import Row
from predictor.values import frozen

PACKAGE: Final = "aiconfigurator-core"
DATA: Final = Path("aiconfigurator_core") / "systems" / "data"
MILLISECONDS: Final = 1e-3
MAX_FILE_BYTES: Final = 256 * 2**20
MAX_REUSE: Final = 8
MAX_REUSE_BYTES: Final = 256 * 1024

ROWS_BY_FORMAT: Final = {"bf16": 500, "fp8": 200}
ATTENTION_ROWS: Final = 160
LEAST_SIZE: Final = 256
TOKENS: Final = frozenset({64, 96, 128, 192, 256, 512, 768, 1024, 1536, 2048, 3072, 4096})
MORE_TOKENS: Final = frozenset({8192, 16384, 32768})
LEAST_SEQUENCE: Final = 512
LEAST_COLLECTIVE_BYTES: Final = 1024


_NUMBER: Final = re.compile(r"[0-9]{1,18}")
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


@frozen
class Chosen:
    """One table of the package.

    Attributes:
        path: Of the Parquet file.
        version: Directory that it was found under, of a framework or of NCCL.
        framework: That called the kernels.
    """

    path: Path
    version: str
    framework: str


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
    root, version = _root(folder)
    systems = sorted(path.name for path in root.iterdir() if path.is_dir())
    if system not in systems:
        hint = nearest(system, systems)
        raise TableError(f"{root}: no system {system!r}{hint}; there are {', '.join(systems)}")
    run = f"{PACKAGE}-{version}-{system}"
    rows: list[Row] = []
    files = []
    for family, framework, table, convert in _TABLES:
        chosen = _newest(root / system / family / framework, table)
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


def _root(folder: Path | None) -> tuple[Path, str]:
    if folder is not None:
        for root in (folder / DATA, folder / "systems" / "data", folder):
            if any(root.glob("*/*/*/*/*.parquet")):
                return root, _version_beside(root)
        raise TableError(f"{folder}: holds no tables of {PACKAGE} (<system>/gemm/.../*.parquet)")
    try:
        installed = distribution(PACKAGE)
    except PackageNotFoundError as error:
        words = f"{PACKAGE} is not installed: `pip install {PACKAGE}`, or name its unpacked wheel"
        raise TableError(f"{words} with --folder") from error
    return Path(str(installed.locate_file(DATA))), installed.version


def _version_beside(root: Path) -> str:
    """Version of an unpacked wheel, from the name of its metadata's folder."""
    for parent in list(root.parents)[:4]:
        for info in sorted(parent.glob("aiconfigurator_core-*.dist-info")):
            return info.name.removeprefix("aiconfigurator_core-").removesuffix(".dist-info")
    return "unknown"


def _newest(folder: Path, table: str) -> Chosen | None:
    """The table of the newest version that has one, its own or another's by reuse.yaml."""
    if not folder.is_dir():
        return None
    versions = sorted((path.name for path in folder.iterdir() if path.is_dir()), key=_order)
    for version in reversed(versions):
        source = version
        for _ in range(MAX_REUSE):
            path = folder / source / f"{table}.parquet"
            if path.is_file():
                return Chosen(path, source, folder.name)
            alias = _reused(folder / source / "reuse.yaml", table)
            if alias is None:
                break
            source = alias
    return None


def _order(version: str) -> tuple[tuple[int, int | str], ...]:
    parts = version.replace("rc", ".rc.").replace("post", ".post.").split(".")
    return tuple((1, int(part)) if _NUMBER.fullmatch(part) else (0, part) for part in parts if part)


def _reused(path: Path, table: str) -> str | None:
    if not path.is_file():
        return None
    try:
        import yaml  # noqa: PLC0415 - needed by this format alone
    except ImportError as error:
        raise TableError(f"{path}: reading it needs PyYAML: `pip install pyyaml`") from error
    try:
        text = read_text(path, TableError, MAX_REUSE_BYTES)
        check_plain(path, text, TableError)
        entries = yaml.safe_load(text)["reuse"]
        found = [str(entry["from_version"]) for entry in entries if entry["table"] == table]
    except (*YAML_ERRORS, RecursionError, yaml.YAMLError) as error:
        raise TableError(f"{path}: cannot be read as a list of reused tables: {error}") from error
    if found and Path(found[0]).name != found[0]:
        raise TableError(f"{path}: from_version = {found[0]!r} is no version")
    return found[0] if found else None


Record = Mapping[str, Any]
Found = list[tuple[Operator, float]]


def _records(chosen: Chosen, columns: tuple[str, ...]) -> Iterator[tuple[str, Record]]:
    """Place and cells of each row."""
    path = chosen.path
    try:
        from pyarrow import ArrowException, parquet  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise TableError(f"{path}: reading Parquet needs pyarrow: `pip install pyarrow`") from error
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise TableError(f"{path}: larger than {MAX_FILE_BYTES} bytes")
        table = parquet.read_table(path)
    except (OSError, ValueError, ArrowException) as error:
        raise TableError(f"{path}: cannot be read as Parquet: {error}") from error
    for column in (*columns, "latency"):
        if column not in table.column_names:
            known = ", ".join(table.column_names)
            raise TableError(f"{path}: column {column!r} is missing; there are {known}")
    optional = [name for name in ("window_size", "step") if name in table.column_names]
    for number, record in enumerate(table.select([*columns, *optional, "latency"]).to_pylist()):
        yield f"{path}, row {number}", record


def _seconds(place: str, record: Record) -> float:
    latency = record["latency"]
    if not isinstance(latency, int | float) or not isfinite(latency) or latency <= 0:
        raise TableError(
            f"{place}: latency = {latency!r} must be a positive number of milliseconds"
        )
    return float(latency) * MILLISECONDS


def _count(place: str, record: Record, column: str) -> int:
    value = record[column]
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise TableError(f"{place}: {column} = {value!r} must be a positive whole number")
    return value


def _possible(place: str, gpu: Gpu, operator: Operator, dtype: str, seconds: float) -> bool:
    """Whether the datasheet rates the format at all.

    Raises:
        TableError: The row is faster than the datasheet's peak.
    """
    peak = gpu.peak_flops_per_second.get(dtype)
    if peak is None:
        return False
    least = operator.flops / peak
    if seconds < least:
        raise TableError(
            f"{place}: {seconds:.3g} s is faster than physics: {operator.flops:.3g} flops take "
            f"{least:.3g} s at the {peak:.4g} flop/s of {gpu.sku}"
        )
    return True


_FORMATS: Final = {"bfloat16": "bf16", "fp8": "fp8"}
_KERNELS: Final = frozenset({"torch_flow"})
_QUANTIZE: Final = ("computescale_perf", "scale_matrix_perf")
LEAST_SHARE: Final = 0.5
"""An fp8 call that is a cast for more than the rest says too little about the product in it."""


def _gemm(chosen: Chosen, gpu: Gpu) -> Found:
    found: dict[str, dict[Operator, float]] = {dtype: {} for dtype in ROWS_BY_FORMAT}
    columns = ("m", "n", "k", "gemm_dtype", "kernel_source")
    casts: dict[tuple[int, int], float] | None = None
    for place, record in _records(chosen, columns):
        dtype = _FORMATS.get(record["gemm_dtype"])
        m, n, k = (_count(place, record, column) for column in "mnk")
        seconds = _seconds(place, record)
        wanted = m in TOKENS | MORE_TOKENS and min(n, k) >= LEAST_SIZE
        if dtype is None or record["kernel_source"] not in _KERNELS or not wanted:
            continue
        operator = Gemm(m=m, n=n, k=k, dtype=dtype)
        if not _possible(place, gpu, operator, dtype, seconds):
            continue
        if dtype == "fp8":
            casts = _casts(chosen) if casts is None else casts
            alone = seconds - casts.get((m, k), seconds)
            if alone < max(
                LEAST_SHARE * seconds, operator.flops / gpu.peak_flops_per_second[dtype]
            ):
                continue
            seconds = alone
        found[dtype].setdefault(operator, seconds)
    return [pair for dtype, rows in found.items() for pair in _thinned(rows, ROWS_BY_FORMAT[dtype])]


def _casts(gemms: Chosen) -> dict[tuple[int, int], float]:
    """Seconds before an fp8 product, by the sizes of its input; empty without both tables."""
    folder = gemms.path.parents[3] / "quantize" / gemms.framework
    total: dict[tuple[int, int], list[float]] = {}
    for table in _QUANTIZE:
        chosen = _newest(folder, table)
        if chosen is None:
            return {}
        for place, record in _records(chosen, ("m", "k", "quant_dtype")):
            if record["quant_dtype"] == "fp8":
                sizes = _count(place, record, "m"), _count(place, record, "k")
                total.setdefault(sizes, []).append(_seconds(place, record))
    return {sizes: sum(parts) for sizes, parts in total.items() if len(parts) == len(_QUANTIZE)}


def _attention(chosen: Chosen, gpu: Gpu) -> Found:
    found: dict[Operator, float] = {}
    names = ("batch_size", "isl", "num_heads", "num_key_value_heads", "head_dim")
    columns = (*names, "attn_dtype", "kv_cache_dtype", "kernel_source")
    for place, record in _records(chosen, columns):
        batch, length, heads, groups, width = (_count(place, record, name) for name in names)
        seconds = _seconds(place, record)
        plain = record["attn_dtype"] == record["kv_cache_dtype"] == "bfloat16"
        prefill = not record.get("window_size") and not record.get("step")
        if record["kernel_source"] != "vllm_flash_attn" or not plain or not prefill:
            continue
        if length < LEAST_SEQUENCE or heads % groups:
            continue
        operator = Attention(
            batch=batch,
            num_heads=heads,
            num_query_groups=groups,
            seq_length=length,
            head_dim=width,
            impl="flash",
        )
        if _possible(place, gpu, operator, "bf16", seconds):
            found.setdefault(operator, seconds)
    return _thinned(found, ATTENTION_ROWS)


_COLLECTIVES: Final = {
    "all_reduce": "all_reduce",
    "all_gather": "all_gather",
    "reduce_scatter": "reduce_scatter",
    "alltoall": "all_to_all",
}


def _nccl(chosen: Chosen, gpu: Gpu) -> Found:
    found: dict[Operator, float] = {}
    columns = ("op_name", "nccl_dtype", "num_gpus", "message_size")
    for place, record in _records(chosen, columns):
        ranks = _count(place, record, "num_gpus")
        size = 2 * _count(place, record, "message_size")
        seconds = _seconds(place, record)
        name = _COLLECTIVES.get(record["op_name"])
        if name is None or record["nccl_dtype"] != "half" or size < LEAST_COLLECTIVE_BYTES:
            continue
        operator = OPERATORS[name](  # type: ignore[call-arg]
            bytes=size,
            ranks=ranks,
            ranks_per_node=ranks,
            dtype="fp16",
            nvls=gpu.switches_reduce,
        )
        found.setdefault(operator, seconds)
    return list(found.items())


def _thinned(found: Mapping[Operator, float], most: int) -> Found:
    """A sample by hash of the shape: without order, and the same each time."""
    chosen = sorted(found, key=lambda op: hashlib.sha256(repr(op).encode()).digest())[:most]
    kept = frozenset(chosen)
    return [(operator, seconds) for operator, seconds in found.items() if operator in kept]


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


_TABLES: Final[tuple[tuple[str, str, str, Callable[[Chosen, Gpu], Found]], ...]] = (
    ("gemm", "trtllm", "gemm_perf", _gemm),
    ("attention", "vllm", "context_attention_perf", _attention),
    ("comm", "nccl", "nccl_perf", _nccl),
)
