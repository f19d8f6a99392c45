"""What a lower bound rules out is not among the best."""

import numpy as np
import pytest

from predictor import search
from predictor.costs import load_costs
from predictor.search import candidates, finding, pursuit
from predictor.search.evaluate import Evaluation, Least, layouts_of
from predictor.search.pieces import Stock
from predictor.search.question import Question
from predictor.search.replicas import Tails
from predictor.search.room import room_of
from predictor.search.space import space_of

SPACES = [
    ("gpt3-6.7b", "megatron-core-te", 16, {}),
    (
        "mixtral-8x7b",
        "megatron-core-te",
        16,
        {"micro_batch_size": (1, 2), "tensor_parallel": (2, 4)},
    ),
    ("gpt3-6.7b", "zero-bubble", 32, {}),
    ("llama2-7b", "deepspeed", 16, {}),
    ("llama2-7b", "fsdp-compile", 16, {}),
]


def fitting(model, implementation, gpus, constraints):
    """Layouts that fit, and the cost functions."""
    question = Question(
        mapping={
            "model": {"preset": model},
            "training": {"seq_length": 2048},
            "implementation": implementation,
        },
        gpus=("h100-sxm5-80gb",),
        num_gpus=(gpus,),
        global_batch_size=2 * gpus,
        constraints=constraints,
    )
    case = question.cases()[0][1]
    costs = load_costs(case.cluster.gpu)
    layouts = layouts_of(space_of(case, 2 * gpus, constraints))
    return layouts.take(room_of(layouts).reserved <= costs.gpu.memory_bytes), costs


def fastest(layouts, costs):
    """Seconds of the fastest plan of each layout."""
    least = np.full(len(layouts), np.inf)
    stock = Stock(layouts.space.case, costs)
    for plans in Evaluation(layouts, stock, Tails(layouts, costs)).plans():
        np.minimum.at(least, plans.layout, plans.seconds)
    return least


@pytest.mark.slow
@pytest.mark.parametrize(("model", "implementation", "gpus", "constraints"), SPACES)
def test_no_step_is_faster_than_its_bound(model, implementation, gpus, constraints):
    layouts, costs = fitting(model, implementation, gpus, constraints)
    seconds, bounds = fastest(layouts, costs), Least(layouts, Stock(layouts.space.case, costs))
    rows = np.arange(len(layouts))
    bounds.replicate(rows, Tails(layouts, costs))
    for level in range(bounds.levels + 1):
        bounds.refine(rows, level)
        for share in (0.1, 0.5, 1.0):
            limit = float(np.quantile(seconds, share))
            within = seconds <= limit
            assert np.max(bounds.seconds(limit)[within] / seconds[within]) < 1.002


@pytest.mark.parametrize("objective", ["usd", "gpus"])
def test_a_search_finds_what_one_of_all_plans_finds(monkeypatch, objective):
    asked = {
        "gpu": "h100-sxm5-80gb",
        "num_gpus": [4, 8],
        "global_batch_size": 16,
        "constraints": {"seq_length": 2048, "recompute": ["none", "selective"], "sharding": "none"},
        "objective": objective,
    }
    monkeypatch.setattr(pursuit, "FIRST", 2)
    monkeypatch.setattr(finding, "RERANKED", 8)
    monkeypatch.setattr(candidates, "RERANKED", 8)
    bounded = search("gpt3-1.3b", **asked)
    monkeypatch.setattr(finding._Search, "_limit", lambda *_: None)
    every = search("gpt3-1.3b", **asked)
    assert bounded.plans == every.plans
    assert bounded.plans_evaluated == every.plans_evaluated
    assert bounded.plans_passed_over > 0 == every.plans_passed_over
