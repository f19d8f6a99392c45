"""Which passes hide their experts' exchanges, counted by hand."""

import numpy as np
import pytest

from predictor import Case, estimate
from predictor.case import resolve
from predictor.iteration.building import Builder
from predictor.iteration.implementations import megatron_core_te
from predictor.iteration.launches import Wait
from predictor.iteration.shape import stages_of, step_shape


def asked(micro_batches, **plan):
    return Case.from_dict(
        {
            "model": {"preset": "mixtral-8x7b", "num_layers": 4},
            "training": {"seq_length": 4096, "global_batch_size": 8 * micro_batches},
            "plan": {"expert_parallel": 8, "cuda_graph": "iteration", **plan},
            "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 8},
        }
    )


def seconds(micro_batches, **plan):
    return estimate(asked(micro_batches, **plan)).iteration_seconds


def test_the_only_micro_batch_hides_nothing():
    alone = seconds(1, moe_overlap=False)
    assert seconds(1, moe_overlap=True) == pytest.approx(alone, rel=1e-12)


def test_each_further_micro_batch_hides_its_exchanges():
    # the first forward and the last backward pass stay as they are, all else gets shorter
    plain = [seconds(count, moe_overlap=False) for count in (1, 2, 3)]
    beside = [seconds(count, moe_overlap=True) for count in (1, 2, 3)]
    saved = np.subtract(plain, beside)
    assert saved[0] == pytest.approx(0.0, abs=1e-12)
    assert saved[2] == pytest.approx(2 * saved[1], rel=0.1)
    assert saved[1] > 0.0


def test_the_first_forward_and_the_last_backward_pass_wait_for_their_experts():
    case = resolve(asked(4, moe_overlap=True)).case
    shape = step_shape(case)
    builder = Builder(megatron_core_te.STACK, shape, split_backward=False)
    (chunk,) = builder.stages(stages_of(case, shape))[0].chunks

    def waits(program):
        steps = [step for segment, _ in program for step in segment.steps]
        return sum(isinstance(step, Wait) and step.stream == "expert" for step in steps)

    # beside another only the counts of tokens are waited for, alone dispatch and combine too
    assert (waits(chunk.forward), waits(chunk.backward)) == (1, 0)
    assert waits(chunk.first_forward) % 3 == waits(chunk.last_backward) % 2 == 0
    assert waits(chunk.last_backward) > 0
