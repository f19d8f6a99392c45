"""One case to one estimate: seconds with an interval, memory, money, and where they come from."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

from predictor.case import Case, load_gpu, resolve, tensor_parallel_candidates
from predictor.costs import Costs, load_costs
from predictor.iteration import memory
from predictor.iteration.costliest import OperatorShare
from predictor.iteration.dimensions import model_flops
from predictor.iteration.implementations import load as load_implementation
from predictor.iteration.priced import PricedStep, price
from predictor.iteration.run import Run
from predictor.iteration.shape import micro_batches_of, refuse, step_shape
from predictor.iteration.step import StepShape
from predictor.units import HOUR_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The answer; see ``docs/case_reference.md`` for the JSON of it."""

    case: Case
    iteration_seconds: float
    interval_seconds: tuple[float, float]
    tokens_per_second_per_gpu: float
    model_flops_per_second_per_gpu: float
    mfu: float
    memory_bytes_per_gpu: float
    memory_reserved_bytes_per_gpu: float
    memory_parts: Mapping[str, float]
    fits: bool
    usd_per_iteration: float | None
    joules_per_iteration: float
    breakdown: Mapping[str, float]
    exposed_communication_seconds: float
    bubble_seconds: float
    origin: Mapping[str, float]
    defaults_taken: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    top_operators: tuple[OperatorShare, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the case's fields first (``predictor estimate --json``)."""
        return {
            "case": self.case.to_dict(),
            "iteration_seconds": self.iteration_seconds,
            "interval_seconds": list(self.interval_seconds),
            "tokens_per_second_per_gpu": self.tokens_per_second_per_gpu,
            "model_flops_per_second_per_gpu": self.model_flops_per_second_per_gpu,
            "mfu": self.mfu,
            "memory_bytes_per_gpu": self.memory_bytes_per_gpu,
            "memory_reserved_bytes_per_gpu": self.memory_reserved_bytes_per_gpu,
            "memory_parts": dict(self.memory_parts),
            "fits": self.fits,
            "usd_per_iteration": self.usd_per_iteration,
            "joules_per_iteration": self.joules_per_iteration,
            "breakdown": dict(self.breakdown),
            "exposed_communication_seconds": self.exposed_communication_seconds,
            "bubble_seconds": self.bubble_seconds,
            "origin": dict(self.origin),
            "defaults_taken": list(self.defaults_taken),
            "notes": list(self.notes),
            "top_operators": [asdict(operator) for operator in self.top_operators],
        }


def estimate(case: Case, *, strict: bool = False) -> Estimate:
    """Estimate one training iteration.

    Without ``plan.tensor_parallel``, the smallest of 1, 2, 4, 8 that fits memory is taken, if any.

    Args:
        case: What is asked; absent fields take their documented defaults.
        strict: Refuse numbers that are extrapolated or come from a datasheet.

    Raises:
        CaseError: The case breaks a rule once its defaults are known.
        NotPredictable: A legal case that this version cannot estimate, or ``strict`` forbids.
        FitError: The SKU has no cost functions.
    """
    if case.plan.tensor_parallel is not None or case.cluster.num_gpus == 1:
        return _estimate(case, strict=strict)
    for tensor_parallel in tensor_parallel_candidates(case):
        wider = replace(case, plan=replace(case.plan, tensor_parallel=tensor_parallel))
        if _fits(wider):
            words = f"plan.tensor_parallel = {tensor_parallel} (smallest that fits)"
            return _estimate(wider, strict=strict, taken=(words,))
    return _estimate(case, strict=strict)


def _fits(case: Case) -> bool:
    """Whether a plan's memory fits, without pricing its time."""
    case = resolve(case).case
    refuse(case, parallel=bool(load_implementation(str(case.implementation)).PARALLEL))
    peak = _memory(case, step_shape(case), micro_batches_of(case))
    return peak.reserved_bytes <= load_gpu(case.cluster.gpu).memory_bytes


def _estimate(case: Case, *, strict: bool, taken: Sequence[str] = ()) -> Estimate:
    resolved = resolve(case)
    case = resolved.case
    implementation = load_implementation(str(case.implementation))
    refuse(case, parallel=bool(implementation.PARALLEL))
    costs = load_costs(case.cluster.gpu)
    shape = step_shape(case)
    run = Run(case, shape, _priced(str(case.implementation), shape, costs), costs, strict=strict)
    peak = _memory(case, shape, run.micro_batches)
    seconds = run.iteration_seconds
    half = run.half_seconds(compared=bool(implementation.COMPARED))
    tokens = float(case.training.seq_length * case.training.global_batch_size)
    flops = model_flops(case.model, tokens=tokens, seq_length=case.training.seq_length)
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
        memory_bytes_per_gpu=peak.allocated_bytes,
        memory_reserved_bytes_per_gpu=peak.reserved_bytes,
        memory_parts=dict(peak.parts),
        fits=peak.reserved_bytes <= costs.gpu.memory_bytes,
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


@lru_cache(maxsize=256)
def _priced(implementation: str, shape: StepShape, costs: Costs) -> PricedStep:
    """The launches of a shape and their seconds: built and priced once a process."""
    return price(load_implementation(implementation).build(shape), costs)


def _memory(case: Case, shape: StepShape, micro_batches: int) -> memory.Memory:
    if case.implementation == "hf-eager":
        return memory.eager_memory(shape, micro_batches=micro_batches)
    if case.implementation == "hf-compile":
        return memory.compiled_memory(shape, micro_batches=micro_batches)
    return memory.fused_memory(
        shape,
        in_flight=min(case.plan.pipeline_parallel, micro_batches),
        distributed=case.cluster.num_gpus > 1,
    )
