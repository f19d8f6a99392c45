"""Expert layers of Megatron-Core on eight H100 beside the timings that its own tests expect.

    python benchmarks/moe_layers.py

``tests/validation/moe_layers.csv`` holds forward and backward milliseconds of
Megatron-LM's ``tests/functional_tests/test_cases/common/moe_perf/baseline.json`` (commit 32f2c9c),
whose ``test_cases.py`` names the shapes: 4,096 tokens a rank, experts over eight ranks, no gated
unit, no shared expert, fused permutation, routing forced to balance. Both passes are queued behind
a product of a few hundredths of a second, so that the GPU waits for the host only behind its one
read of token counts; their seconds are those of the timeline, at the clock that their mix settles
at. Weights' gradients are written in bf16: nothing is accumulated. In 8 bits each expert's rows are
filled up by a copy before and behind the products (``Fp8Padding``), which HybridEP's permutation
does by itself.
"""

import csv
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np

from predictor.case import Case, resolve
from predictor.costs import load_costs
from predictor.iteration.collectives import collective_costs
from predictor.iteration.implementations import local_moe, te_blocks, te_moe
from predictor.iteration.implementations.te_host import layer_host
from predictor.iteration.launches import FAMILIES, HostWork, Launch, Segment, Step, Tape
from predictor.iteration.maxplus import COMPUTE, HOST, after
from predictor.iteration.moe.shape import Routed
from predictor.iteration.priced import GAP, price
from predictor.iteration.shape import stages_of, step_shape
from predictor.operators import Gemm, GroupedGemm, Host

GPU = "h100-sxm5-80gb"
WITHIN = 0.15
AHEAD_SECONDS = 0.02
"""What the GPU is busy with while the host queues what comes before its read of the counts."""

PUBLISHED = Path(__file__).resolve().parents[1] / "tests" / "validation" / "moe_layers.csv"
SHAPES = {
    "mixtral": (4096, {"num_experts": 8, "top_k": 2, "expert_ffn_hidden_size": 14336}),
    "deepseek": (7168, {"num_experts": 32, "top_k": 8, "expert_ffn_hidden_size": 2048}),
}


def case_of(model: str, dispatcher: str, precision: str) -> Case:
    """A model of such layers; HybridEP, which has no name of its own, is timed as DeepEP."""
    hidden, moe = SHAPES[model]
    return Case.from_dict(
        {
            "model": {
                "name": model,
                "num_layers": 1,
                "hidden_size": hidden,
                "ffn_hidden_size": 4 * hidden,
                "num_attention_heads": 32,
                "num_query_groups": 32,
                "head_dim": 128,
                "vocab_size": 32000,
                "gated_mlp": False,
                "normalization": "rmsnorm",  # of a model without biases
                "position_embedding": "rope",
                "moe": moe,
            },
            "training": {
                "seq_length": 4096,
                "micro_batch_size": 1,
                "global_batch_size": 8,
                "precision": precision,
                "fp8_recipe": "blockwise" if precision == "fp8" else None,
            },
            "plan": {
                "tensor_parallel": 1,
                "expert_parallel": 8,
                "moe_dispatcher": "alltoall" if dispatcher == "alltoall" else "deepep",
                "moe_permute_fusion": True,
            },
            "cluster": {"gpu": GPU, "num_gpus": 8, "gpus_per_node": 8},
            "implementation": "megatron-core-te",
        }
    )


def predicted(case: Case, *, filled: bool) -> tuple[float, float]:
    """Forward and backward seconds of the layer's expert half, without norm and residual sums."""
    known = resolve(case).case
    shape = step_shape(known)
    layer = stages_of(known, shape)[0].chunks[0].blocks[-1].layer
    routed = shape.routed(layer)
    segments = []
    for phase, run in (("forward", te_moe.forward), ("backward", te_moe.backward)):
        tape = Tape()
        run(tape, shape, layer)
        steps = tape.steps()[1:] if phase == "forward" else tape.steps()[:-3]
        steps = tuple(_plain(step) for step in (_filled(steps, routed) if filled else steps))
        host = _host(phase, steps, routed)
        segments.append(Segment(label=phase, phase=phase, steps=steps, host=host))
    return _seconds(known, segments)


def _filled(steps: tuple[Step, ...], rows: Routed) -> tuple[Step, ...]:
    """With a copy of the experts' rows before their first product and one behind their last."""
    tape = Tape()
    tape.run(te_blocks.fused("copy", rows.rows, rows.layer.hidden))
    copy = tape.steps()
    products = [
        place
        for place, step in enumerate(steps)
        if isinstance(step, Launch) and isinstance(step.operator, GroupedGemm)
    ]
    first, behind = products[0], products[-1] + 1
    return (*steps[:first], *copy, *steps[first:behind], *copy, *steps[behind:])


def _host(phase: str, steps: tuple[Step, ...], rows: Routed) -> HostWork:
    """A layer's without attention: a dense layer less its MLP."""
    dense = Host(stack=local_moe.STACK, block="llama", phase=phase, quantity="layer")
    mlp = Host(stack=local_moe.STACK, block="moe", phase=phase, quantity="expert")
    return (*layer_host(phase, steps, rows, "none"), (dense, -1.0), (mlp, 1.0))


def _seconds(case: Case, segments: list[Segment]) -> tuple[float, float]:
    """Of one pass and the other behind it."""
    costs = load_costs(GPU)
    sheet = price(segments, costs, collective_costs(case, costs))
    mix: defaultdict[str, float] = defaultdict(float)
    for family, seconds in zip(sheet.family, sheet.seconds, strict=True):
        mix[FAMILIES[family]] += float(seconds)
    settled = sheet.settled(costs.heat, costs.heat.settled_clock_hz(mix))
    forward, backward = settled.matrices(costs.host_seconds(GAP), silent=False)[:, 0]
    begun = np.full(len(forward), AHEAD_SECONDS)
    begun[HOST] = 0.0
    between = after(forward, begun)
    ended = after(backward, between)
    return float(between[COMPUTE]) - AHEAD_SECONDS, float(ended[COMPUTE] - between[COMPUTE])


def _plain(step: Step) -> Step:
    if isinstance(step, Launch) and isinstance(step.operator, Gemm | GroupedGemm):
        return replace(step, operator=replace(step.operator, accumulate=False))
    return step


def rows() -> list[tuple[str, float, float]]:
    """Name of each published pass, its seconds, and the prediction."""
    found = []
    with PUBLISHED.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            name = f"{row['model']} {row['dispatcher']} {row['precision']}"
            filled = row["precision"] == "fp8" and row["dispatcher"] != "hybridep"
            case = case_of(row["model"], row["dispatcher"], row["precision"])
            seconds = predicted(case, filled=filled)
            for way, answer in zip(("forward", "backward"), seconds, strict=True):
                found.append((f"{name} {way}", 1e-3 * float(row[f"{way}_ms"]), answer))
    return found


def main() -> None:
    """Print every pass, worst first, and the mean of each format."""
    found = rows()
    for name, measured, answer in sorted(found, key=lambda row: -abs(row[2] / row[1] - 1.0)):
        error = 100.0 * (answer / measured - 1.0)
        print(f"{name:36} {1e3 * measured:6.2f} ms  {1e3 * answer:6.2f} ms  {error:+6.1f} %")
    for precision in ("bf16", "fp8"):
        errors = [abs(answer / seen - 1.0) for name, seen, answer in found if precision in name]
        within = sum(error <= WITHIN for error in errors)
        of_all = f"{within} of {len(errors)} within {100.0 * WITHIN:.0f} %"
        print(f"{precision}: mean {100.0 * np.mean(errors):.1f} %, {of_all}")


if __name__ == "__main__":
    main()
