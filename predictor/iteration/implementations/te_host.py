"""What the host spends on an expert layer of Megatron-Core with Transformer Engine.

Router and token dispatcher are the code of Megatron-Core's local layer, and attention, norms and
adds are as many modules: the measured local layers (``host.csv``, stack ``megatron-core-local``)
stand for them. Transformer Engine launches fewer kernels and does more in Python around each.
Grouped experts are one MLP's modules whatever their number; their products leave in a loop in C++,
a bare launch each. Linear modules beyond those of a Mixtral layer (latent attention's projections,
shared experts) cost half of a measured expert each, which is two; other launches beyond it (casts,
norms, biases) what one of the measured eager layer does, a collective what a measured call does.
What CUDA graphs hold costs nothing: one replay is a few microseconds. The router's hold the shared
experts too.

Where dispatch and combine run beside another micro-batch, a layer is four schedule nodes, each with
an autograd graph, two waits for events and a stream of its own (Megatron-Core 0.18
``pipeline_parallel/utils.py``, ``ScheduleNode``).
"""

from collections.abc import Sequence
from typing import Final

from predictor.iteration.implementations import local_moe
from predictor.iteration.implementations.te_dispatch import MAP_KERNELS
from predictor.iteration.launches import HostWork, Launch, Step
from predictor.iteration.moe.shape import Routed
from predictor.iteration.stack import called, module_launches
from predictor.operators import Collective, GroupedGemm, Host

PLAIN_LAUNCHES: Final = {"forward": 31 + MAP_KERNELS, "backward": 35}
"""Kernels of this stack's Mixtral layer on one GPU, grouped products apart."""

UNFUSED_LAUNCHES: Final = {
    "forward": local_moe.PICK_KERNELS - MAP_KERNELS + 1,
    "backward": 1,
}
"""More of them where permutation is not fused, as in the measured layer: fused, it is queued by
Triton's slower launches (Transformer Engine 2.8 ``triton/permutation.py``), for as much in all."""

EXPERT_PRODUCTS: Final = {"forward": 2, "backward": 4}
EXPERT_LINEARS = 2
ATTENTION_LINEARS = 2
"""Of attention that is not latent: queries, keys and values at once, and the output."""

ROUTER_SHARE: Final = 0.8
"""Of what experts add to a layer's host time, the experts themselves apart: 25 of 31 launches of
the local layer's forward pass are the router's and the counts' (plausible: 0.6 to 0.9)."""


NODES: Final = 4
"""Of a layer: attention with the router, dispatch, experts, combine."""

NODE_LAUNCHES: Final = {"forward": 1.3, "backward": 3.5}
"""What a node costs the host beyond what it runs, in launches of the measured eager layer: 41 and
92 µs on an H100's host (Megatron-Core 0.18, chains of 40 nodes and of 40 bare operators, medians
of 50 rounds), whose launches cost 32 and 26 µs."""


def layer_host(phase: str, steps: Sequence[Step], rows: Routed, graphs: str) -> HostWork:
    """Host work of a layer's forward or backward pass.

    Args:
        phase: ``forward`` or ``backward``.
        steps: What the pass launches.
        rows: Its experts.
        graphs: ``plan.cuda_graph``.
    """
    if graphs == "iteration":
        return ()
    modules = rows.experts.held if rows.plan.experts == "sequential" else 1
    kernels = grouped = 0
    for step in steps:
        if isinstance(step, Launch) and not isinstance(step.operator, Collective):
            kernels += step.kernels
            grouped += step.kernels if isinstance(step.operator, GroupedGemm) else 0
    kernels -= grouped
    unfused = 0 if rows.plan.fused_permutation else UNFUSED_LAUNCHES[phase]
    linears = _linears(rows, graphs)
    products = EXPERT_PRODUCTS[phase] / EXPERT_LINEARS
    beyond = kernels - PLAIN_LAUNCHES[phase] - unfused - linears * products
    if rows.plan.experts == "sequential":
        beyond -= EXPERT_PRODUCTS[phase] * modules
    work = [
        *_measured(phase, modules + linears / EXPERT_LINEARS, graphs),
        (Host(stack="cuda", quantity="launch"), float(grouped)),
        *called(steps),
        *module_launches(phase, 0 if graphs == "attention" else max(beyond, 0)),
        *module_launches(phase, NODES * NODE_LAUNCHES[phase] if rows.plan.overlap else 0),
    ]
    return tuple((activity, times) for activity, times in work if times)


def _linears(rows: Routed, graphs: str) -> int:
    """Linear modules beyond those of attention and experts that no graph holds."""
    latent, found = rows.layer.latent, 0
    if latent and graphs != "attention":
        found = 4 + (latent.q_rank > 0) - ATTENTION_LINEARS
    if rows.experts.shared_ffn and graphs == "none":
        found += EXPERT_LINEARS
    return found


def _measured(phase: str, modules: float, graphs: str) -> HostWork:
    """Attention, what experts add and the experts' modules, less what graphs hold.

    A dense layer less its MLP is attention; a layer with experts less both is what they add.
    """
    routed = Host(stack=local_moe.STACK, block="moe", phase=phase, quantity="layer")
    dense = Host(stack=local_moe.STACK, block="llama", phase=phase, quantity="layer")
    mlp = Host(stack=local_moe.STACK, block="moe", phase=phase, quantity="expert")
    added = 1.0 if graphs == "none" else 1.0 - ROUTER_SHARE
    attention = 0.0 if graphs == "attention" else 1.0
    return (
        (routed, added),
        (dense, attention - added),
        (mlp, modules + added - attention),
    )
