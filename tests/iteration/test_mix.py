"""What a power cap averages: long pauses spare no more than its control window."""

import pytest

from predictor.case import Case, resolve
from predictor.costs import load_costs
from predictor.iteration.built import run_of

GPU = "h100-sxm5-80gb"


def run(*, model="llama3-8b", stages=1, micro_batches=8):
    case = Case.from_dict(
        {
            "model": {"preset": model},
            "training": {
                "seq_length": 8192,
                "micro_batch_size": 1,
                "global_batch_size": micro_batches,
                "recompute": "none",
            },
            "plan": {"tensor_parallel": 1, "pipeline_parallel": stages},
            "cluster": {"gpu": GPU, "num_gpus": stages},
        }
    )
    return run_of(resolve(case).case, load_costs(GPU))


def test_a_pipeline_that_waits_for_seconds_is_as_hot_as_one_that_hardly_waits():
    # a bubble of 7/8 of the work and one of 7/256: the same passes at nearly the same clock
    waiting, working = (
        run(model="llama3-70b", stages=8, micro_batches=count) for count in (8, 256)
    )
    assert waiting.breakdown["bubble"] > 0.3 * waiting.iteration_seconds
    assert working.breakdown["bubble"] < 0.1 * working.iteration_seconds
    assert waiting.clock_hz == pytest.approx(working.clock_hz, rel=0.02)


def test_a_long_tail_cools_no_products_of_the_next_step():
    seldom, often = (run(micro_batches=m) for m in (1, 64))
    assert seldom.breakdown["optimizer"] > 0.08 * seldom.iteration_seconds
    assert seldom.clock_hz == pytest.approx(often.clock_hz, rel=0.02)
