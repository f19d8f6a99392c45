"""Better hardware is never slower, and what a case does not use changes nothing."""

import pytest

from predictor.case import Case, resolve
from predictor.iteration.sensitivity import STEP, sensitivities

HEAT = 1e-4
"""Where the host binds, busier cores settle at a lower clock, and what streams takes longer."""


def found(gpus, plan, model="llama3.2-1b", **training):
    raw = {
        "model": {"preset": model},
        "training": {"seq_length": 2048, "global_batch_size": 4 * gpus} | training,
        "plan": {"tensor_parallel": 1} | plan,
        "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": gpus},
    }
    case = resolve(Case.from_dict(raw)).case
    return {each.change: each.share for each in sensitivities(case)}


@pytest.mark.parametrize(("gpus", "plan"), [(1, {}), (8, {"tensor_parallel": 8}), (32, {})])
def test_better_hardware_is_never_slower_nor_worth_more_than_itself(gpus, plan):
    for share in found(gpus, plan).values():
        assert -STEP <= share <= HEAT


def test_only_what_a_job_has_is_changed():
    assert {change.split(" % ")[1] for change in found(1, {})} == {
        "tensor cores",
        "memory bandwidth",
        "power cap",
        "host time",
    }
    assert "+10 % NVLink" in found(8, {})
    assert "+10 % network" not in found(8, {})
    assert "+10 % network" in found(16, {})


def test_a_model_of_many_flops_gains_most_from_tensor_cores():
    shares = found(1, {}, micro_batch_size=4)
    assert min(shares, key=shares.get) == "+10 % tensor cores"


def test_links_matter_where_ranks_share_a_layer():
    assert found(8, {"tensor_parallel": 8}, "llama3-70b", seq_length=8192)["+10 % NVLink"] < -0.01
