"""Foreign measurements: every version's log, the tables of a wheel, and what is wrong in them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from predictor.case import load_gpu
from predictor.cli import run
from predictor.errors import TableError
from predictor.operators import AllGather, AllReduce, AllToAll, Attention, Gemm
from predictor.tables import read_folder
from predictor.tables.importers import read_aiconfigurator, read_nccl_tests, write_import
from predictor.tables.importers.nccl_logs import read_log

if TYPE_CHECKING:
    from pathlib import Path

A100, H100 = load_gpu("a100-sxm4-80gb"), load_gpu("h100-sxm5-80gb")
SOURCE = "the test suite, 2026"

RANKS = "\n".join(
    f"#   Rank  {i} Pid 1124 on node-{i // 4} device  {i} [0x00] A100" for i in range(8)
)
OLD = f"""\
# nThread 1 nGpus 8 minBytes 1 maxBytes 8589934592 step: 2(factor) warmup iters: 5 iters: 20
# Using devices
{RANKS}
#
#                                                     out-of-place                       in-place
#       size         count    type   redop     time   algbw   busbw  error     time   algbw   busbw
#        (B)    (elements)                     (us)  (GB/s)  (GB/s)            (us)  (GB/s)  (GB/s)
node-0:3442:3442 [0] NCCL INFO Launch mode Parallel
           0             0   float     sum    35.20    0.00    0.00    N/A    34.05    0.00    0.00
     1048576        262144   float     sum    74.78   14.02   24.54    N/A    76.17   13.77   24.09
  8589934592    2147483648   float     sum    63896  134.44  235.26    N/A    63959  134.30  235.03
# Avg bus bandwidth    : 68.4048
"""
NEW_RANKS = "\n".join(
    f"#  Rank {i:2d} Group {i // 2:2d} Pid {i} on h device {i} [0000:01:00] NVIDIA H100"
    for i in range(4)
)
NEW = f"""\
# nccl-tests version 2.17.6 nccl-headers=22809 nccl-library=22809
# Collective test starting: all_gather_perf
# nThread 1 nGpus 1 minBytes 8 maxBytes 128 step: 2(factor) warmup iters: 1 iters: 20 agg iters: 1
# Using devices
{NEW_RANKS}
#
#                              out-of-place              in-place
#  size  count  type redop root time algbw busbw #wrong time algbw busbw #wrong timestamp
#   (B)  (elements)             (us) (GB/s) (GB/s)     (us) (GB/s) (GB/s) %Y-%m-%d %H:%M:%S
2097152 131072 bfloat16 none -1 22.00 95.33 83.41 0 21.00 99.86 87.38 0 2026-01-01 12:00:00
"""
WRONG = {"time": 50.0, "nwrong": 7}
BLANK_REDOP = OLD.replace("float     sum", "float        ")


def log(folder: Path, text: str, name: str = "all_reduce.log") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_an_old_log_gives_in_place_all_reduces_of_its_hosts(tmp_path: Path) -> None:
    imported = read_nccl_tests([log(tmp_path, OLD)], A100, source=SOURCE)
    first, second = imported.rows
    assert first.operator == AllReduce(
        bytes=1048576, ranks=8, ranks_per_node=4, dtype="fp32", nvls=False
    )
    assert first.seconds == pytest.approx(76.17e-6)
    assert second.seconds == pytest.approx(63959e-6)
    assert imported.provenance["source"] == SOURCE


def test_a_new_log_names_its_program_its_groups_and_a_time_of_day(tmp_path: Path) -> None:
    (row,) = read_nccl_tests([log(tmp_path, NEW, "run-7.txt")], H100, source=SOURCE).rows
    assert row.operator == AllGather(
        bytes=2097152, ranks=2, ranks_per_node=2, dtype="bf16", nvls=True, groups=2
    )
    assert row.seconds == pytest.approx(22e-6)  # ours gathers out of place


def test_an_empty_redop_moves_no_column(tmp_path: Path) -> None:
    path = log(tmp_path, BLANK_REDOP, "nccl_alltoall.log")
    row = read_nccl_tests([path], A100, source=SOURCE, collective="all_to_all").rows[0]
    assert isinstance(row.operator, AllToAll)
    assert row.seconds == pytest.approx(74.78e-6)


@pytest.mark.parametrize("tag", ["[1,0]<stdout>:", " 0: ", "(head, rank=0, pid=3808) ", "    "])
def test_a_tag_of_the_launcher_before_each_line_is_passed_over(tmp_path: Path, tag: str) -> None:
    tagged = "\n".join(tag + line for line in NEW.splitlines())
    (row,) = read_nccl_tests([log(tmp_path, tagged)], H100, source=SOURCE).rows
    assert isinstance(row.operator, AllGather)
    assert row.operator.groups == 2
    assert row.seconds == pytest.approx(22e-6)


def test_a_program_built_beside_mpi_is_known_by_its_name(tmp_path: Path) -> None:
    text = NEW.replace("all_gather_perf", "all_gather_perf_mpi")
    (row,) = read_nccl_tests([log(tmp_path, text, "run.log")], H100, source=SOURCE).rows
    assert isinstance(row.operator, AllGather)


def test_types_that_nobody_trains_with_are_left_out(tmp_path: Path) -> None:
    row = OLD.splitlines()[-2].replace("float", " int8")
    text = OLD.replace("# Avg", f"{row}\n# Avg")
    read = read_nccl_tests([log(tmp_path, text)], A100, source=SOURCE)
    assert len(read.rows) == 2


def test_two_logs_are_two_rounds(tmp_path: Path) -> None:
    again = OLD.replace("76.17", "80.17")
    paths = [log(tmp_path, OLD, "all_reduce_1.log"), log(tmp_path, again, "all_reduce_2.log")]
    row = read_nccl_tests(paths, A100, source=SOURCE).rows[0]
    assert (row.seconds_low, row.seconds, row.seconds_high) == pytest.approx(
        (76.17e-6, 78.17e-6, 80.17e-6)
    )


def as_json(**changes: Any) -> dict[str, Any]:
    devices = [{"rank": i, "group": 0, "hostname": "h"} for i in range(2)]
    timing = {"time": 50.0, "alg_bw": 1.0, "bus_bw": 1.0, "nwrong": None}
    return {
        "version": 2,
        "args": ["./build/all_reduce_perf", "-b", "8"],
        "env": ["NCCL_NVLS_ENABLE=0"],
        "config": {"nthreads": 1, "ngpus": 1, "devices": devices},
        "results": [{"size": 4096, "type": "half", "out_of_place": timing, "in_place": timing}],
        **changes,
    }


def test_json_says_the_same_and_that_nvls_was_off(tmp_path: Path) -> None:
    path = log(tmp_path, json.dumps(as_json()), "out.json")
    (row,) = read_nccl_tests([path], H100, source=SOURCE).rows
    assert row.operator == AllReduce(bytes=4096, ranks=2, ranks_per_node=2, dtype="fp16")
    assert row.seconds == pytest.approx(50e-6)


@pytest.mark.parametrize(
    ("name", "sku"),
    [
        ("NVIDIA H100 80GB HBM3", "h100-sxm5-80gb"),
        ("NVIDIA A100-SXM4-40GB", "a100-sxm4-80gb"),
        ("NVIDIA GB200", "gb200"),
        ("NVIDIA Graphics Device", "h100-sxm5-80gb"),
    ],
)
def test_a_log_of_the_named_chip_or_of_none_is_taken(tmp_path: Path, name: str, sku: str) -> None:
    path = log(tmp_path, NEW.replace("NVIDIA H100", name))
    assert read_nccl_tests([path], load_gpu(sku), source=SOURCE).rows


@pytest.mark.parametrize(
    ("name", "sku"),
    [
        ("NVIDIA H200", "h100-sxm5-80gb"),
        ("NVIDIA GB200", "b200-sxm"),
        ("NVIDIA GH200 480GB", "h200-sxm5-141gb"),
        ("NVIDIA A100-SXM4-80GB", "h100-sxm5-80gb"),
        ("NVIDIA H200 NVL", "h200-sxm5-141gb"),
        ("NVIDIA A100-PCIE-40GB", "a100-sxm4-40gb"),
    ],
)
def test_a_log_of_another_gpu_is_refused_with_the_way_out(
    tmp_path: Path, name: str, sku: str
) -> None:
    told = f"ranks ran on '{name}', not on a {sku}: name the SKU that was measured with --gpu"
    text = log(tmp_path, NEW.replace("NVIDIA H100", name))
    with pytest.raises(TableError, match=re.escape(told)):
        read_nccl_tests([text], load_gpu(sku), source=SOURCE)
    devices = [{"rank": i, "group": 0, "hostname": "h", "device_info": name} for i in range(2)]
    raw = as_json(config={"nthreads": 1, "ngpus": 1, "devices": devices})
    with pytest.raises(TableError, match=re.escape(told)):
        read_nccl_tests([log(tmp_path, json.dumps(raw), "out.json")], load_gpu(sku), source=SOURCE)


@pytest.mark.parametrize("hosts", [["h"], ["h", "i"]])
def test_json_counts_all_gpus_of_a_process_that_lists_its_first(
    tmp_path: Path, hosts: list[str]
) -> None:
    devices = [{"rank": 8 * at, "group": 0, "hostname": host} for at, host in enumerate(hosts)]
    raw = as_json(config={"nthreads": 2, "ngpus": 4, "devices": devices})
    found = read_log(log(tmp_path, json.dumps(raw), "out.json")).hosts
    assert found == tuple(host for host in hosts for _ in range(8))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no line of the list of devices"),
        (RANKS, "no timings"),
        (OLD.replace("76.17", "-1"), "must be a positive number"),
        (OLD.replace("76.17", "fast"), "must be a number of microseconds"),
        (OLD.replace("76.17", "nan"), "must be a positive number"),
        (OLD.replace("   float     sum    74.78", "  "), "cells under a header"),
        (OLD.replace("float", "int8"), "type 'int8' must be one of"),
        (OLD.replace("time", "cputime"), "times of the CPU"),
        (OLD + OLD, "rank 0 is there twice: a file holds one run"),
        (OLD.replace("Rank  3", "Rank  9"), "rank 3 is missing from the list of devices"),
        (OLD + "# Out of bounds values : 2 FAILED\n", "results were wrong; measure it again"),
        (NEW.replace("87.38 0", "87.38 5"), ":13: #wrong = 5: the result was wrong"),
        (NEW.replace("83.41 0", "83.41 1e+03"), "#wrong = 1e.03: the result was wrong"),
        ("{", "not JSON of nccl-tests"),
        ("{}", "not JSON of nccl-tests"),
        (json.dumps(as_json(results=[{"size": "x"}])), "not JSON of nccl-tests"),
        (
            json.dumps(as_json(results=[{"size": 1, "type": "half", "out_of_place": WRONG}])),
            "result 0: #wrong = 7: the result was wrong",
        ),
        (json.dumps(as_json(results=[[]])), "not JSON of nccl-tests"),
        ("\x00\xff" * 100, "no line of the list of devices"),
    ],
)
def test_a_bad_log_is_one_clear_error(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(TableError, match=words):
        read_nccl_tests([log(tmp_path, text)], A100, source=SOURCE)


@pytest.mark.parametrize("ranks_per_node", [0, 9])
def test_ranks_of_a_node_are_some_of_the_logs(tmp_path: Path, ranks_per_node: int) -> None:
    with pytest.raises(TableError, match=f"ranks_per_node = {ranks_per_node}: must be 1 to 8"):
        read_nccl_tests([log(tmp_path, OLD)], A100, source=SOURCE, ranks_per_node=ranks_per_node)


def test_a_log_that_names_no_collective_is_asked_for_it(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="say which it is with --collective"):
        read_nccl_tests([log(tmp_path, OLD, "run.log")], A100, source=SOURCE)
    other = log(tmp_path, "# Collective test starting: hypercube_perf\n" + OLD, "run.log")
    with pytest.raises(TableError, match="is of hypercube_perf; what is imported is all_reduce"):
        read_nccl_tests([other], A100, source=SOURCE)
    with pytest.raises(TableError, match="did you mean 'all_reduce'"):
        read_nccl_tests([log(tmp_path, OLD)], A100, source=SOURCE, collective="allreduce")


def test_the_command_writes_rows_with_their_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tables"
    command = ["import", "nccl-tests", str(log(tmp_path, OLD)), "--gpu", "a100-sxm4-80gb"]
    for _ in range(2):  # a second import replaces the first
        assert run([*command, "--source", SOURCE, "--out", str(out)]) == 0
    folder = read_folder(out)
    assert len(folder.tables["all_reduce"].rows) == 2
    (key,) = folder.runs
    assert {row.run for row in folder.tables["all_reduce"].rows} == {key}
    told = capsys.readouterr().out
    assert "2 rows" in told
    assert "move them to a folder called a100-sxm4-80gb" in told
    beside = tmp_path / "a100-sxm4-80gb"
    assert run([*command, "--source", SOURCE, "--out", str(beside)]) == 0
    after = f"now `PREDICTOR_BENCH_RESULTS={tmp_path} predictor fit a100-sxm4-80gb`"
    assert after in capsys.readouterr().out
    missing = ["import", "nccl-tests", str(tmp_path / "none"), *command[3:], "--source", SOURCE]
    assert run(missing) == 2
    assert "cannot be read" in capsys.readouterr().err


def wheel(folder: Path, tables: dict[str, list[dict[str, Any]]]) -> Path:
    """An unpacked wheel of a few rows."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet  # noqa: PLC0415 - absent where the test is skipped

    for name, rows in tables.items():
        path = folder / "aiconfigurator_core/systems/data/a100_sxm" / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    (folder / "aiconfigurator_core-9.9.dist-info").mkdir()
    return folder


def gemm(m: int = 1024, latency: float = 1.0, **changes: Any) -> dict[str, Any]:
    return {
        "m": m,
        "n": 4096,
        "k": 4096,
        "gemm_dtype": "bfloat16",
        "kernel_source": "torch_flow",
        "latency": latency,
        **changes,
    }


GEMMS = "gemm/trtllm/1.0.0/gemm_perf"
NCCL = {"op_name": "all_gather", "nccl_dtype": "half", "num_gpus": 8, "latency": 0.5}


def test_gemms_are_milliseconds_and_messages_count_elements(tmp_path: Path) -> None:
    folder = wheel(
        tmp_path,
        {
            GEMMS: [gemm(), gemm(gemm_dtype="int4_wo"), gemm(m=1025), gemm(m=2048, latency=2.0)],
            "comm/nccl/2.27.3/nccl_perf": [
                {**NCCL, "message_size": 2**20},
                {**NCCL, "message_size": 2**20, "nccl_dtype": "int8"},
            ],
        },
    )
    imported = read_aiconfigurator("a100_sxm", A100, folder=folder)
    assert imported.run == "aiconfigurator-core-9.9-a100_sxm"
    assert "Apache-2.0" in imported.provenance["licence"]
    assert {row.operator: row.seconds for row in imported.rows} == {
        Gemm(m=1024, n=4096, k=4096): pytest.approx(1e-3),
        Gemm(m=2048, n=4096, k=4096): pytest.approx(2e-3),
        AllGather(bytes=2**21, ranks=8, ranks_per_node=8, dtype="fp16"): pytest.approx(0.5e-3),
    }
    only = read_aiconfigurator("a100_sxm", A100, folder=folder, operators=["all_gather"])
    assert [row.operator.name for row in only.rows] == ["all_gather"]


def test_the_cast_before_an_fp8_product_is_taken_off(tmp_path: Path) -> None:
    cast = {"m": 1024, "k": 4096, "quant_dtype": "fp8"}
    quantize = "quantize/trtllm/1.0.0"
    folder = wheel(
        tmp_path,
        {
            # the second is a cast for most of its time, and nothing tells the third's
            GEMMS: [
                gemm(gemm_dtype="fp8"),
                gemm(gemm_dtype="fp8", n=2048, latency=0.4),
                gemm(gemm_dtype="fp8", m=2048),
            ],
            f"{quantize}/computescale_perf": [{**cast, "latency": 0.2}],
            f"{quantize}/scale_matrix_perf": [{**cast, "latency": 0.1}],
        },
    )
    (row,) = read_aiconfigurator("a100_sxm", H100, folder=folder).rows
    assert row.operator == Gemm(m=1024, n=4096, k=4096, dtype="fp8")
    assert row.seconds == pytest.approx(0.7e-3)


def test_only_flash_attention_2_is_called_flash(tmp_path: Path) -> None:
    row = {
        "batch_size": 2,
        "isl": 2048,
        "num_heads": 16,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "attn_dtype": "bfloat16",
        "kv_cache_dtype": "bfloat16",
        "latency": 1.0,
    }
    rows = [{**row, "kernel_source": name} for name in ("vllm_flash_attn", "fa3", "torch_flow")]
    folder = wheel(tmp_path, {"attention/vllm/0.14.0/context_attention_perf": rows})
    (found,) = read_aiconfigurator("a100_sxm", A100, folder=folder).rows
    assert found.operator == Attention(
        batch=2, num_heads=16, num_query_groups=4, seq_length=2048, head_dim=128, impl="flash"
    )


def test_a_version_may_reuse_the_table_of_another(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    folder = wheel(tmp_path, {GEMMS: [gemm()]})
    newer = folder / "aiconfigurator_core/systems/data/a100_sxm/gemm/trtllm/1.0.0rc1"
    newest = newer.with_name("1.2.0rc10")
    for each, words in (
        (newer, "x"),
        (newest, "reuse:\n- {table: gemm_perf, from_version: 1.0.0}\n"),
    ):
        each.mkdir()
        (each / "reuse.yaml").write_text(words, encoding="utf-8")
    imported = read_aiconfigurator("a100_sxm", A100, folder=folder)
    assert imported.provenance["files"] == ["a100_sxm/gemm/trtllm/1.0.0/gemm_perf.parquet"]
    (newest / "reuse.yaml").write_text("reuse: 7", encoding="utf-8")
    with pytest.raises(TableError, match="list of reused tables"):
        read_aiconfigurator("a100_sxm", A100, folder=folder)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([gemm(latency=0.0)], "must be a positive number of milliseconds"),
        ([gemm(latency=float("nan"))], "must be a positive number of milliseconds"),
        ([gemm(m=0)], "m = 0 must be a positive whole number"),
        ([gemm(latency=0.01)], "row 0: 1e-05 s is faster than physics"),
        ([{"m": 1}], "column 'n' is missing"),
        ([gemm(gemm_dtype="int4_wo")], "nothing in it is of use"),
    ],
)
def test_a_bad_wheel_is_one_clear_error(
    tmp_path: Path, rows: list[dict[str, Any]], words: str
) -> None:
    folder = wheel(tmp_path, {GEMMS: rows})
    with pytest.raises(TableError, match=words):
        write_import(read_aiconfigurator("a100_sxm", A100, folder=folder), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_parquet_or_no_wheel_is_refused(tmp_path: Path) -> None:
    folder = wheel(tmp_path, {GEMMS: [gemm()]})
    with pytest.raises(TableError, match=r"no system 'a100_sxn' .did you mean"):
        read_aiconfigurator("a100_sxn", A100, folder=folder)
    next(folder.rglob("*.parquet")).write_bytes(b"no")
    with pytest.raises(TableError, match="cannot be read as Parquet"):
        read_aiconfigurator("a100_sxm", A100, folder=folder)
    with pytest.raises(TableError, match="holds no tables of aiconfigurator-core"):
        read_aiconfigurator("a100_sxm", A100, folder=tmp_path / "nothing")
