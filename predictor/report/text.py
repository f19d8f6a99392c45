"""An estimate for people, at most 100 columns wide."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

from predictor.case import load_gpu
from predictor.report.quantities import (
    bar,
    bytes_text,
    bytes_texts,
    count_text,
    joules_text,
    percent_text,
    price_text,
    rate_text,
    seconds_text,
    seconds_texts,
    usd_text,
)
from predictor.report.table import WIDTH, columns, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from predictor.case import Case, Training
    from predictor.case.plan_schema import Plan
    from predictor.iteration import Estimate

INDENT = GAP = "  "
FULL, EMPTY = "#", "."
SIXTEEN_BITS = frozenset({"bf16", "fp16"})
_HARD_SPACE = "\x00"
_COLUMNS = "runs, seconds, share of the peak of what bounds them, origin"
# A share below this is not worth a line.
LEAST_SHARE = 0.0005


def estimate_text(estimate: Estimate) -> str:
    """Return an estimate with its interval, where time and memory go, and what it rests on."""
    blocks = (
        heading(estimate.case),
        _figures(estimate),
        _time(estimate),
        _memory(estimate),
        _operators(estimate),
        _foundations(estimate),
    )
    return "\n\n".join("\n".join(block) for block in blocks if block)


def heading(case: Case) -> list[str]:
    """Model and machine, plan, batch: a line each, or more where one is too wide."""
    training, cluster = case.training, case.cluster
    batch = (
        f"sequence {training.seq_length}, global batch {training.global_batch_size} in "
        f"micro-batches of {training.micro_batch_size}, {training.precision}, "
        f"recompute {training.recompute}{_adapters(training)}"
    )
    model = case.model.name or f"{case.model.num_layers} layers of {case.model.hidden_size}"
    return [
        f"{model} on {cluster.num_gpus} x {cluster.gpu}, {case.implementation}",
        *_wrapped(_layout(case.plan)),
        *_wrapped(batch),
    ]


def _adapters(training: Training) -> str:
    """What alone is trained, if not all weights are."""
    if training.adapter_rank is None:
        return ""
    modules = ", ".join(training.adapter_modules or ())
    return f"; LoRA of rank {training.adapter_rank} on {modules}"


def _layout(plan: Plan) -> str:
    """Degrees of parallelism above one, with the schedule of a pipeline, and the sharding."""
    chunks = f", {plan.virtual_pipeline} chunks a stage" if plan.virtual_pipeline > 1 else ""
    degrees = {
        "tensor": (plan.tensor_parallel, ""),
        "context": (plan.context_parallel, ""),
        "pipeline": (plan.pipeline_parallel, f" ({plan.schedule}{chunks})"),
        "expert": (plan.expert_parallel, ""),
        "data": (plan.data_parallel, ""),
    }
    shown = [f"{name} {degree}{how}" for name, (degree, how) in degrees.items() if degree > 1]
    return f"parallel: {', '.join(shown)}; sharding {plan.sharding}" if shown else "one GPU"


def _figures(estimate: Estimate) -> list[str]:
    gpu = load_gpu(estimate.case.cluster.gpu)
    whole = estimate.iteration_seconds
    low, high = estimate.interval_seconds
    interval = f"90 % in {seconds_text(low)} to {seconds_text(high)}"
    half = f"±{percent_text((high - low) / 2 / whole)}"
    rows = [
        ("iteration", f"{seconds_text(whole)}, {interval} ({half})"),
        ("throughput", throughput_text(estimate)),
        ("memory", memory_text(estimate)),
        ("waiting", _waiting(estimate)),
        ("energy", f"{joules_text(estimate.joules_per_iteration)} in all GPUs"),
    ]
    if estimate.usd_per_iteration is not None:
        price = price_text(gpu.usd_per_gpu_hour, gpu.price_source)
        rows.append(("price", f"{usd_text(estimate.usd_per_iteration)} {price}"))
    return [shortened(line, WIDTH) for line in columns(rows)]


def throughput_text(estimate: Estimate) -> str:
    """Return tokens a second and MFU; the peak is named where products run in other formats."""
    whole = "" if estimate.case.training.precision in SIXTEEN_BITS else " of the bf16 peak"
    return (
        f"{count_text(estimate.tokens_per_second_per_gpu)} tokens/s a GPU, "
        f"{rate_text(estimate.model_flops_per_second_per_gpu)}, "
        f"MFU {percent_text(estimate.mfu)}{whole}"
    )


def memory_text(estimate: Estimate) -> str:
    """Return what the fullest GPU allocates and reserves, and whether that fits."""
    return (
        f"{bytes_text(estimate.memory_bytes_per_gpu)} allocated, "
        f"{bytes_text(estimate.memory_reserved_bytes_per_gpu)} reserved of "
        f"{bytes_text(load_gpu(estimate.case.cluster.gpu).memory_bytes)}: "
        f"{'fits' if estimate.fits else 'DOES NOT FIT'}"
    )


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


def _time(estimate: Estimate) -> list[str]:
    return _shares("time by part", estimate.breakdown, estimate.iteration_seconds, seconds_texts)


def _memory(estimate: Estimate) -> list[str]:
    """Parts of the fullest GPU's memory; with what is free they add up to all of it."""
    there = float(load_gpu(estimate.case.cluster.gpu).memory_bytes)
    needed = estimate.memory_reserved_bytes_per_gpu
    after = {"beside the allocator": needed - estimate.memory_bytes_per_gpu}
    title = f"memory of the fullest GPU, {bytes_text(there)}"
    if needed > there:
        title += f" of {bytes_text(needed)} needed"
        return _shares(title, estimate.memory_parts, needed, bytes_texts, after)
    after["free"] = there - needed
    *lines, free = _shares(title, estimate.memory_parts, there, bytes_texts, after)
    return [*lines, free.replace(FULL, EMPTY)]


def _shares(
    title: str,
    parts: Mapping[str, float],
    whole: float,
    worded: Callable[[Iterable[float]], list[str]],
    after: Mapping[str, float] | None = None,
) -> list[str]:
    """Parts of a whole, largest first, each with a bar; ``after`` comes last, in its order."""
    ranked = sorted(parts.items(), key=lambda item: -item[1])
    told = [item for item in ranked if item[1] / whole >= LEAST_SHARE]
    told += (after or {}).items()
    texts = worded(value for _, value in told)
    rows = [
        (f"  {name.replace('_', ' ')}", text, percent_text(value / whole), bar(value / whole))
        for (name, value), text in zip(told, texts, strict=True)
    ]
    return [title, *columns(rows, right=(1, 2))] if rows else []


def _operators(estimate: Estimate) -> list[str]:
    tops = estimate.top_operators
    seconds = seconds_texts(top.seconds for top in tops)
    rows = [
        (
            f"{count_text(top.launches)} x",
            text,
            f"{percent_text(top.share_of_peak)} {top.bound_by}",
            top.origin,
        )
        for top, text in zip(tops, seconds, strict=True)
    ]
    figures = columns(rows, right=(0, 1, 2))
    room = WIDTH - max(map(len, figures), default=0) - len(INDENT) - len(GAP)
    labels = columns([(INDENT + shortened(top.label, room),) for top in tops])
    width = max(map(len, labels), default=0)
    lines = [f"{name:<{width}}{GAP}{line}" for name, line in zip(labels, figures, strict=True)]
    return [f"costliest operators: {_COLUMNS}", *lines] if lines else []


def _foundations(estimate: Estimate) -> list[str]:
    origin = [
        f"{name} {percent_text(share)}"
        for name, share in estimate.origin.items()
        if share >= LEAST_SHARE
    ]
    lines = _listed("origin of the seconds: ", origin, ", ")
    lines += _listed("defaults taken: ", estimate.defaults_taken, "; ")
    for note in estimate.notes:
        lines += _wrapped(f"note: {note}")
    if not estimate.fits:
        lines += _wrapped(
            "it does not fit: `predictor search`, with the same model, --gpu, "
            "--num-gpus and --global-batch-size, finds the plans that do"
        )
    return lines


def _listed(head: str, items: Sequence[str], separator: str) -> list[str]:
    """Items after a heading, none of them broken over two lines while it fits in one."""
    if not items:
        return []
    whole = separator.join(item.replace(" ", _HARD_SPACE) for item in items)
    return [line.replace(_HARD_SPACE, " ") for line in _wrapped(head + whole)]


def _wrapped(text: str) -> list[str]:
    return wrap(text, WIDTH, subsequent_indent=INDENT)
