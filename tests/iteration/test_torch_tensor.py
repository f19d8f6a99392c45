"""PyTorch's tensor parallelism: passes, messages and shares of products counted from its code."""

import pytest
from launched import first_layer, operators, titan

from predictor.iteration import estimate
from predictor.operators import AllGather, Gemm, MemoryBound, ReduceScatter, SendRecv

HIDDEN, FFN, TOKENS = 4096, 14336, 2 * 8192


def case_of(*, tensor=8, overlap=None, precision="bf16", detail=None):
    asked = {"tp_overlap": overlap, "overlap_detail": detail}
    told = {key: value for key, value in asked.items() if value is not None}
    training = {"precision": precision}
    return titan(gpus=8 * tensor, training=training, tensor_parallel=tensor, **told)


def part_of(**asked):
    return first_layer(case_of(**asked))[0]


def copied(steps):
    """Bytes of the passes that put rows in another order."""
    passes = operators(steps, MemoryBound)
    return sum(op.bytes for op in passes if op.kernel == "copy" and op.cols == HIDDEN)


def gathers(steps):
    return operators([s for s in steps if getattr(s, "stream", "") == "tensor"], AllGather)


@pytest.mark.parametrize(("precision", "size"), [("bf16", 2), ("fp8", 1)])
def test_what_is_gathered_or_scattered_is_put_in_order_by_a_pass(precision, size):
    part = part_of(precision=precision)
    assert [op.bytes for op in gathers(part.forward)] == [size * TOKENS * HIDDEN] * 2
    assert [op.bytes for op in operators(part.forward, ReduceScatter)] == [2 * TOKENS * HIDDEN] * 2
    # two gathered tensors and two partial sums, each read and written
    assert copied(part.forward) == 2 * 2 * (size + 2) * TOKENS * HIDDEN
    # the gradients of two and of three products are added up as they are put in order
    added = 2 * (2 + 1) + 2 * (3 + 1)
    assert copied(part.backward) == (2 * 2 * size + added) * TOKENS * HIDDEN


def test_one_tensor_rank_sends_and_copies_nothing():
    part = part_of(tensor=1)
    assert copied((*part.forward, *part.backward)) == 0
    assert not gathers((*part.forward, *part.backward))


@pytest.mark.parametrize("precision", ["bf16", "fp8"])
@pytest.mark.parametrize("phase", ["forward", "backward"])
def test_overlap_cuts_products_into_shares_of_the_same_work(precision, phase):
    whole = getattr(part_of(precision=precision), phase)
    shared = getattr(part_of(precision=precision, overlap=True), phase)
    assert sum(op.flops for op in operators(shared, Gemm)) == pytest.approx(
        sum(op.flops for op in operators(whole, Gemm))
    )
    assert not gathers(shared)
    # two gathers and, forward, two scatters: seven messages each; sums of gradients scatter whole
    messages, scatters = (28, 0) if phase == "forward" else (14, 2)
    assert len(operators(shared, SendRecv)) == messages
    assert len([op for op in operators(shared, ReduceScatter) if op.dtype == "bf16"]) == scatters


def test_products_behind_one_gather_share_its_rows():
    products = operators(part_of(overlap=True).forward, Gemm)
    share = TOKENS // 8
    assert all(op.m == share for op in products)
    assert [op.n for op in products[:6]] == [HIDDEN // 8, 128, 128] * 2


def test_overlap_is_faster_and_a_record_may_say_it_in_its_own_words():
    plain, beside = (estimate(case_of(overlap=each)) for each in (None, True))
    assert beside.iteration_seconds < 0.97 * plain.iteration_seconds
    for words, told in (("async_tp=True", True), ("async_tp=False", False)):
        assert case_of(detail=words).plan.tp_overlap is told
