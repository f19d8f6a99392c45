"""The array form is the exact estimate within 2 % on 97 of 100 random plans, 8 % on all.

Of the 836 plans drawn here, 29 are further than 2 % off, the median of each stack is 0.1 to 0.5 %.
"""

import numpy as np
import pytest
from asked import question

from predictor.case import Case
from predictor.costs import load_costs
from predictor.errors import NotPredictable
from predictor.iteration import estimate
from predictor.search.candidates import case_of
from predictor.search.enumeration import space_of
from predictor.search.evaluate import Evaluation
from predictor.search.layouts import layouts_of
from predictor.search.pieces import Stock
from predictor.search.question import Question
from predictor.search.replicas import Tails
from predictor.search.room import room_of

PLANS = 100
"""Of each stack, if so many fit."""

TE = "megatron-core-te"
STACKS = [
    ("llama2-7b", TE, 32, {}),
    ("gpt3-6.7b", TE, 64, {"schedule": ("interleaved",)}),
    ("mixtral-8x7b", TE, 64, {}),
    ("deepseek-v2-lite", TE, 32, {}),
    ("mixtral-8x7b", "megatron-core-local", 64, {}),
    ("gpt3-6.7b", "megatron-lm-2022", 32, {}),
    ("gpt3-6.7b", "zero-bubble", 32, {}),
    ("llama2-7b", "nanotron", 32, {}),
    ("llama2-7b", "torchtitan", 16, {}),
    ("llama2-7b", TE, 32, {"adapter_rank": (16,)}),
]

WITHIN = 0.9
"""Least share of a stack's plans within 2 %."""

WORST = 0.08
"""Largest error."""


def plans_of(layouts, costs):
    """All plans of some layouts."""
    return Evaluation(layouts, Stock(layouts.space.case, costs), Tails(layouts, costs)).plans()


def evaluated(model, implementation, gpus, constraints):
    """Sections, space, flags and seconds of random plans that fit."""
    asked = question(model, implementation, gpus=gpus, batch=4 * gpus, constraints=constraints)
    sections, case = asked.cases()[0]
    costs = load_costs(case.cluster.gpu)
    layouts = layouts_of(space_of(case, 4 * gpus, constraints))
    random = np.random.default_rng(0)
    fits = np.flatnonzero(room_of(layouts).reserved <= costs.gpu.memory_bytes)
    layouts = layouts.take(random.permutation(fits)[: 4 * PLANS])
    plans = plans_of(layouts, costs)
    every = [(part, place) for part in plans for place in range(len(part.layout))]
    every.sort(key=lambda each: (each[0].layout[each[1]], str(each[0].flags)))
    for chosen in random.permutation(len(every))[:PLANS]:
        part, place = every[chosen]
        sections_of = case_of(sections, layouts.space, int(part.layout[place]), part.flags)
        yield sections_of, part.seconds[place], part.joules[place]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "implementation", "gpus", "constraints"), STACKS)
def test_array_form_is_the_exact_estimate(model, implementation, gpus, constraints):
    errors = []
    for sections, seconds, joules in evaluated(model, implementation, gpus, constraints):
        try:
            exact = estimate(Case.from_dict(sections))
        except NotPredictable:
            continue
        error = seconds / exact.iteration_seconds - 1
        errors.append((error, joules / exact.joules_per_iteration - 1, sections))
    worst = max(errors, key=lambda each: abs(each[0]))
    assert len(errors) >= 36
    assert np.mean([abs(each[0]) < 0.02 for each in errors]) >= WITHIN, worst
    assert np.median([abs(each[0]) for each in errors]) < 0.007
    assert abs(worst[0]) < WORST, worst
    assert np.median([abs(each[1]) for each in errors]) < 0.025


@pytest.mark.parametrize(
    ("model", "implementation", "gpus"),
    [("gpt3-6.7b", TE, 16), ("mixtral-8x7b", "megatron-core-local", 16), ("llama2-7b", TE, 16)],
)
def test_a_plan_takes_the_same_whatever_is_evaluated_beside_it(model, implementation, gpus):
    asked = question(model, implementation, gpus=gpus, batch=4 * gpus, constraints={})
    _, case = asked.cases()[0]
    costs = load_costs(case.cluster.gpu)
    layouts = layouts_of(space_of(case, 4 * gpus, {}))
    rows = np.random.default_rng(1).permutation(len(layouts))[:60]
    layouts = layouts.take(rows)
    together = {}
    for part in plans_of(layouts, costs):
        for place, seconds, joules in zip(part.layout, part.seconds, part.joules, strict=True):
            together[int(place), part.flags] = seconds, joules
    for place in range(0, len(layouts), 7):
        for part in plans_of(layouts.take(np.array([place])), costs):
            alone = part.seconds[0], part.joules[0]
            assert together[place, part.flags] == pytest.approx(alone, rel=1e-9)


def test_array_form_knows_passes_that_nothing_hides():
    """First and last passes wait for their experts' exchanges: a tenth of four micro-batches.

    Messages stop both ends in half of these plans, where a host does not run ahead.
    """
    constraints = {
        "tensor_parallel": (1,),
        "context_parallel": (2,),
        "pipeline_parallel": (2,),
        "virtual_pipeline": (7,),
        "expert_parallel": (16,),
        "expert_tensor_parallel": (1,),
        "schedule": ("interleaved",),
        "sharding": ("optimizer",),
        "recompute": ("full",),
        "micro_batch_size": (4,),
    }
    asked = question("deepseek-v2-lite", TE, gpus=32, batch=128, constraints=constraints)
    sections, case = asked.cases()[0]
    layouts = layouts_of(space_of(case, 128, constraints))
    errors = []
    for part in plans_of(layouts, load_costs(case.cluster.gpu)):
        for place, row in enumerate(part.layout):
            plan = case_of(sections, layouts.space, int(row), part.flags)
            exact = estimate(Case.from_dict(plan)).iteration_seconds
            errors.append(part.seconds[place] / exact - 1)
    assert len(errors) == 8
    assert max(map(abs, errors)) < 0.04


def test_array_form_feels_slow_links():
    """Two nodes whose link has a fifth of the rate: half of the plans within 2 % of the timeline.

    The others send longer messages than their stages compute.
    """
    asked = Question(
        mapping={
            "model": {"preset": "gpt3-6.7b"},
            "training": {"seq_length": 2048},
            "cluster": {
                "inter_node_bytes_per_second_per_gpu": 50e9,
                "links": {"overrides": [[0, 1, 1e10], [1, 0, 1e10]]},
            },
        },
        gpus=("h100-sxm5-80gb",),
        num_gpus=(16,),
        global_batch_size=32,
        constraints={
            "tensor_parallel": (2,),
            "context_parallel": (1,),
            "pipeline_parallel": (1, 2, 4),
            "recompute": ("none",),
            "micro_batch_size": (1,),
            "schedule": ("1f1b",),
            "sharding": ("none", "optimizer"),
        },
    )
    sections, case = asked.cases()[0]
    layouts = layouts_of(space_of(case, 32, asked.constraints))
    plans = plans_of(layouts, load_costs(case.cluster.gpu))
    errors = []
    for part in plans:
        for place, row in enumerate(part.layout):
            exact = estimate(Case.from_dict(case_of(sections, layouts.space, int(row), part.flags)))
            errors.append(part.seconds[place] / exact.iteration_seconds - 1)
    assert len(errors) > 20
    assert np.median(np.abs(errors)) < 0.02, np.median(np.abs(errors))
    assert np.max(np.abs(errors)) < 0.1
