"""Host points: what the CPU spends to launch a layer, a step and a bare kernel."""

from typing import Final

from predictor.bench.points import Point
from predictor.bench.sweep.tiers import COMPILED_HOST, HOST
from predictor.operators import Host

LAYER_QUANTITIES: Final = (
    ("forward", "layer"),
    ("forward", "fixed"),
    ("backward", "layer"),
    ("backward", "fixed"),
    ("optimizer", "tensor"),
    ("optimizer", "fixed"),
)
EXPERT_QUANTITIES: Final = (("forward", "expert"), ("backward", "expert"))
BARE_QUANTITIES: Final = (("forward", "launch"), ("forward", "gap"))
RUNTIME_QUANTITIES: Final = (
    "launch",
    "event_record",
    "stream_wait",
    "graph_launch",
    "graph_launch_node",
    "graph_node",
    "stream_hop",
)


def bare_launches() -> list[Point]:
    """What a launch of no known activity costs the host, and the GPU between two kernels."""
    return [
        Point(operator=Host(stack="torch", phase=phase, quantity=quantity), tier=HOST)
        for phase, quantity in BARE_QUANTITIES
    ]


def points() -> list[Point]:
    """The runtime's calls and bare launches, then the blocks of eager and compiled models."""
    runtime = [
        Point(operator=Host(stack="cuda", quantity=quantity), tier=HOST)
        for quantity in RUNTIME_QUANTITIES
    ]
    eager = [
        Point(
            operator=Host(stack="hf-eager", block=block, phase=phase, quantity=quantity), tier=HOST
        )
        for block in ("llama", "gpt2", "qwen3")
        for phase, quantity in LAYER_QUANTITIES
    ]
    compiled = [
        Point(
            operator=Host(stack="hf-compile", block=block, phase=phase, quantity=quantity),
            tier=COMPILED_HOST,
        )
        for block in ("llama", "gpt2")
        for phase, quantity in LAYER_QUANTITIES[:4]
    ]
    return [*runtime, *bare_launches(), *eager, *compiled, *of_many_ranks()]


def of_many_ranks() -> list[Point]:
    """A collective's call, and the layers of FSDP2 and of Megatron-Core."""
    layers = (
        ("hf-fsdp2", "llama", LAYER_QUANTITIES),
        ("megatron-core-local", "llama", LAYER_QUANTITIES),
        ("megatron-core-local", "moe", (*LAYER_QUANTITIES[:4], *EXPERT_QUANTITIES)),
    )
    return [
        Point(operator=Host(stack="torch.distributed", quantity="collective"), tier=HOST),
        *(
            Point(
                operator=Host(stack=stack, block=block, phase=phase, quantity=quantity),
                tier=COMPILED_HOST,
            )
            for stack, block, quantities in layers
            for phase, quantity in quantities
        ),
    ]
