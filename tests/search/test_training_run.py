"""Whole runs: counting, carrying the interval, failures, prices."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor import Case, estimate
from predictor.errors import CaseError
from predictor.search.amounts import read_duration, read_tokens, read_usd
from predictor.search.failures import Failures
from predictor.search.prices import load_prices, price_names
from predictor.search.ramp import Ramp, batch_phases
from predictor.search.training_run import training_run

if TYPE_CHECKING:
    from pathlib import Path

CASE = Case.from_dict(
    {
        "model": {"preset": "llama3-8b"},
        "training": {"seq_length": 8192, "global_batch_size": 128},
        "plan": {"tensor_parallel": 2},
        "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 16},
    }
)


def test_a_run_is_its_iterations_and_as_uncertain_as_one_of_them() -> None:
    one = estimate(CASE)
    run = training_run(CASE, tokens=128 * 8192 * 1000)
    assert run.iterations == 1000
    assert run.seconds == pytest.approx(1000 * one.iteration_seconds)
    low, high = run.interval_seconds
    assert low == pytest.approx(1000 * one.interval_seconds[0])
    assert high == pytest.approx(1000 * one.interval_seconds[1])
    assert run.gpu_hours == pytest.approx(16 * run.seconds / 3600)
    assert run.usd == pytest.approx(run.gpu_hours * 6.88)
    assert run.joules == pytest.approx(1000 * one.joules_per_iteration)


def test_tokens_are_rounded_up_to_a_whole_iteration() -> None:
    run = training_run(CASE, tokens=128 * 8192 * 10 + 1)
    assert run.iterations == 11
    assert run.trained_tokens == 11 * 128 * 8192


def test_json_holds_an_interval_beside_every_figure() -> None:
    answer = json.loads(json.dumps(training_run(CASE, tokens=10**9).to_dict(), allow_nan=False))
    for name in ("seconds", "days", "gpu_hours", "usd", "mwh"):
        low, high = answer[f"interval_{name}"]
        assert low < answer[name] < high
    assert answer["price_source"]
    assert answer["price_date"]


def test_a_ramp_grows_as_megatron_counts() -> None:
    # 32 -> 128 in three steps of 1,000 samples: 32 x 32 = 1,024; 15 x 64 = 960 up to 1,984, one
    # more to 2,048; 10 x 96 = 960 up to 3,008; then 128.
    phases = batch_phases(
        total_samples=10_000,
        global_batch_size=128,
        ramp=Ramp(start=32, increment=32, samples=3000),
    )
    assert phases == [(32, 32), (64, 16), (96, 10), (128, 55)]
    assert sum(batch * count for batch, count in phases) == 10_048


@given(
    start=st.integers(1, 20),
    increment=st.integers(1, 20),
    steps=st.integers(1, 12),
    samples=st.integers(1, 5000),
    total=st.integers(1, 12_000),
)
def test_closed_counts_are_those_of_counting(
    start: int, increment: int, steps: int, samples: int, total: int
) -> None:
    batch = start + steps * increment
    counted: dict[int, int] = {}
    consumed = 0
    while consumed < total:
        step = steps if consumed > samples else consumed * steps // samples
        now = start + increment * step
        counted[now] = counted.get(now, 0) + 1
        consumed += now
    ramp = Ramp(start=start, increment=increment, samples=samples)
    phases = batch_phases(total_samples=total, global_batch_size=batch, ramp=ramp)
    assert dict(phases) == counted


def test_a_ramp_must_end_at_the_batch() -> None:
    with pytest.raises(CaseError, match=r"must end at global_batch_size \(128\)"):
        training_run(CASE, tokens=10**9, ramp=Ramp(start=48, increment=48, samples=10))
    with pytest.raises(CaseError, match="multiple of micro_batch_size x data_parallel"):
        training_run(CASE, tokens=10**9, ramp=Ramp(start=4, increment=4, samples=10**6))


def test_small_batches_cost_more_per_token() -> None:
    plain = training_run(CASE, tokens=10**10)
    ramped = training_run(CASE, tokens=10**10, ramp=Ramp(start=32, increment=32, samples=1_000_000))
    assert ramped.iterations > plain.iterations
    assert ramped.seconds > plain.seconds


def test_failures_cost_what_a_simulation_of_them_costs() -> None:
    failures = Failures(mtbf_seconds=5000.0, checkpoint_seconds=50.0, restart_seconds=200.0)
    every = failures.work_seconds
    # First order, Young: sqrt(2 * 50 * 5000) = 707 s, of which the 50 s of the checkpoint go.
    assert every == pytest.approx(707.1 * (1 + math.sqrt(0.005) / 3 + 0.005 / 9) - 50, rel=1e-3)
    rng = np.random.default_rng(7)
    segments, clock = 40_000, 0.0
    for _ in range(segments):
        needed = every + 50.0
        while (fails := rng.exponential(5000.0)) < needed:  # lost; a restart may fail itself
            clock += fails
            needed = 200.0 + every + 50.0
        clock += needed
    assert failures.slowdown == pytest.approx(clock / (segments * every), rel=0.02)


def test_where_a_checkpoint_takes_longer_than_twice_the_mtbf_work_lasts_the_mtbf() -> None:
    failures = Failures(mtbf_seconds=100.0, checkpoint_seconds=200.0, restart_seconds=1.0)
    assert failures.work_seconds == 100.0
    shorter = replace(failures, checkpoint_seconds=199.0)
    assert shorter.work_seconds == pytest.approx(88.9, abs=0.1)


@given(st.floats(1e3, 1e8), st.floats(0.1, 1e3), st.floats(0.1, 1e3))
def test_failures_never_make_a_run_faster(mtbf: float, checkpoint: float, restart: float) -> None:
    failures = Failures(mtbf_seconds=mtbf, checkpoint_seconds=checkpoint, restart_seconds=restart)
    assert failures.slowdown > 1.0
    rarer = Failures(mtbf_seconds=2 * mtbf, checkpoint_seconds=checkpoint, restart_seconds=restart)
    assert rarer.slowdown < failures.slowdown


def test_a_job_that_never_comes_forward_is_refused() -> None:
    failures = Failures(mtbf_seconds=1.0, checkpoint_seconds=1.0, restart_seconds=1e4)
    with pytest.raises(CaseError, match="would never end"):
        _ = failures.slowdown


@pytest.mark.parametrize(
    ("text", "value"), [("15T", 15e12), ("300B", 3e11), ("1e12", 1e12), ("1_000", 1e3), ("2k", 2e3)]
)
def test_tokens_are_read_as_people_write_them(text: str, value: float) -> None:
    assert read_tokens(text) == value


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10min", 600), ("1.5h", 5400), ("30d", 2_592_000)]
)
def test_durations_are_seconds(text: str, seconds: float) -> None:
    assert read_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "-3", "3q", "1e400", "0", "nan", "1..2", "T"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    for read in (read_tokens, read_duration, read_usd):
        with pytest.raises(CaseError, match="must be"):
            read(text)


@pytest.mark.parametrize("name", price_names())
def test_shipped_prices_name_source_and_date(name: str) -> None:
    for price in load_prices(name).prices.values():
        assert 0.1 < price.usd_per_gpu_hour < 100
        assert price.source
        assert price.date


GOOD = 'source = "us"\ndate = 2026-10-01\n[usd_per_gpu_hour]\nh100-sxm5-80gb = 2\n'


def test_own_prices_are_read_and_used(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD, encoding="utf-8")
    table = load_prices(path)
    run = training_run(CASE, tokens=10**9, prices=table)
    assert run.usd == pytest.approx(2 * run.gpu_hours)
    assert run.price is not None
    assert run.price.date == "2026-10-01"
    with pytest.raises(CaseError, match="no price of h200-sxm5-141gb; it has h100-sxm5-80gb"):
        table.price("h200-sxm5-141gb")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD.replace("source", "sauce"), "did you mean 'source'"),
        (GOOD.replace('"us"', '""'), "source is needed"),
        (GOOD.replace('"us"', "1"), "source = 1: must be words"),
        (GOOD.replace("date = 2026-10-01\n", ""), "date is needed"),
        (GOOD.replace("h100-sxm5-80gb", "h100"), "did you mean 'h100-sxm5-80gb'"),
        (GOOD.replace("= 2\n", "= -2\n"), "must be a number above 0"),
        (GOOD.replace("= 2\n", "= nan\n"), "must be a number above 0"),
        (GOOD.replace("= 2\n", "= true\n"), "must be a number above 0"),
        (GOOD.replace("= 2\n", '= "2"\n'), "must be a number above 0"),
        (GOOD.partition("[")[0], r"\[usd_per_gpu_hour\] is needed"),
        ("[", "is not TOML"),
    ],
)
def test_a_damaged_price_table_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CaseError, match=words):
        load_prices(path)


def test_an_unknown_table_has_a_nearest_name() -> None:
    with pytest.raises(CaseError, match="did you mean 'oracle'"):
        load_prices("oracel")
