"""What heat does to products in two real steps: one of nothing else, one of a whole model.

    python benchmarks/heat_steps.py SKU [--seconds 15]

Needs PyTorch, transformers and the GPU of the SKU. Each step runs for a quarter of a minute, so
that the power cap has settled its clock; the kernels of the last two seconds are then traced. The
rate of a step's products is their flops over the seconds of their kernels. Predictions are those of
the committed fit, printed before anything runs. Each step has a process of its own: a profiler that
ran once in a process slows every later launch of it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import time
from typing import TYPE_CHECKING, Any

from predictor import Case, estimate, load_gpu
from predictor.bench.telemetry import Telemetry, nvml_source
from predictor.costs import load_costs
from predictor.operators import Gemm

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = 8192
LAYERS = ((14336, 4096), (4096, 14336), (6144, 4096), (4096, 4096))
"""Linear layers (n, k) of the step of products: those of an 8-billion-parameter Llama."""

MODEL: dict[str, Any] = {
    "name": "llama",
    "num_layers": 16,
    "hidden_size": 2048,
    "ffn_hidden_size": 8192,
    "num_attention_heads": 32,
    "num_query_groups": 8,
    "head_dim": 64,
    "vocab_size": 128256,
    "gated_mlp": True,
    "normalization": "rmsnorm",
    "position_embedding": "rope",
    "tied_embeddings": True,
    "qk_norm": False,
}
SEQ_LENGTH, BATCH = 4096, 4
MODEL_LAYERS = (
    *((2048, 2048), (512, 2048), (512, 2048), (2048, 2048)),
    *((8192, 2048), (8192, 2048), (2048, 8192)),
)
PASSES = 3
TRACED_SECONDS = 2.0
PRODUCT = re.compile(r"nvjet|gemm|splitKreduce", re.IGNORECASE)


def products_flops() -> float:
    """Flops of the step of products: forward, dgrad and wgrad of each layer."""
    return PASSES * sum(2.0 * ROWS * n * k for n, k in LAYERS)


def model_flops() -> float:
    """Flops of the model's products."""
    each = MODEL["num_layers"] * sum(n * k for n, k in MODEL_LAYERS)
    head = MODEL["vocab_size"] * MODEL["hidden_size"]
    return PASSES * 2.0 * SEQ_LENGTH * BATCH * (each + head)


def predicted_products(sku: str) -> tuple[float, float]:
    """Rate, and the clock at which the step of products settles."""
    costs = load_costs(sku)
    operators = [
        Gemm(m=ROWS, n=n, k=k, kind=kind)
        for n, k in LAYERS
        for kind in ("forward", "dgrad", "wgrad")
    ]
    clock = costs.heat.settled_clock_hz({"gemm": 1.0})
    seconds = costs.predict(operators).seconds.sum() * costs.heat.tensor_factor(clock)
    return products_flops() / float(seconds), clock


def predicted_model(sku: str) -> float:
    """Rate of the model's products by the estimate of its step."""
    case = Case.from_dict(
        {
            "model": MODEL,
            "training": {
                "seq_length": SEQ_LENGTH,
                "micro_batch_size": BATCH,
                "global_batch_size": BATCH,
                "precision": "bf16",
                "recompute": "none",
                "master_weights": "none",
                "optimizer": "adamw-fused-bf16-states",
            },
            "plan": {"tensor_parallel": 1, "pipeline_parallel": 1, "data_parallel": 1},
            "cluster": {"gpu": sku, "num_gpus": 1, "gpus_per_node": 1},
            "implementation": "hf-eager",
        }
    )
    return model_flops() / estimate(case).breakdown["gemm"]


def products_step() -> Callable[[], None]:
    """The three products of each layer on normal numbers, one after the other."""
    import torch

    def normal(*shape: int) -> Any:  # noqa: ANN401 - a tensor
        return torch.randn(*shape, device="cuda", dtype=torch.bfloat16)

    operands = [(normal(ROWS, k), normal(n, k), normal(ROWS, n)) for n, k in LAYERS]
    results = [[torch.empty_like(each) for each in layer] for layer in operands]

    def step() -> None:
        for (x, w, y), (dx, dw, out) in zip(operands, results, strict=True):
            torch.mm(x, w.T, out=out)
            torch.mm(y, w, out=dx)
            torch.mm(y.T, x, out=dw)

    return step


def model_step() -> Callable[[], None]:
    """A training iteration of the model, eager, by Hugging Face's code."""
    from predictor.bench.steps.child import hugging_face_iteration

    return hugging_face_iteration(
        {
            "implementation": "hf-eager",
            "model": MODEL,
            "seq_length": SEQ_LENGTH,
            "batch": BATCH,
            "recompute": "none",
        }
    )


def repeat(step: Callable[[], None], seconds: float) -> int:
    """Run a step for so long, each iteration synchronised; return how many there were."""
    import torch

    begin, count = time.monotonic(), 0
    while time.monotonic() < begin + seconds:
        step()
        torch.cuda.synchronize()
        count += 1
    return count


def product_seconds(step: Callable[[], None]) -> float:
    """Kernel seconds of the products of one step, traced while the device stays hot."""
    import torch
    from torch.profiler import ProfilerActivity

    with torch.profiler.profile(activities=[ProfilerActivity.CUDA]) as trace:
        before = repeat(step, TRACED_SECONDS)  # what starting the profiler let cool is hot again
        count = repeat(step, TRACED_SECONDS)
    kernels = sorted(
        (event.time_range.start, event.device_time)
        for event in trace.events()
        if str(event.device_type).endswith("CUDA") and PRODUCT.search(event.name)
    )
    kept = kernels[len(kernels) * before // (before + count) :]
    return sum(micros for _, micros in kept) * 1e-6 / count


def measure(name: str, seconds: float) -> None:
    """Heat the device with a step and print the rate of its products, clock and power."""
    import torch

    torch.manual_seed(0)
    flops, make = STEPS[name]
    step = make()
    place = torch.cuda.get_device_properties(0)
    bus = f"{place.pci_domain_id:08x}:{place.pci_bus_id:02x}:{place.pci_device_id:02x}.0"
    with Telemetry(nvml_source(bus)) as telemetry:
        repeat(step, seconds)
        now = time.monotonic()
        hot = telemetry.window(now - 0.4 * seconds, now)
        rate = flops() / product_seconds(step)
    print(
        f"{name}: measured {rate / 1e12:.0f} TFLOP/s at "
        f"{(hot.sm_clock_hz or 0.0) / 1e6:.0f} MHz, {hot.watts or 0.0:.0f} W",
        flush=True,
    )


STEPS: dict[str, tuple[Callable[[], float], Callable[[], Callable[[], None]]]] = {
    "products": (products_flops, products_step),
    "model": (model_flops, model_step),
}


def main() -> int:
    """Print predictions, then measure each step in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sku")
    parser.add_argument("--seconds", type=float, default=15.0)
    arguments = parser.parse_args()
    rate, clock = predicted_products(arguments.sku)
    highest = load_costs(arguments.sku).heat.max_clock_hz
    print(
        f"{load_gpu(arguments.sku).sku}, clock of a cool device {highest / 1e6:.0f} MHz\n"
        f"products: predicted {rate / 1e12:.0f} TFLOP/s at {clock / 1e6:.0f} MHz\n"
        f"model: predicted {predicted_model(arguments.sku) / 1e12:.0f} TFLOP/s",
        flush=True,
    )
    context = multiprocessing.get_context("spawn")
    failed = 0
    for name in STEPS:
        process = context.Process(target=measure, args=(name, arguments.seconds))
        process.start()
        process.join()
        failed += process.exitcode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
