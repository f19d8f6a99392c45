"""An estimate for people: at most 100 columns, plain characters."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

from predictor.case import load_gpu
from predictor.report.quantities import (
    bar,
    bytes_text,
    count_text,
    joules_text,
    percent_text,
    rate_text,
    seconds_text,
    usd_text,
)
from predictor.report.table import columns, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from predictor.case import Case
    from predictor.iteration import Estimate

WIDTH = 100
LABEL_WIDTH = 48
# A share below this is not worth a line.
LEAST_SHARE = 0.0005


def estimate_text(estimate: Estimate) -> str:
    """Return an estimate with its interval, where time and memory go, and what it rests on."""
    blocks = (
        _head(estimate.case),
        _figures(estimate),
        _shares("time", estimate.breakdown, estimate.iteration_seconds, seconds_text),
        _shares("memory", estimate.memory_parts, estimate.memory_bytes_per_gpu, bytes_text),
        _operators(estimate),
        _foundations(estimate),
    )
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _head(case: Case) -> list[str]:
    plan, training, cluster = case.plan, case.training, case.cluster
    degrees = {
        "tensor": plan.tensor_parallel,
        "context": plan.context_parallel,
        "pipeline": plan.pipeline_parallel,
        "expert": plan.expert_parallel,
        "data": plan.data_parallel,
    }
    told = [f"{name} {degree}" for name, degree in degrees.items() if degree and degree > 1]
    layout = f"parallel: {', '.join(told)}; sharding {plan.sharding}" if told else "one GPU"
    batch = (
        f"sequence {training.seq_length}, global batch {training.global_batch_size} in "
        f"micro-batches of {training.micro_batch_size}, {training.precision}, "
        f"recompute {training.recompute}"
    )
    model = case.model.name or f"{case.model.num_layers} layers of {case.model.hidden_size}"
    return [
        f"{model} on {cluster.num_gpus} x {cluster.gpu}, {case.implementation}",
        layout,
        batch,
    ]


def _figures(estimate: Estimate) -> list[str]:
    gpu = load_gpu(estimate.case.cluster.gpu)
    low, high = (seconds_text(bound) for bound in estimate.interval_seconds)
    verdict = "fits" if estimate.fits else "DOES NOT FIT"
    throughput = (
        f"{count_text(estimate.tokens_per_second_per_gpu)} tokens/s a GPU, "
        f"{rate_text(estimate.model_flops_per_second_per_gpu)}, MFU {percent_text(estimate.mfu)}"
    )
    memory = (
        f"{bytes_text(estimate.memory_bytes_per_gpu)} allocated, "
        f"{bytes_text(estimate.memory_reserved_bytes_per_gpu)} reserved of "
        f"{bytes_text(gpu.memory_bytes)}: {verdict}"
    )
    rows = [
        ("iteration", f"{seconds_text(estimate.iteration_seconds)}, 90 % in {low} to {high}"),
        ("throughput", throughput),
        ("memory", memory),
        ("waiting", _waiting(estimate)),
        ("energy", f"{joules_text(estimate.joules_per_iteration)} in all GPUs"),
    ]
    if estimate.usd_per_iteration is not None:
        price = f"{usd_text(estimate.usd_per_iteration)} at {gpu.usd_per_gpu_hour} USD/GPU-hour"
        rows.append(("price", f"{price} ({gpu.price_source.split(';')[0]})"))
    return [shortened(line, WIDTH) for line in columns(rows)]


def _waiting(estimate: Estimate) -> str:
    whole = estimate.iteration_seconds
    parts = {
        "exposed communication": estimate.exposed_communication_seconds,
        "pipeline bubble": estimate.bubble_seconds,
    }
    return ", ".join(
        f"{name} {seconds_text(seconds)} ({percent_text(seconds / whole)})"
        if seconds > 0
        else f"{name} none"
        for name, seconds in parts.items()
    )


def _shares(
    title: str, parts: Mapping[str, float], whole: float, worded: Callable[[float], str]
) -> list[str]:
    ranked = sorted(parts.items(), key=lambda item: -item[1])
    rows = [
        (
            f"  {name.replace('_', ' ')}",
            worded(value),
            percent_text(value / whole),
            bar(value / whole),
        )
        for name, value in ranked
        if whole > 0 and value / whole >= LEAST_SHARE
    ]
    return [f"{title} by part", *columns(rows, right=(1, 2))] if rows else []


def _operators(estimate: Estimate) -> list[str]:
    rows = [
        (
            f"  {shortened(top.label, LABEL_WIDTH)}",
            f"{count_text(top.launches)} x",
            seconds_text(top.seconds),
            f"{percent_text(top.share_of_peak)} of {top.bound_by}",
            top.origin,
        )
        for top in estimate.top_operators
    ]
    return ["costliest operators", *columns(rows, right=(1, 2, 3))] if rows else []


def _foundations(estimate: Estimate) -> list[str]:
    origin = ", ".join(
        f"{name} {percent_text(share)}"
        for name, share in estimate.origin.items()
        if share >= LEAST_SHARE
    )
    lines = _wrapped("origin of the seconds: ", origin)
    if estimate.defaults_taken:
        lines += _wrapped("defaults taken: ", "; ".join(estimate.defaults_taken))
    for note in estimate.notes:
        lines += _wrapped("note: ", note)
    return lines


def _wrapped(head: str, text: str) -> list[str]:
    return wrap(f"{head}{text}", WIDTH, subsequent_indent="  ")
