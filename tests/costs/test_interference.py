"""Factors of compute and collectives in each other's company: by hand, and those that ship."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from predictor.costs.interference import SLOWDOWNS_FILE, fit_slowdowns, load_slowdowns
from predictor.errors import FitError
from predictor.operators import Interference
from predictor.tables import Row

ROOT = Path(__file__).parents[2]
PAIR = Interference(
    compute="gemm",
    shape="m=8 n=8 k=8",
    collective="all_gather",
    bytes=2**27,
    ranks=2,
    ranks_per_node=2,
)


def rows(alone, beside):
    found = []
    for concurrent, both in ((False, alone), (True, beside)):
        for side, seconds in zip(("compute", "collective"), both, strict=True):
            found.append(
                Row(
                    operator=replace(PAIR, side=side, concurrent=concurrent),
                    seconds=seconds,
                    seconds_low=seconds,
                    seconds_high=seconds,
                    rounds=3,
                    samples=9,
                    regime="burst",
                    cache="cold",
                    status="ok",
                    run="test",
                )
            )
    return found


def test_factors_are_recovered_from_a_window_in_which_both_ran_by_their_rules():
    # A collective of 4 ms runs at 1.25 of its time, after a wait of half a compute call; while it
    # runs compute takes 1.5 times as long: 1/3 of 5 ms is lost in each of its periods.
    compute, collective, f, g = 1e-3, 4e-3, 1.5, 1.25
    period = g * collective + 0.6e-3
    calls = (period - g * collective * (1 - 1 / f)) / compute
    beside = period / calls
    period = g * collective + beside / 2
    calls = (period - g * collective * (1 - 1 / f)) / compute
    beside = period / calls
    (found,) = fit_slowdowns(rows((compute, collective), (beside, period))).values()
    assert found == pytest.approx((f, g), rel=0.02)


def test_what_does_not_slow_has_factor_one():
    assert fit_slowdowns(rows((1e-3, 4e-3), (1e-3, 4e-3))) == {("gemm", "all_gather"): (1.0, 1.0)}


def test_half_a_pair_is_no_pair():
    with pytest.raises(FitError, match="no complete pair"):
        fit_slowdowns(rows((1e-3, 4e-3), (1e-3, 4e-3))[:3])


def test_the_factors_that_ship_are_those_of_the_measured_tables():
    script = ROOT / "benchmarks" / "fit_interference.py"
    done = subprocess.run(
        [sys.executable, script, "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
    content = json.loads(SLOWDOWNS_FILE.read_text(encoding="utf-8"))
    assert content["skus"] == ["h200-sxm5-141gb"]
    for (compute, _), (mine, its) in load_slowdowns().items():
        assert 1.1 < mine < 1.5, compute
        assert 1.0 <= its < 1.6, compute
