"""Expert layers of Megatron-Core on eight H100 beside the timings that its own tests expect.

    python benchmarks/moe_layers.py

``tests/validation/moe_layers.csv`` holds forward and backward milliseconds of
Megatron-LM's ``tests/functional_tests/test_cases/common/moe_perf/baseline.json`` (commit 32f2c9c),
whose ``test_cases.py`` names the shapes: 4,096 tokens a rank, experts over eight ranks, no gated
unit, no shared expert, fused permutation, routing forced to balance. A long product before each
pass hides the host, so a pass is taken as the sum of its launches at the clock that its own mix
settles at; what the GPU waits for behind the one read of token counts is left out. Weights'
gradients are written in bf16: nothing is accumulated. In 8 bits each expert's rows are filled up by
copies before and behind the products (``Fp8Padding``), which HybridEP's permutation does by itself.
"""

import csv
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from predictor.case import Case, resolve
from predictor.costs import load_costs
from predictor.iteration.collectives import collective_costs
from predictor.iteration.implementations import te_blocks, te_moe
from predictor.iteration.launches import FAMILIES, Launch, Segment, Step, Tape
from predictor.iteration.priced import GAP, price
from predictor.iteration.shape import stages_of, step_shape
from predictor.operators import Gemm, GroupedGemm

GPU = "h100-sxm5-80gb"
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


def predicted(case: Case, *, copies: int) -> tuple[float, float]:
    """Forward and backward seconds of the layer's expert half, without norm and residual sums."""
    known = resolve(case).case
    shape = step_shape(known)
    layer = stages_of(known, shape)[0].chunks[0].blocks[-1].layer
    passes = []
    for run in (te_moe.forward, te_moe.backward):
        tape = Tape()
        for _ in range(copies):
            rows = shape.routed(layer)
            tape.run(te_blocks.fused("copy", rows.rows, layer.hidden))
        run(tape, shape, layer)
        passes.append(tape.steps())
    forward, backward = passes
    return _seconds(known, forward[:copies] + forward[copies + 1 :]), _seconds(known, backward[:-3])


def _seconds(case: Case, steps: tuple[Step, ...]) -> float:
    costs = load_costs(GPU)
    segment = Segment(label="experts", phase="forward", steps=tuple(map(_plain, steps)))
    sheet = price((segment,), costs, collective_costs(case, costs))
    mix: defaultdict[str, float] = defaultdict(float)
    for family, seconds in zip(sheet.family, sheet.seconds, strict=True):
        mix[FAMILIES[family]] += float(seconds)
    settled = sheet.settled(costs.heat, costs.heat.settled_clock_hz(mix))
    kernels = sum(launch.kernels for launch in segment.launches)
    return float(settled.seconds.sum()) + kernels * costs.host_seconds(GAP)


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
            seconds = predicted(case, copies=2 * filled)
            for way, answer in zip(("forward", "backward"), seconds, strict=True):
                found.append((f"{name} {way}", 1e-3 * float(row[f"{way}_ms"]), answer))
    return found


def main() -> None:
    """Print every pass, worst first."""
    for name, measured, answer in sorted(rows(), key=lambda row: -abs(row[2] / row[1] - 1.0)):
        error = 100.0 * (answer / measured - 1.0)
        print(f"{name:36} {1e3 * measured:6.2f} ms  {1e3 * answer:6.2f} ms  {error:+6.1f} %")


if __name__ == "__main__":
    main()
