"""Memory over arrays is the estimate's, and micro-batches in flight are those of the order."""

import numpy as np
import pytest
from asked import question

from predictor.case import Case, resolve
from predictor.iteration.built import peak_memory
from predictor.iteration.schedules import order_of
from predictor.search.candidates import case_of
from predictor.search.enumeration import space_of
from predictor.search.flight import in_flight
from predictor.search.layouts import layouts_of
from predictor.search.room import room_of


@pytest.mark.parametrize(
    ("model", "implementation"),
    [
        ("gpt3-1.3b", "megatron-core-te"),
        ("mixtral-8x7b", "megatron-core-te"),
        ("deepseek-v2-lite", "megatron-core-te"),
        ("mixtral-8x7b", "megatron-core-local"),
        ("gpt3-1.3b", "megatron-lm-2022"),
        ("gpt3-1.3b", "zero-bubble"),
        ("llama2-7b", "nanotron"),
        ("llama2-7b", "hf-fsdp2"),
        ("llama2-7b", "torchtitan"),
        ("qwen3-30b-a3b", "nemo-automodel"),
    ],
)
def test_memory_is_that_of_the_estimate(model, implementation):
    _check_memory(model, implementation, {})


def test_memory_is_that_of_the_estimate_with_adapters():
    _check_memory("llama2-7b", "megatron-core-te", {"adapter_rank": (8,)})


def _check_memory(model, implementation, constraints):
    asked = question(model, implementation, gpus=16, batch=32, constraints=constraints)
    sections, case = asked.cases()[0]
    space = space_of(case, 32, constraints)
    room = room_of(layouts_of(space))
    for row in (
        np.random.default_rng(0).choice(len(space), min(25, len(space)), replace=False).tolist()
    ):
        plan = resolve(Case.from_dict(case_of(sections, space, row, (None,) * 3))).case
        peak = peak_memory(plan)
        assert room.reserved[row] == pytest.approx(peak.reserved_bytes, rel=1e-3), plan
        assert room.allocated[row] == pytest.approx(peak.allocated_bytes, rel=1e-3), plan


@pytest.mark.parametrize("stages", [2, 4, 6])
@pytest.mark.parametrize(
    ("schedule", "chunks"),
    [
        ("1f1b", 1),
        ("gpipe", 1),
        ("interleaved", 2),
        ("interleaved", 3),
        ("zb-h1", 1),
        ("zb-h2", 1),
        ("dualpipe", 1),
    ],
)
def test_micro_batches_in_flight_are_those_of_the_order(schedule, chunks, stages):
    for count in (stages * 2, stages * 3, stages * 5):
        if schedule == "dualpipe" and count % 2:
            continue
        order = order_of(schedule, stages, count, chunks)
        for stage in range(stages):
            found = in_flight(schedule, stages, chunks, stage, np.array([count]))[0]
            assert found.tolist() == order.in_flight[stage].tolist(), (stage, count)
