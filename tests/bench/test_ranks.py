"""Ranks of one host, on a double whose collectives wait for each other, and their faults."""

import importlib
import os
import runpy
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ranks_double import FAULTS, SLOWED_BYTES, toy_seconds

from predictor.bench import session
from predictor.bench.main import Outcome
from predictor.bench.messages import Start
from predictor.bench.options import Options, ranks_of
from predictor.bench.points import Point
from predictor.bench.ranks import launch
from predictor.bench.ranks.choices import (
    Choices,
    choices,
    log_settings,
    settings_here,
)
from predictor.bench.ranks.member import gpu_index
from predictor.bench.ranks.rounds import Beside
from predictor.errors import BenchError
from predictor.operators import (
    AllGather,
    AllReduce,
    AllToAll,
    Interference,
    SendRecv,
)
from predictor.tables import read_folder

pytestmark = pytest.mark.usefixtures("ranks_environment")
promise = runpy.run_path(str(Path(__file__).with_name("faults.py")))["FAULTS"].__getitem__

Measure = Callable[..., Outcome]


@pytest.fixture
def together(measure: Measure) -> Measure:
    """Measure points on two ranks or more."""

    def measure_together(*points: Point, **options: Any) -> Outcome:
        return measure(*points, **{"gpus": 2, "native_module": "ranks_double"} | options)

    return measure_together


def all_reduce(size: int, ranks: int = 2, **fields: Any) -> Point:
    return Point(operator=AllReduce(bytes=size, ranks=ranks, ranks_per_node=ranks, **fields))


def statuses(outcome: Outcome) -> dict[int, str]:
    return {row.operator.bytes: row.status for row in outcome.rows}


def test_seconds_are_the_slowest_ranks(together: Measure) -> None:
    outcome = together(all_reduce(1 << 20), all_reduce(1 << 30))
    assert outcome.exit_code == 0
    rows = {row.operator.bytes: row for row in outcome.rows}
    for size, row in rows.items():
        assert row.status == "ok"
        assert row.rounds == 3
        assert row.seconds == pytest.approx(toy_seconds(size, 1), rel=0.03)
        assert row.seconds > toy_seconds(size, 1)
    folder = read_folder(outcome.folder)
    device = folder.runs[outcome.run]["device"]
    assert (device["gpus"], device["nodes"]) == (2, 1)
    assert folder.runs[outcome.run]["environment"]["NCCL_NVLS_ENABLE"] == "0"
    assert folder.runs[outcome.run]["libraries"]["nccl"] == "2.28.9"


def test_four_ranks_form_groups_pairs_and_rings(together: Measure) -> None:
    points = [
        all_reduce(4096, 4),
        all_reduce(4096, 2, groups=2),
        Point(operator=AllToAll(bytes=4096, ranks=4, ranks_per_node=4, pattern="uneven")),
        Point(operator=SendRecv(bytes=4096, ranks=4, ranks_per_node=4, pattern="ring")),
        Point(operator=SendRecv(bytes=4096, ranks=2, ranks_per_node=2, source=3, destination=1)),
        Point(operator=AllGather(bytes=4096, ranks=2, ranks_per_node=2)),
    ]
    outcome = together(*points, gpus=4)
    assert [row.status for row in outcome.rows] == ["ok"] * len(points)
    slowest = {row.operator: row.seconds for row in outcome.rows}
    for point, rank in zip(points, (3, 3, 3, 3, 3, 1), strict=True):
        assert slowest[point.operator] == pytest.approx(toy_seconds(4096, rank), rel=0.05)


def test_what_cannot_be_placed_is_unsupported(together: Measure) -> None:
    outcome = together(
        all_reduce(1024, 4),
        Point(operator=AllReduce(bytes=2048, ranks=2, ranks_per_node=1)),
        all_reduce(4096),
    )
    assert statuses(outcome) == {1024: "unsupported", 2048: "unsupported", 4096: "ok"}


def test_each_side_of_a_pair_is_slower_beside_the_other(together: Measure) -> None:
    shape = "m=8192 n=4096 k=4096"
    sides = [
        Interference(
            compute="gemm",
            shape=shape,
            collective="all_gather",
            bytes=1 << 24,
            ranks=2,
            ranks_per_node=2,
            side=side,
            concurrent=concurrent,
        )
        for side in ("compute", "collective")
        for concurrent in (False, True)
    ]
    outcome = together(*(Point(operator=side) for side in sides))
    seconds = {(r.operator.side, r.operator.concurrent): r.seconds or 0 for r in outcome.rows}
    assert seconds["compute", True] / seconds["compute", False] == pytest.approx(1.1)
    assert seconds["collective", True] / seconds["collective", False] == pytest.approx(1.5)
    assert {row.samples for row in outcome.rows if row.operator.side == "compute"} == {3 * 24}
    assert {row.samples for row in outcome.rows if row.operator.side == "collective"} == {3 * 23}


def test_a_collective_that_waits_for_kernels_is_counted_in_shorter_intervals(
    together: Measure,
) -> None:
    side = Interference(
        compute="gemm",
        shape="m=8192 n=4096 k=4096",
        collective="all_gather",
        bytes=SLOWED_BYTES,
        ranks=2,
        ranks_per_node=2,
        side="collective",
        concurrent=True,
    )
    (row,) = together(Point(operator=side)).rows
    assert row.status == "ok"
    assert row.samples == 3 * 23


@pytest.mark.parametrize(
    ("seconds", "counts"),
    [
        ((300e-6, 200e-6), (3, 4, 24)),  # 24 windows of 833 µs
        ((2.5e-3, 20e-6), (1, 20, 24)),  # a short collective may come to wait for a kernel
        ((20e-6, 10e-3), (500, 1, 24)),  # a long one is given as many kernels as it lasts
        ((5e-6, 10e-3), (20, 1, 24)),  # but none that the host launches more slowly than they run
        ((20e-3, 0.4), (20, 1, 6)),  # and a few suffice
    ],
)
def test_both_sides_of_a_pair_are_kept_busy_alike(
    seconds: tuple[float, float], counts: tuple[int, int, int]
) -> None:
    plan = Beside.plan(*seconds)
    assert (plan.compute_calls, plan.collective_calls, plan.intervals) == counts


def test_a_rank_that_fails_costs_its_point(together: Measure) -> None:
    expected = {"killed": "crash", "sticky": "crash", "wrong": "crash", "crowded": "oom"}
    begin = time.monotonic()
    bad = [all_reduce(FAULTS[name]) for name in ("killed", "wrong", "crowded")]
    other = Point(operator=AllGather(bytes=FAULTS["sticky"], ranks=2, ranks_per_node=2))
    outcome = together(all_reduce(1024), *bad, other)
    assert time.monotonic() - begin < 50  # those who waited for it did not wait for ever
    assert statuses(outcome) == {1024: "ok"} | {FAULTS[n]: s for n, s in expected.items()}
    assert outcome.exit_code in promise("rank dead").exit_codes
    notes = read_folder(outcome.folder).runs[outcome.run]["failures"]
    assert sum("rank 1" in note for note in notes) == 3
    assert sum("wrong result" in note for note in notes) == 1


def test_a_rank_that_hangs_is_killed_with_those_that_wait_for_it(
    together: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_SAMPLE_MARGIN_SECONDS", -9.0)
    outcome = together(all_reduce(1024), all_reduce(FAULTS["hangs"]), all_reduce(4096))
    assert statuses(outcome) == {1024: "ok", FAULTS["hangs"]: "timeout", 4096: "ok"}
    assert outcome.exit_code in promise("rank silent").exit_codes


def test_a_slow_rank_is_waited_for_and_its_own_clock_counts(together: Measure) -> None:
    outcome = together(all_reduce(FAULTS["slow"]))
    assert outcome.exit_code in promise("rank slow").exit_codes
    (row,) = outcome.rows
    assert row.status == "ok"
    assert row.seconds == pytest.approx(toy_seconds(FAULTS["slow"], 1), rel=0.03)


def test_curves_of_other_settings_are_not_mixed(
    together: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    together(all_reduce(1024))
    monkeypatch.setenv("NCCL_ALGO", "Tree")
    with pytest.raises(BenchError, match="nccl_environment was"):
        together(all_reduce(1024), all_reduce(2048), resume=True)
    monkeypatch.delenv("NCCL_ALGO")
    monkeypatch.setenv("DOUBLE_NCCL", "2.29.1")
    with pytest.raises(BenchError, match="libraries was"):
        together(all_reduce(1024), all_reduce(2048), resume=True)


def test_the_number_of_ranks_is_all_gpus_or_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "visible_gpus", lambda _: 4)
    everything = ranks_of(Options(), None)
    assert everything is not None
    assert (everything.gpus, everything.gpus_per_node, everything.nvls) == (4, 4, False)
    assert ranks_of(Options(operators=("gemm",)), None) is None
    with pytest.raises(BenchError, match="CUDA sees 4"):
        ranks_of(Options(gpus=8), None)
    with pytest.raises(BenchError, match="all_reduce needs two GPUs or more"):
        ranks_of(Options(gpus=1, operators=("gemm", "all_reduce")), None)
    with pytest.raises(BenchError, match="unset it"):
        ranks_of(Options(nvls=True), None)


def test_the_librarys_choices_are_read_as_its_log_grows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name = f"nccl.{socket.gethostname().partition('.')[0]}.{os.getpid()}.log"
    monkeypatch.setenv("NCCL_DEBUG_FILE", log_settings(str(tmp_path), {})["NCCL_DEBUG_FILE"])
    words = "host:1:2 [0] NCCL INFO AllReduce: 1048576 Bytes -> Algo {} proto {} channel"
    with (tmp_path / name).open("w") as log:
        reader = Choices()
        assert reader.latest() == ""
        log.write(words.format("RING", "LL") + "{Lo..Hi}={0..0}\n")
        log.write(words.format("TREE", "LL128") + "{Lo..Hi}={0..15}\n")
        log.flush()
        assert reader.latest() == "TREE LL128 16"
        assert reader.latest() == ""
        log.write(words.format("RING", "SIMPLE") + "{Lo..Hi}={0..23}\n")
        log.flush()
        assert reader.latest() == "RING SIMPLE 24"
    assert log_settings(str(tmp_path), {"NCCL_DEBUG": "WARN"}) == {}
    elsewhere = {"NCCL_DEBUG_FILE": "/nowhere/log", "NCCL_DEBUG": "INFO", "NCCL_ALGO": "Ring"}
    assert settings_here(elsewhere) == {"NCCL_ALGO": "Ring"}


def test_choices_are_told_by_the_size_from_which_they_hold() -> None:
    paths = {1024: "RING LL 1", 2048: "RING LL 1", 4096: "RING LL128 4", 8192: ""}
    records = [
        {
            "operator": "all_reduce",
            "fields": {"bytes": size, "ranks": 2},
            "rounds": [{"path": path}],
        }
        for size, path in reversed(paths.items())
    ]
    assert choices(records) == {
        "all_reduce": [
            "ranks=2: from 1024 bytes RING LL 1",
            "ranks=2: from 4096 bytes RING LL128 4",
        ]
    }


def test_a_launcher_may_show_each_rank_its_own_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    native = importlib.import_module("ranks_double")
    for count, index in ((1, 0), (8, 3)):
        monkeypatch.setattr(native, "cuda_device_count", lambda count=count: count)
        assert gpu_index(Start(device="cuda", index=3, native_module="ranks_double")) == index
