"""Launches of a stage in columns, and how often each runs."""

import numpy as np

from predictor.case import Case, resolve
from predictor.costs import load_costs
from predictor.iteration.built import run_of
from predictor.iteration.ledger import Ledger, repetitions

CASE = resolve(
    Case.from_dict(
        {
            "model": {"preset": "llama3.2-1b"},
            "training": {"seq_length": 2048, "global_batch_size": 4},
            "plan": {"pipeline_parallel": 2},
            "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 2},
        }
    )
).case


def test_segments_run_as_often_as_programs_repeat_them():
    run = run_of(CASE, load_costs(CASE.cluster.gpu))
    layout = run.sheet.layout
    first, second = list(layout.segments)[:2]
    found = repetitions([(((first, 3), (second, 1)), 2), (((first, 1),), 5)], layout)
    assert found[:2].tolist() == [3 * 2 + 5, 2]
    assert not found[2:].any()


def test_a_ledger_at_another_clock_is_that_of_the_settled_sheet():
    costs = load_costs(CASE.cluster.gpu)
    run = run_of(CASE, costs)
    slower = run.sheet.settled(costs.heat, 0.8 * run.clock_hz)
    counted = run.pipeline.counted(1)
    expected = Ledger.of(counted, slower)
    found = Ledger.of(counted, run.sheet).settled(slower)
    assert found.by_family() == expected.by_family()
    assert np.array_equal(found.times, expected.times)
    assert found.by_family() != Ledger.of(counted, run.sheet).by_family()


def test_the_busiest_of_two_stages_is_the_one_with_the_head():
    run = run_of(CASE, load_costs(CASE.cluster.gpu))
    seconds = [
        sum(each for each, _ in Ledger.of(run.pipeline.counted(n), run.sheet).by_family().values())
        for n in range(2)
    ]
    assert seconds[1] > seconds[0]
    worked = sum(run.breakdown[name] for name in run.breakdown if name in {"gemm", "attention"})
    assert worked <= seconds[1]
    busiest = Ledger.of(run.pipeline.counted(1), run.sheet).by_family()
    assert run.breakdown["gemm"] == busiest["gemm"][0]
