"""What is taken from each table of aiconfigurator-core, as operators with seconds.

    gemm       bfloat16 and per-tensor fp8 as TensorRT-LLM's PyTorch flow calls the library: its
               H100 table agrees with our own cuBLAS rows within 0.1 % (median of 116 shapes).
               An fp8 call begins with a search for the largest magnitude and a cast of its bf16
               input (``collector/trtllm/collect_gemm.py``); both have tables of their own
               (quantize) and are taken off: 1.7 % from our H100 rows (median of 24 shapes)
    attention  causal prefill by FlashAttention-2, where vLLM used it (Ampere)
    nccl       nccl-tests inside a node; ``message_size`` counts elements, not bytes

Latencies are milliseconds. Shapes are thinned by a hash of the shape, so that a rerun keeps the
same ones. Left out: other number formats, decoding, generation and custom collectives.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from math import isfinite
from typing import Any, Final

from predictor.case import Gpu
from predictor.errors import TableError
from predictor.operators import OPERATORS, Attention, Gemm, Operator
from predictor.tables.importers.aiconfigurator_package import Chosen, newest_table

MILLISECONDS: Final = 1e-3
MAX_FILE_BYTES: Final = 256 * 2**20
ROWS_BY_FORMAT: Final = {"bf16": 500, "fp8": 200}
ATTENTION_ROWS: Final = 160
LEAST_SIZE: Final = 256
TOKENS: Final = frozenset({64, 96, 128, 192, 256, 512, 768, 1024, 1536, 2048, 3072, 4096})
MORE_TOKENS: Final = frozenset({8192, 16384, 32768})
LEAST_SEQUENCE: Final = 512
LEAST_COLLECTIVE_BYTES: Final = 1024

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
        chosen = newest_table(folder, table)
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


TABLES: Final[tuple[tuple[str, str, str, Callable[[Chosen, Gpu], Found]], ...]] = (
    ("gemm", "trtllm", "gemm_perf", _gemm),
    ("attention", "vllm", "context_attention_perf", _attention),
    ("comm", "nccl", "nccl_perf", _nccl),
)
