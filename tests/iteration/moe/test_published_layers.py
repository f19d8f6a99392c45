"""Expert layers beside the timings that Megatron-LM's own tests expect."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks"))

from moe_layers import WITHIN, rows


@pytest.mark.parametrize(("precision", "mean"), [("bf16", 0.05), ("fp8", 0.1)])
def test_every_published_pass_is_within_15_percent(precision, mean):
    errors = [abs(answer / seen - 1.0) for name, seen, answer in rows() if precision in name]
    assert len(errors) == 12
    assert max(errors) <= WITHIN
    assert sum(errors) / len(errors) <= mean
