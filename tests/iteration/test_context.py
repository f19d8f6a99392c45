"""Context parallelism: work that is split evenly, and what ranks send for it."""

import pytest

from predictor.case import Case, resolve
from predictor.iteration import context, estimate
from predictor.iteration.launches import Launch, Tape
from predictor.iteration.shape import step_shape
from predictor.operators import Attention, Collective

S, KV = 8192, 8 * 128


def case_of(degree, way, seq_length=S, backend=None):
    raw = {
        "model": {"preset": "llama3-8b"},
        "training": {"seq_length": seq_length, "micro_batch_size": 1, "global_batch_size": 8},
        "plan": {
            "tensor_parallel": 1,
            "context_parallel": degree,
            "context_parallel_kind": way,
            "attention_backend": backend,
        },
        "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 8},
        "implementation": "megatron-core-te",
    }
    return resolve(Case.from_dict(raw)).case


def launches(degree, way, phase):
    shape = step_shape(case_of(degree, way))
    tape = Tape()
    if phase == "forward":
        context.forward(tape, shape, shape.layer)
    else:
        context.backward(tape, shape, shape.layer, kernels=5)
    return [step.operator for step in tape.steps() if isinstance(step, Launch)]


def flops(operators):
    return sum(op.flops for op in operators if isinstance(op, Attention))


@pytest.mark.parametrize("phase", ["forward", "backward"])
@pytest.mark.parametrize("way", ["ring", "all-gather", "ulysses"])
@pytest.mark.parametrize("degree", [2, 4, 8])
def test_each_rank_does_its_share_of_attention(degree, way, phase):
    whole = flops(launches(1, way, phase))
    # All-gather sees (2c + 1)/2c of the half square: diagonal chunks are not cut along the mask.
    extra = (2 * degree + 1) / (2 * degree) if way == "all-gather" else 1.0
    assert flops(launches(degree, way, phase)) == pytest.approx(whole * extra / degree, rel=0.02)


@pytest.mark.parametrize(
    ("way", "phase", "sent"),
    [
        ("ring", "forward", [2 * 2 * S // 4 * KV] * 3),
        ("ring", "backward", [4 * 2 * S // 4 * KV] * 3 + [2 * 2 * S // 4 * KV]),
        ("all-gather", "forward", [2 * S * KV] * 2),
        ("all-gather", "backward", [2 * S * KV] * 4),
        ("ulysses", "forward", [S // 4 * 2 * c for c in (4096, KV, KV, 4096)]),
        ("ulysses", "backward", [S // 4 * 2 * c for c in (4096, 4096, KV, KV)]),
    ],
)
def test_bytes_of_four_ranks(way, phase, sent):
    found = [op.bytes for op in launches(4, way, phase) if isinstance(op, Collective)]
    assert found == sent


@pytest.mark.parametrize("way", ["ring", "all-gather", "ulysses"])
def test_sharing_long_sequences_takes_memory_away(way):
    narrow, wide = (estimate(case_of(degree, way, seq_length=32768)) for degree in (2, 8))
    assert wide.memory_parts["activations"] < narrow.memory_parts["activations"]
    assert wide.iteration_seconds > 0
    assert sum(wide.breakdown.values()) == pytest.approx(wide.iteration_seconds)


@pytest.mark.parametrize("degree", [1, 4])
def test_a_case_may_say_whose_attention_runs(degree):
    shape = step_shape(case_of(degree, "ring", backend="flash"))
    tape = Tape()
    context.forward(tape, shape, shape.layer)
    context.backward(tape, shape, shape.layer, kernels=5)
    ran = [step.operator for step in tape.steps() if isinstance(step, Launch)]
    calls = [operator for operator in ran if isinstance(operator, Attention)]
    assert len(calls) == 2 * degree
    assert {call.impl for call in calls} == {"flash"}
    # FlashAttention-2 is the slower one on Hopper, and attention a small part of the step.
    slow = estimate(case_of(degree, "ring", backend="flash")).iteration_seconds
    assert 1.02 < slow / estimate(case_of(degree, "ring")).iteration_seconds < 1.3
