"""Every kernel of the native operators under compute-sanitizer, on the GPU at hand.

    python benchmarks/sanitize_kernels.py [--tools memcheck racecheck initcheck] [--operators ...]

Each operator runs small shapes of all its implementations, checks included, in a process of its own
a tool. Buffers are allocations of their own, so that an access beyond one is seen and what was
never written counts as such. ``memcheck`` looks at the libraries' kernels too, as they are given
our sizes; ``racecheck`` and ``initcheck`` look at this project's kernels alone, because cuBLASLt,
cuDNN and NCCL synchronise and pad in ways of their own. Prints errors by operator and tool, keeps
the reports in ``--logs``, and ends with 1 where there is an error and with 2 where nothing ran.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from predictor.bench.points import Point
from predictor.operators import KERNELS, Attention, Gemm, GroupedGemm, Memcpy, MemoryBound
from predictor.operators import Optimizer as Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from predictor._native import Device
    from predictor.operators import Operator

TOOLS = ("memcheck", "racecheck", "initcheck")
OF_LIBRARIES = {"gemm", "grouped_gemm", "attention"}  # they launch no kernel of ours but fills
LIMIT_SECONDS = 280.0
FIRST_PORT = 49200
ERROR_CODE = 9
LARGEST_ERROR = 2e-2  # of a result, as bench-run allows

# Whole packs and a remainder, and one row; then what picks other kernels: a norm's width, a
# vocabulary, a number of experts.
SHAPES = ((64, 128), (17, 1002), (1, 8))
NORM_COLS = (256, 1024, 2048, 4096, 8192, 16384)
VOCABULARY = 50258
ROUTER_COLS = (8, 64, 160, 512)


def memory_bound() -> Iterator[Operator]:
    """Every kernel at every shape."""
    for kernel in sorted(KERNELS["native"]):
        copies = 8 if kernel.endswith("top8") else 2
        shapes: list[tuple[int, int]] = list(SHAPES)
        if kernel == "router_top_k":
            shapes = [(17, cols) for cols in ROUTER_COLS]
        elif "norm" in kernel:
            shapes += [(3, cols) for cols in NORM_COLS]
        elif kernel.startswith(("cross_entropy", "vocab")):
            shapes.append((2, VOCABULARY))
        for rows, cols in shapes:
            count = rows * copies if "permute" in kernel else rows
            yield MemoryBound(kernel=kernel, rows=count, cols=cols, impl="native")


def optimizer() -> Iterator[Operator]:
    """Flat buffers and lists of tensors, which end inside a pack, a block and a chunk."""
    for kernel, dtype in itertools.product(("adamw", "adamw_master"), ("bf16", "fp32")):
        for elements, tensors in ((1, 1), (1003, 1), (70_001, 1), (1003, 77), (140_000, 2)):
            yield Step(
                kernel=kernel, elements=elements, tensors=tensors, dtype=dtype, impl="native"
            )


def memcpy() -> Iterator[Operator]:
    """Copies launch no kernel of ours, but reading their ends back does."""
    for direction, pinned in (("h2d", True), ("h2d", False), ("d2h", True), ("d2d", True)):
        for size in (1, 1000, 10_001):
            yield Memcpy(direction=direction, bytes=size, pinned=pinned)


def gemm() -> Iterator[Operator]:
    """Each product of each format and entry point, and the epilogues."""
    apis = {"bf16": ("cublas", "cublaslt"), "fp16": ("cublas",), "tf32": ("cublas",)}
    for dtype, names in (apis | {"fp8": ("cublaslt",)}).items():
        for api, kind in itertools.product(names, ("forward", "dgrad", "wgrad")):
            yield Gemm(m=64, n=48, k=80, dtype=dtype, kind=kind, api=api)
    yield Gemm(m=7, n=13, k=33, api="cublaslt")
    yield Gemm(m=64, n=48, k=80, kind="wgrad", api="cublaslt", accumulate=True)
    for bias, gelu in ((True, False), (False, True), (True, True)):
        yield Gemm(m=64, n=48, k=80, api="cublaslt", bias=bias, gelu=gelu)


def grouped_gemm() -> Iterator[Operator]:
    """Every implementation and product, even and uneven."""
    for impl in ("looped", "multi_stream", "cublas_grouped", "cudnn_moe"):
        for kind, skew in itertools.product(("forward", "dgrad", "wgrad"), (0.0, 1.0)):
            yield GroupedGemm(tokens=256, experts=4, n=64, k=64, kind=kind, skew=skew, impl=impl)


def attention() -> Iterator[Operator]:
    """Both passes of the kinds of mask."""
    shape: dict[str, Any] = {"batch": 1, "num_heads": 2, "seq_length": 128, "head_dim": 64}
    variants: tuple[dict[str, Any], ...] = (
        {"num_query_groups": 1},
        {"num_query_groups": 2, "causal": False, "bias": True},
        {"num_query_groups": 2, "documents": 3, "seq_length": 200},
        {"num_query_groups": 2, "window": 32},
    )
    for variant, kind in itertools.product(variants, ("forward", "backward")):
        yield Attention(**shape | variant, kind=kind)


CASES: dict[str, Callable[[], Iterator[Operator]]] = {
    each.__name__: each for each in (memory_bound, optimizer, memcpy, gemm, grouped_gemm, attention)
}
NAMES = (*CASES, "host", "collectives")


# --- in the process that the tool watches ---------------------------------------------------------


def run_cases(name: str) -> str:
    """Run an operator's cases on the GPU; how many, and what the libraries do not serve."""
    from predictor import _native

    device = _native.Device("cuda", 0, separate_buffers=True)
    if name == "host":
        device.host_costs(samples=1)
        return "1 case"
    if name == "collectives":
        return f"{_collectives(device)} cases"
    done, refused = 0, []
    for operator in CASES[name]():
        try:
            _check(device, operator.name, Point(operator=operator).arguments, str(operator))
            done += 1
        except _native.Unsupported as reason:
            refused.append(f"{operator}: {str(reason).splitlines()[0]}")
    return "\n".join([f"{done} cases", *refused])


def _collectives(device: Device) -> int:
    """A group of one rank: NCCL copies, and our kernels write and count the patterns."""
    group = {"group": "alone"}
    device.join("alone", device.new_group_id(), ranks=1, rank=0)
    fields = [
        group | {"bytes": size, "dtype": dtype, "in_place": in_place}
        for size, dtype, in_place in itertools.product(
            (4, 1000, 70_000), ("bf16", "fp16", "fp32"), (True, False)
        )
    ]
    names = ("all_reduce", "all_gather", "reduce_scatter", "broadcast")
    for name, each in itertools.product(names, fields):
        _check(device, name, each, f"{name} {each}")
    return len(names) * len(fields)


def _check(device: Device, name: str, fields: dict[str, Any], words: str) -> None:
    size = 1e6  # only a cold cache asks for more than one set of buffers
    workload = device.prepare(
        name, fields, flops=0.0, bytes=size, working_set_bytes=size, cache="warm"
    )
    error = device.check(workload, seed=1)
    if not error <= LARGEST_ERROR:
        raise SystemExit(f"{words}: relative error {error:.3g}")


# --- the process that starts the tools ------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    """What one tool says of one operator.

    Attributes:
        errors: Number of them; None where the run did not end well.
        words: Cases that ran, or why it failed.
        seconds: Wall time.
    """

    errors: int | None
    words: str
    seconds: float

    def __str__(self) -> str:
        """A cell of the table."""
        count = "failed" if self.errors is None else str(self.errors)
        return f"{count} ({self.words}, {self.seconds:.0f} s)"


def sanitize(sanitizer: str, tool: str, name: str, *, port: int, logs: Path) -> Finding:
    """Run an operator's cases under a tool."""
    report = logs / f"{tool}-{name}.log"
    own = name == "collectives" or tool != "memcheck"
    command = [
        *(sanitizer, "--tool", tool, "--error-exitcode", str(ERROR_CODE), "--port", str(port)),
        *("--target-processes", "all", "--launch-timeout", "60"),
        # Calls that answer "not ready" or "not supported" are asked on purpose; ours are checked.
        *(("--report-api-errors", "no") if tool == "memcheck" else ()),
        *(("--kernel-name", "kns=predictor") if own else ()),
        *("--log-file", str(report), sys.executable, __file__, "--inside", name),
    ]
    began = time.monotonic()
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return Finding(None, f"more than {LIMIT_SECONDS:.0f} s", LIMIT_SECONDS)
    seconds = time.monotonic() - began
    said = report.read_text(encoding="utf-8") if report.exists() else ""
    report.write_text(f"{said}\n--- output\n{done.stdout}{done.stderr}", encoding="utf-8")
    summaries = [int(count) for count in re.findall(r"(?:ERROR|RACECHECK) SUMMARY: (\d+)", said)]
    if summaries and (any(summaries) or done.returncode == 0):
        return Finding(max(summaries), (done.stdout.splitlines() or ["nothing ran"])[0], seconds)
    last = [line for line in f"{said}\n{done.stderr}".splitlines() if line.strip()][-1:]
    return Finding(None, f"exit code {done.returncode}: {' '.join(last)}"[:120], seconds)


def main() -> int:
    """Run what is asked for; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tools", nargs="+", choices=(*TOOLS, "synccheck"), default=TOOLS)
    parser.add_argument("--operators", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--logs", type=Path, default=Path("sanitizer-logs"))
    parser.add_argument("--jobs", type=int, default=min(4, os.cpu_count() or 1))
    parser.add_argument("--sanitizer", default=shutil.which("compute-sanitizer"))
    parser.add_argument("--inside", choices=NAMES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        print(run_cases(arguments.inside))
        return 0
    if not arguments.sanitizer:
        print("compute-sanitizer is not on PATH; name it by --sanitizer", file=sys.stderr)
        return 2
    arguments.logs.mkdir(parents=True, exist_ok=True)
    asked = [
        (tool, name)
        for tool, name in itertools.product(arguments.tools, arguments.operators)
        if tool == "memcheck" or name not in OF_LIBRARIES
    ]
    with ThreadPoolExecutor(arguments.jobs) as threads:
        findings = list(
            threads.map(
                lambda each: sanitize(
                    arguments.sanitizer,
                    *each[1],
                    port=FIRST_PORT + 20 * each[0],
                    logs=arguments.logs,
                ),
                enumerate(asked),
            )
        )
    for (tool, name), finding in zip(asked, findings, strict=True):
        print(f"{tool:<10} {name:<13} {finding}")
    return int(any(finding.errors != 0 for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
