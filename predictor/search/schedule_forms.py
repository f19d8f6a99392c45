"""Seconds of a pipeline in closed form, for many layouts of one cut.

With ``f``, ``b`` and ``L`` the forward, the backward and all seconds of a micro-batch on a stage,
``c`` those of a message and ``m`` micro-batches, over ``p`` stages:

    1f1b         Σ(f + b) + 2(p - 1)c + max over stages s of (m - 1)·L - n·f + max(Σ - n·b, 0)
                 with n = min(p - 1 - s, m - 1), the inner Σ of f + b over the stages behind s and
                 for m > p - s alone: the first micro-batch has to come back before s goes on, and
                 so has the last
    interleaved  Σ(f + b)/v + 2(p - 1)c + 2(v - 1)·p·c + max over stages of m·L - L/v
    gpipe        Σ(f + b) + 2(p - 1)c + (m - 1)·(max (f + c) + max (b + c))
    zb-h1        max over stages of m·L + max(Σ' (f + b) + 2(p - 1)c - (p - 1)·w, Σ f in front)
                 with Σ' over the other stages; zb-h2 and searched ones keep 2(p - 1)·w and may have
                 nobody in front wait

A blocking message stops both ends: a stage's period grows by ``c`` for each neighbour.
They are tested against the exact timeline (tests/search/test_array_form.py).
"""

from dataclasses import dataclass

import numpy as np

from predictor.costs.prediction import Floats, Ints
from predictor.search.cuts import Cut
from predictor.search.passes import StagePasses


@dataclass(frozen=True, slots=True)
class Hops:
    """Messages along a pipeline.

    Attributes:
        total: Seconds of all hops one way, by layout.
        beside: Of a stage's hops to both sides, by layout and distinct stage; the slowest of alike.
        beyond: Of the slower of a stage's hops, by layout and distinct stage; as ``beside``.
        longest: Of the slowest hop, by layout.
        turn: Of the hop from the last stage to the first, by layout.
        overlapped: They run beside computation.
    """

    total: Floats
    beside: Floats
    beyond: Floats
    longest: Floats
    turn: Floats
    overlapped: bool


def pipeline_seconds(cut: Cut, passes: StagePasses, micro_batches: Ints, hops: Hops) -> Floats:
    """Seconds until the last pass of a step has ended, by layout and clock.

    Args:
        cut: Stages and schedule.
        passes: By layout, distinct stage and clock.
        micro_batches: Of each layout.
        hops: Messages of each layout.
    """
    m = micro_batches[:, None].astype(float)
    if cut.stages == 1:
        whole = passes.forward + passes.backward + passes.weight
        return np.asarray(((m[:, None] - 1) * passes.period + whole)[:, 0])
    count = np.array([hold.count for hold in cut.holds])[:, None]
    if hops.overlapped:
        passes = passes.run_ahead()
    if cut.schedule == "interleaved":
        return _interleaved(cut, passes, m, count, hops)
    if cut.schedule == "gpipe":
        return _gpipe(passes, m, count, hops)
    if cut.schedule == "dualpipe":
        return _both_ways(cut, passes, m, count, hops)
    if cut.schedule.startswith("zb"):
        return _zero_bubble(cut, passes, m, count, hops)
    return _one_f_one_b(cut, passes, m, count, hops)


def _busy(cut: Cut, passes: StagePasses, hops: Hops) -> Floats:
    """What a micro-batch adds on each stage, with the messages that stop it."""
    alone = passes.forward + passes.backward + passes.weight
    if hops.overlapped:
        return np.asarray(passes.period)
    busy = alone + hops.beside[:, :, None]
    if cut.chunks == 1:  # the last stage waits for the one before, which has two neighbours
        both = np.minimum(alone[:, -1], alone[:, -2]) + hops.beside[:, -2, None]
        busy[:, -1] = np.maximum(busy[:, -1], both)
    return np.asarray(busy)


def _one_f_one_b(cut: Cut, passes: StagePasses, m: Floats, count: Ints, hops: Hops) -> Floats:
    once = (count * (passes.forward + passes.backward)).sum(axis=1) + 2 * hops.total[:, None]
    busy = _busy(cut, passes, hops)
    behind = np.array([cut.stages - 1 - hold.last for hold in cut.holds])[:, None]
    few = np.minimum(behind, m[:, None] - 1)
    trip = np.einsum("jk,nkc->njc", _behind(cut), passes.forward + passes.backward)
    drain = np.where(m[:, None] - 1 > behind, trip - few * passes.backward, 0.0)
    steady = ((m[:, None] - 1) * busy - few * passes.forward + np.maximum(drain, 0)).max(1)
    if hops.overlapped:
        return np.asarray(once + np.maximum(steady, (m - 1) * _round_trips(passes, count, hops)))
    return np.asarray(once + steady)


def _behind(cut: Cut) -> Ints:
    """Of each distinct stage, how many of every kind stand behind the last of its kind."""
    last = np.array([hold.last for hold in cut.holds])
    first = np.array([hold.first for hold in cut.holds])
    count = np.array([hold.count for hold in cut.holds])
    behind = last - np.maximum(last[:, None] + 1, first) + 1
    return np.asarray(np.clip(behind, 0, count))


def _round_trips(passes: StagePasses, count: Ints, hops: Hops) -> Floats:
    """What a micro-batch adds where stages wait for each other's messages.

    Over n stages in a row, n micro-batches are under way: each goes down and up, with 2(n - 1)
    messages, before the n-th after it begins.
    """
    most = np.zeros_like(passes.period[:, 0])
    for begin in range(len(count)):
        for end in range(begin + 1, len(count) + 1):
            stages = count[begin:end].sum()
            work = (count[begin:end] * passes.period[:, begin:end]).sum(axis=1)
            trip = (work + 2 * (stages - 1) * hops.longest[:, None]) / stages
            most = np.maximum(most, trip)
    return most


def _interleaved(cut: Cut, passes: StagePasses, m: Floats, count: Ints, hops: Hops) -> Floats:
    v = cut.chunks
    busy = _busy(cut, passes, hops)
    once = (count * (passes.forward + passes.backward)).sum(axis=1) / v
    if hops.overlapped:  # else each pass has its messages already
        once = once + 2 * (hops.total + (v - 1) * (hops.total + hops.turn))[:, None]
    steady = (m[:, None] * busy).max(axis=1) - busy.max(axis=1) / v
    return np.asarray(once + steady)


def _gpipe(passes: StagePasses, m: Floats, count: Ints, hops: Hops) -> Floats:
    once = (count * (passes.forward + passes.backward)).sum(axis=1) + 2 * hops.total[:, None]
    stop = 0.0 if hops.overlapped else hops.beyond[:, :, None]
    slowest = (passes.forward + stop).max(axis=1) + (passes.backward + stop).max(axis=1)
    return np.asarray(once + (m - 1) * slowest)


def _means(cut: Cut, passes: StagePasses, count: Ints, chunks: int = 1) -> list[Floats]:
    """Forward, backward and weight seconds of a chunk, the mean over stages."""
    parts = (passes.forward, passes.backward, passes.weight)
    return [(count * each).sum(axis=1) / (cut.stages * chunks) for each in parts]


def _zero_bubble(cut: Cut, passes: StagePasses, m: Floats, count: Ints, hops: Hops) -> Floats:
    """Weight gradients fill the bubble: once a stage ahead (h1), twice (h2, two searched).

    The slowest stage waits for the others' passes around its own, and for messages, less the weight
    gradients that it keeps for then; in h1 for the forward passes in front of it at least.
    """
    p = cut.stages
    fill = 1 if cut.schedule in {"zb-h1", "zb-1p"} else 2
    once = passes.forward + passes.backward
    others = (count * once).sum(axis=1, keepdims=True) - once
    waits = others + 2 * hops.total[:, None, None] - fill * (p - 1) * passes.weight
    least = np.zeros_like(waits)
    if fill == 1:
        first = np.array([hold.first for hold in cut.holds])
        front = np.minimum(first[:, None] - first, count[:, 0]).clip(0)
        least = np.einsum("jk,nkc->njc", front, passes.forward)
    steady = m[:, None] * _busy(cut, passes, hops) + np.maximum(waits, least)
    return np.asarray(steady.max(axis=1))


def _both_ways(cut: Cut, passes: StagePasses, m: Floats, count: Ints, hops: Hops) -> Floats:
    """Half of the micro-batches in each direction; each stage holds two chunks."""
    p = cut.stages
    forward, backward, weight = _means(cut, passes, count, chunks=2)
    bubble = (p / 2 - 1) * (forward + 2 * backward - weight) + hops.total[:, None]
    return np.asarray((m[:, None] / 2 * _busy(cut, passes, hops)).max(axis=1) + bubble)
