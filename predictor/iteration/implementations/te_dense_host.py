"""What the host spends on a dense layer of Megatron-Core with Transformer Engine.

No such layer was measured with Transformer Engine: Megatron-Core's measured local layer stands for
it (``host.csv``, stack ``megatron-core-local``), which has as many modules, norms, adds and
autograd functions. Launches beyond it (casts, norms of heads) cost what one of the measured eager
layer does, a collective what a measured call does. The products and transfers of a ring exchange
leave in a loop in C++ (Transformer Engine 2.8 ``comm_gemm_overlap.cpp``), a bare launch each.
Graphs of a whole iteration cost the host nothing.
"""

from collections.abc import Sequence
from typing import Final

from predictor.iteration.implementations import local_moe
from predictor.iteration.launches import HostWork, Launch, Step
from predictor.iteration.stack import called, module_launches
from predictor.operators import Collective, Gemm, Host

PLAIN_LAUNCHES: Final = {"forward": 13, "backward": 23}
"""Kernels of this stack's Llama layer on one GPU in bf16."""

PRODUCTS: Final = {"forward": 4, "backward": 8}


def dense_host(
    phase: str, steps: Sequence[Step], *, graphs: str, rings: bool, added: int = 0
) -> HostWork:
    """Host work of a layer's forward or backward pass.

    Args:
        phase: ``forward`` or ``backward``.
        steps: What the pass launches.
        graphs: ``plan.cuda_graph``.
        rings: Tensor-parallel transfers are those of Transformer Engine's ring exchange.
        added: Products of modules beyond the measured layer's (adapters), launched as eager ones.
    """
    if graphs == "iteration":
        return ()
    launches = [step for step in steps if isinstance(step, Launch)]
    remote = [each for each in launches if isinstance(each.operator, Collective)]
    calls = [each for each in remote if not (rings and each.stream == "tensor")]
    products = sum(each.kernels for each in launches if isinstance(each.operator, Gemm)) - added
    kernels = sum(each.kernels for each in launches) - len(remote) - products
    plain = PLAIN_LAUNCHES[phase] - PRODUCTS[phase]
    bare = len(remote) - len(calls) + max(products - PRODUCTS[phase], 0)
    work = [
        (Host(stack=local_moe.STACK, block="llama", phase=phase, quantity="layer"), 1.0),
        (Host(stack="cuda", quantity="launch"), float(bare)),
        *called(calls),
        *module_launches(phase, max(kernels - plain, 0)),
    ]
    return tuple((activity, times) for activity, times in work if times)
