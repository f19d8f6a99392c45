"""When a pipeline's stages gather the parameters that they updated."""

import pytest

from predictor.case import Case, resolve
from predictor.iteration import estimate
from predictor.iteration.buckets import HeldParameters, gathers, reductions
from predictor.iteration.building import Builder
from predictor.iteration.groups import Group
from predictor.iteration.implementations import load
from predictor.iteration.implementations.megatron_core_te import STACK
from predictor.iteration.launches import Launch, Program, Wait
from predictor.iteration.shape import stages_of, step_shape
from predictor.operators import AllReduce, Broadcast


def case(**plan):
    return Case.from_dict(
        {
            "model": {"preset": "llama3-8b"},
            "training": {"seq_length": 4096, "micro_batch_size": 1, "global_batch_size": 64},
            "plan": {"tensor_parallel": 1, "pipeline_parallel": 4, **plan},
            "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 64},
        }
    )


def gathered(program: Program) -> float:
    """Bytes that a program gathers beside computation."""
    return sum(
        step.operator.bytes * times
        for segment, times in program
        for step in segment.steps
        if isinstance(step, Launch) and step.stream == "gather"
    )


def test_chunks_gather_one_chunk_ahead_and_the_first_behind_the_step() -> None:
    # Megatron-Core 0.19 pipeline_parallel/schedules.py: stages sync their first two chunks as the
    # schedule begins, later ones a chunk ahead; finish_param_sync waits before a chunk runs
    asked = resolve(case(virtual_pipeline=4)).case
    shape = step_shape(asked)
    stages = stages_of(asked, shape)
    programs = Builder(STACK, shape, split_backward=False).stages(stages)
    middle, held = programs[1], stages[1].parameters
    first_steps = [chunk.first_forward[0][0].steps for chunk in middle.chunks]
    assert isinstance(first_steps[1][0], Wait)
    assert not isinstance(first_steps[0][0], Wait)
    shares = [gathered(chunk.first_forward) for chunk in middle.chunks]
    assert shares == pytest.approx([held / 2] * 3 + [0.0])
    assert gathered(middle.step) == pytest.approx(held / 2)


def test_chunks_that_gather_beside_passes_take_hardly_longer() -> None:
    # beside a pass, a gather slows it
    beside = estimate(case(virtual_pipeline=4)).iteration_seconds
    behind = estimate(case(virtual_pipeline=4, overlap_param_gather=False)).iteration_seconds
    assert behind * 0.8 < beside < behind * 1.02


def test_plain_pipelines_gather_behind_the_step_unless_told() -> None:
    # each stage's own gather would begin when its first micro-batch has come: one after another
    absent, behind, beside = (
        estimate(case(**flag)).iteration_seconds
        for flag in ({}, {"overlap_param_gather": False}, {"overlap_param_gather": True})
    )
    assert absent == behind
    assert beside > behind
    alone = {"pipeline_parallel": 1}
    assert (
        estimate(case(**alone)).iteration_seconds
        == estimate(case(**alone, overlap_param_gather=True)).iteration_seconds
    )


def owned(*, num_gpus: int, **plan: object) -> tuple[list[Broadcast], list[AllReduce]]:
    """What InternEvo sends of a two-layer model of 7B's layers, all in one bucket."""
    asked = resolve(
        Case.from_dict(
            {
                "model": {"preset": "llama2-7b", "num_layers": 2},
                "training": {"seq_length": 2048, "global_batch_size": num_gpus},
                "plan": {"sharding": "optimizer", **plan},
                "cluster": {"gpu": "a100-sxm4-80gb", "num_gpus": num_gpus},
                "implementation": "internevo",
            }
        )
    ).case
    shape = step_shape(asked)
    (stage,) = stages_of(asked, shape)
    replicas = load("internevo").replicas(stage)
    held = HeldParameters.of_stage(stage)
    sent = [step.operator for step in gathers(held, replicas, shape)]
    summed = [step.operator for step in reductions(held, replicas, shape)]
    assert sum(one.bytes for one in sent) == pytest.approx(2 * stage.parameters, rel=1e-6)
    return sent, summed


def test_owners_broadcast_one_after_another() -> None:
    # five matrices a layer, the input table and the head: twelve owners at most
    sent, summed = owned(num_gpus=64)
    assert len(sent) == 12
    assert {(one.name, one.ranks, one.ranks_per_node) for one in sent} == {("broadcast", 64, 8)}
    assert [(one.name, one.ranks, one.ranks_per_node) for one in summed] == [("all_reduce", 64, 8)]


def test_owners_of_a_sharding_group_broadcast_inside_it_and_all_ranks_sum_at_once() -> None:
    sent, summed = owned(num_gpus=64, sharding_group=8)
    assert [(one.ranks, one.ranks_per_node) for one in sent] == [(8, 8)] * 8
    assert [(one.ranks, one.ranks_per_node) for one in summed] == [(64, 8)]


def test_ranks_of_all_groups_together() -> None:
    inside = Group(8, 8, neighbours=(1.0, 1.2), peers=(1.5, 1.0))
    across = Group(4, 1, neighbours=(1.1, 1.1), peers=(1.0, 1.0))
    assert inside.times(across) == Group(32, 8, neighbours=(1.1, 1.2), peers=(1.5, 1.0))
