"""Segments walked together have the matrices of segments walked one by one."""

import numpy as np
import pytest

from predictor.case import Case, resolve
from predictor.costs import load_costs
from predictor.iteration.estimate import _plan, _sheet
from predictor.search.walk import segment_matrices


@pytest.mark.parametrize(
    ("model", "plan", "implementation"),
    [
        ("llama2-7b", {"tensor_parallel": 2, "pipeline_parallel": 2}, "megatron-core-te"),
        ("llama2-7b", {"tensor_parallel": 1}, "torchtitan"),
        ("mixtral-8x7b", {"tensor_parallel": 2, "expert_parallel": 4}, "megatron-core-te"),
        ("mixtral-8x7b", {"tensor_parallel": 2, "expert_parallel": 4}, "megatron-core-local"),
    ],
)
def test_matrices_are_those_of_single_segments(model, plan, implementation):
    case = resolve(
        Case.from_dict(
            {
                "model": {"preset": model},
                "training": {"seq_length": 2048},
                "plan": plan,
                "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 8},
                "implementation": implementation,
            }
        )
    ).case
    costs = load_costs(case.cluster.gpu)
    sheet = _sheet(_plan(case), case, costs)
    seconds = np.array([sheet.seconds, 1.3 * sheet.seconds])
    host = (sheet.host_seconds, 2e-6, sheet.queue_seconds)
    found = segment_matrices(sheet.layout, seconds, *host)
    assert len(_plan(case).segments) == len(found)
    matrices = sheet.matrices(2e-6, silent=False)
    for segment, place in sheet.layout.segments.items():
        assert found[place, 0] == pytest.approx(matrices.segment(segment)[0], rel=1e-9)
