"""One case to one estimate: seconds with an interval, memory, money, and where they come from."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from predictor.case import Case, load_gpu, resolve, tensor_parallel_candidates
from predictor.costs import Costs, load_costs
from predictor.iteration.answer import Estimate
from predictor.iteration.built import built_step, peak_memory, run_of
from predictor.iteration.dimensions import adapters_of, model_flops
from predictor.iteration.implementations import load as load_stack
from predictor.iteration.refusing import refuse
from predictor.operators import Operator
from predictor.units import HOUR_SECONDS


def estimate(case: Case, *, strict: bool = False, costs: Costs | None = None) -> Estimate:
    """Estimate one training iteration.

    Without ``plan.tensor_parallel``, the smallest of 1, 2, 4, 8 that fits memory is taken; where
    none fits, the largest, which comes nearest.

    Args:
        case: What is asked; absent fields take their documented defaults.
        strict: Refuse numbers that are extrapolated or come from a datasheet.
        costs: Cost functions; by default those of the case's GPU.

    Raises:
        CaseError: The case breaks a rule once its defaults are known.
        NotPredictable: A legal case that this version cannot estimate, or ``strict`` forbids.
        FitError: The SKU has no cost functions.
    """
    if case.plan.tensor_parallel is not None or case.cluster.num_gpus == 1:
        return _estimate(case, strict=strict, costs=costs)
    tried = tensor_parallel_candidates(case)
    if not tried:
        return _estimate(case, strict=strict, costs=costs)
    allowed = ", ".join(map(str, tried))
    for tensor_parallel in tried:
        wider = replace(case, plan=replace(case.plan, tensor_parallel=tensor_parallel))
        if _fits(wider):
            words = f"plan.tensor_parallel = {tensor_parallel} (smallest of {allowed} that fits)"
            return _estimate(wider, strict=strict, taken=(words,), costs=costs)
    words = f"plan.tensor_parallel = {tensor_parallel} (none of {allowed} fits)"
    return _estimate(wider, strict=strict, taken=(words,), costs=costs)


def estimate_many(cases: Iterable[Case], *, strict: bool = False) -> list[Estimate]:
    """Estimate many cases in order; tables are read once, and memory holds the answers alone.

    Raises:
        PredictorError: What :func:`estimate` raises of the first case that it refuses.
    """
    return [estimate(case, strict=strict) for case in cases]


def operators_of(case: Case) -> Counter[Operator]:
    """Every operator that the ranks of a resolved case launch in a step, host activities included.

    Stages add up: a measurement of each operator serves all of them.
    """
    counts: Counter[Operator] = Counter()
    pipeline = built_step(case).pipeline
    for stage in range(len(pipeline.stages)):
        for program, runs in pipeline.counted(stage):
            for segment, repeats in program:
                for launch in segment.launches:
                    counts[launch.operator] += runs * repeats
                for activity, times in segment.host or ():
                    counts[activity] += math.ceil(runs * repeats * times)
    return +counts


def _fits(case: Case) -> bool:
    """Whether a plan's memory fits, without pricing its time."""
    case = resolve(case).case
    stack = load_stack(str(case.implementation))
    refuse(case, stack)
    return bool(peak_memory(case).reserved_bytes <= load_gpu(case.cluster.gpu).memory_bytes)


def _estimate(
    case: Case, *, strict: bool, taken: Sequence[str] = (), costs: Costs | None = None
) -> Estimate:
    resolved = resolve(case)
    case = resolved.case
    stack = load_stack(str(case.implementation))
    refuse(case, stack)
    costs = costs or load_costs(case.cluster.gpu)
    run = run_of(case, costs, strict=strict)
    peak = peak_memory(case)
    seconds = run.iteration_seconds
    half = run.half_seconds(compared=stack.compared)
    tokens = float(case.training.seq_length * case.training.global_batch_size)
    flops = model_flops(
        case.model,
        tokens=tokens,
        seq_length=case.training.seq_length,
        adapters=adapters_of(case.training),
    )
    rate = flops / seconds / case.cluster.num_gpus
    price_ = costs.gpu.usd_per_gpu_hour
    usd = None if price_ is None else price_ * case.cluster.num_gpus * seconds / HOUR_SECONDS
    return Estimate(
        case=case,
        iteration_seconds=seconds,
        interval_seconds=(seconds - half, seconds + half),
        tokens_per_second_per_gpu=tokens / seconds / case.cluster.num_gpus,
        model_flops_per_second_per_gpu=rate,
        mfu=rate / costs.gpu.peak_flops_per_second["bf16"],
        memory_bytes_per_gpu=float(peak.allocated_bytes),
        memory_reserved_bytes_per_gpu=float(peak.reserved_bytes),
        memory_parts={name: float(size) for name, size in peak.parts.items()},
        fits=bool(peak.reserved_bytes <= costs.gpu.memory_bytes),
        usd_per_iteration=usd,
        joules_per_iteration=run.joules(),
        breakdown=run.breakdown,
        exposed_communication_seconds=run.breakdown.get("communication", 0.0),
        bubble_seconds=run.breakdown.get("bubble", 0.0),
        origin=run.origin_shares(),
        defaults_taken=(*taken, *resolved.defaults_taken),
        notes=(*case.model.notes, *run.notes()),
        top_operators=run.top_operators(),
    )
