"""Seconds of a pipeline in closed form, for many layouts of one schedule.

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

The first micro-batch goes down and the last comes up with nothing beside it: what these passes take
longer on any stage is added.

A blocking message stops both ends: a stage's period grows by ``c`` for each neighbour.
They are tested against the exact timeline (tests/search/test_array_form.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from predictor.costs.prediction import Floats, Ints
from predictor.search.cuts import Cuts
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
    """

    total: Floats
    beside: Floats
    beyond: Floats
    longest: Floats
    turn: Floats

    @classmethod
    def joined(cls, parts: Sequence["Hops"]) -> "Hops":
        """Those of some layouts after those of others."""
        columns = [[getattr(part, each.name) for part in parts] for each in fields(cls)]
        return cls(*(np.concatenate(column) for column in columns))


def pipeline_seconds(
    cuts: Cuts,
    passes: StagePasses,
    micro_batches: Ints,
    hops: Hops,
    *,
    overlapped: bool,
) -> Floats:
    """Seconds until the last pass of a step has ended, by layout and clock.

    Args:
        cuts: Stages and schedule of each layout.
        passes: By layout, distinct stage and clock.
        micro_batches: Of each layout.
        hops: Messages of each layout.
        overlapped: Messages run beside computation.
    """
    m = micro_batches[:, None].astype(float)
    ends = _summed(cuts, _lone(passes, m, overlapped=overlapped or cuts.alone))
    if cuts.alone:
        whole = passes.forward + passes.backward + passes.weight
        return np.asarray(((m[:, None] - 1) * passes.period + whole)[:, 0] + ends)
    if overlapped:
        passes = passes.run_ahead()
    busy = _busy(cuts, passes, hops, overlapped=overlapped)
    if cuts.schedule == "interleaved":
        return ends + _interleaved(cuts, passes, m, busy, hops, overlapped=overlapped)
    if cuts.schedule == "gpipe":
        return ends + _gpipe(cuts, passes, m, hops, overlapped=overlapped)
    if cuts.schedule == "dualpipe":
        return ends + _both_ways(cuts, passes, m, busy, hops)
    if cuts.schedule.startswith("zb"):
        return ends + _zero_bubble(cuts, passes, m, busy, hops)
    return ends + _one_f_one_b(cuts, passes, m, busy, hops, overlapped=overlapped)


def _busy(cuts: Cuts, passes: StagePasses, hops: Hops, *, overlapped: bool) -> Floats:
    """What a micro-batch adds on each stage, with the messages that stop it."""
    alone = passes.forward + passes.backward + passes.weight
    if overlapped:
        return np.asarray(passes.period)
    busy = np.maximum(alone + hops.beside[:, :, None], passes.period)
    if cuts.chunks[0] == 1:  # the last stage waits for the one before, which has two neighbours
        both = np.minimum(alone[:, -1], alone[:, -2]) + hops.beside[:, -2, None]
        busy[:, -1] = np.maximum(busy[:, -1], both)
    return np.asarray(busy)


def _lone(passes: StagePasses, m: Floats, *, overlapped: bool) -> Floats:
    """What the first and the last pass of each stage make a step longer.

    A stage that runs ahead, and whose host or exchanges take longer than its products, has time for
    that. One that stops for every message begins each pass anew.
    """
    if not overlapped:
        return passes.lone[..., 0]
    hidden = m[:, None] * (passes.period - passes.queued.sum(axis=-1))
    return np.asarray(np.maximum(passes.lone[..., 1] - hidden, 0.0))


def _summed(cuts: Cuts, seconds: Floats) -> Floats:
    """Over all stages, by layout and clock."""
    return np.asarray((cuts.count[:, :, None] * seconds).sum(axis=1))


def _one_f_one_b(
    cuts: Cuts, passes: StagePasses, m: Floats, busy: Floats, hops: Hops, *, overlapped: bool
) -> Floats:
    once = _summed(cuts, passes.forward + passes.backward) + 2 * hops.total[:, None]
    behind = (cuts.stages[:, None] - 1 - cuts.last)[:, :, None]
    few = np.minimum(behind, m[:, None] - 1)
    trip = _behind(cuts) @ (passes.forward + passes.backward)
    drain = np.where(m[:, None] - 1 > behind, trip - few * passes.backward, 0.0)
    steady = ((m[:, None] - 1) * busy - few * passes.forward + np.maximum(drain, 0)).max(1)
    if overlapped:
        return np.asarray(once + np.maximum(steady, (m - 1) * _round_trips(cuts, passes, hops)))
    return np.asarray(once + steady)


def _behind(cuts: Cuts) -> Ints:
    """Of each distinct stage, how many of every kind stand behind the last of its kind."""
    last, first = cuts.last[:, None], cuts.first[:, None]
    behind = last - np.maximum(cuts.last[:, :, None] + 1, first) + 1
    return np.asarray(np.clip(behind, 0, cuts.count[:, None]))


def _round_trips(cuts: Cuts, passes: StagePasses, hops: Hops) -> Floats:
    """What a micro-batch adds where stages wait for each other's messages.

    Over n stages in a row, n micro-batches are under way: each goes down and up, with 2(n - 1)
    messages, before the n-th after it begins.
    """
    most = np.zeros_like(passes.period[:, 0])
    distinct = cuts.count.shape[1]
    for begin in range(distinct):
        for end in range(begin + 1, distinct + 1):
            count = cuts.count[:, begin:end, None]
            stages = count.sum(axis=1)
            work = (count * passes.period[:, begin:end]).sum(axis=1)
            trip = (work + 2 * (stages - 1) * hops.longest[:, None]) / stages
            most = np.maximum(most, trip)
    return most


def _interleaved(
    cuts: Cuts, passes: StagePasses, m: Floats, busy: Floats, hops: Hops, *, overlapped: bool
) -> Floats:
    v = cuts.chunks[:, None]
    once = _summed(cuts, passes.forward + passes.backward) / v
    if overlapped:  # else each pass has its messages already
        once = once + 2 * (hops.total + (v[:, 0] - 1) * (hops.total + hops.turn))[:, None]
    steady = (m[:, None] * busy).max(axis=1) - busy.max(axis=1) / v
    return np.asarray(once + steady)


def _gpipe(cuts: Cuts, passes: StagePasses, m: Floats, hops: Hops, *, overlapped: bool) -> Floats:
    once = _summed(cuts, passes.forward + passes.backward) + 2 * hops.total[:, None]
    stop = 0.0 if overlapped else hops.beyond[:, :, None]
    slowest = (passes.forward + stop).max(axis=1) + (passes.backward + stop).max(axis=1)
    return np.asarray(once + (m - 1) * slowest)


def _zero_bubble(cuts: Cuts, passes: StagePasses, m: Floats, busy: Floats, hops: Hops) -> Floats:
    """Weight gradients fill the bubble: once a stage ahead (h1), twice (h2, two searched).

    The slowest stage waits for the others' passes around its own, and for messages, less the weight
    gradients that it keeps for then; in h1 for the forward passes in front of it at least.
    """
    others_count = cuts.stages[:, None, None] - 1
    fill = 1 if cuts.schedule in {"zb-h1", "zb-1p"} else 2
    once = passes.forward + passes.backward
    others = _summed(cuts, once)[:, None] - once
    waits = others + 2 * hops.total[:, None, None] - fill * others_count * passes.weight
    least = np.zeros_like(waits)
    if fill == 1:
        ahead = cuts.first[:, :, None] - cuts.first[:, None]
        front = np.minimum(ahead, cuts.count[:, None]).clip(0)
        least = front @ passes.forward
    steady = m[:, None] * busy + np.maximum(waits, least)
    return np.asarray(steady.max(axis=1))


def _both_ways(cuts: Cuts, passes: StagePasses, m: Floats, busy: Floats, hops: Hops) -> Floats:
    """Half of the micro-batches in each direction; each stage holds two chunks."""
    stages = cuts.stages[:, None]
    forward, backward, weight = (
        _summed(cuts, each) / (2 * stages)
        for each in (passes.forward, passes.backward, passes.weight)
    )
    bubble = (stages / 2 - 1) * (forward + 2 * backward - weight) + hops.total[:, None]
    return np.asarray((m[:, None] / 2 * busy).max(axis=1) + bubble)
