"""Parameters sharded over replicas: a part gathers its own before it runs, twice a micro-batch.

ZeRO-3 as Megatron-FSDP and PyTorch's FSDP2 run it with their defaults: while one layer computes,
the parameters of the next arrive and gradients of the last leave; each micro-batch reduces its
gradients. Gathers and reductions share the links, so they take turns on one stream. Experts are
sharded over the ranks that hold the same ones.

A forward gather is ahead because it is issued behind the layer before on a stream of its own
(PyTorch's "implicit prefetching", ``notes/fsdp.rst``). Where all streams share one hardware queue
it starts when that layer's last kernel does, and nothing hides it: Megatron-LM asks for
``CUDA_DEVICE_MAX_CONNECTIONS=1`` with tensor or context parallelism on GPUs before Blackwell, and
warns that FSDP wants more (``training/arguments.py`` 0.10 to 0.16). The backward pass issues the
next layer's gather before it computes.
"""

from dataclasses import replace

from predictor.dtypes import BF16_BYTES
from predictor.iteration.launches import Tape
from predictor.iteration.stack import Part
from predictor.iteration.step import StepShape


def fully_sharded(part: Part, shape: StepShape) -> Part:
    """A part with its gathers and its reduction; as it is where nothing is sharded."""
    if shape.sharding != "parameters":
        return part
    gathers, reductions = Tape(), Tape()
    dtype = "fp32" if shape.gradient_bytes > BF16_BYTES else "bf16"
    groups = [(part.parameters, shape.data)]
    if shape.experts is not None:
        groups.append((part.expert_parameters, shape.experts.data))
    for parameters, group in groups:
        gathers.start(group.all_gather(BF16_BYTES * parameters), "data")
        reduced = group.reduce_scatter(float(shape.gradient_bytes * parameters), dtype)
        reductions.start(reduced, "data")
    ahead, late = Tape(), Tape()
    ahead.wait("data")
    ahead.extend(gathers.steps())
    late.extend(gathers.steps())
    late.wait("data")
    forward = late if _one_queue(shape) else ahead
    return replace(
        part,
        forward=(*forward.steps(), *part.forward),
        backward=(*ahead.steps(), *reductions.steps(), *part.backward),
    )


def _one_queue(shape: StepShape) -> bool:
    """Whether kernels of all streams start in the order in which they were issued."""
    split = shape.tensor.ranks * shape.context.ranks > 1
    return split and not shape.architecture.startswith("Blackwell")
