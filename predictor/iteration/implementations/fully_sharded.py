"""Parameters sharded over replicas: a part gathers its own before it runs, twice a micro-batch.

ZeRO-3 as Megatron-FSDP and PyTorch's FSDP2 run it with their defaults: while one layer computes,
the parameters of the next arrive and gradients of the last leave; each micro-batch reduces its
gradients. Gathers and reductions share the links, so they take turns on one stream. Experts are
sharded over the ranks that hold the same ones.
"""

from dataclasses import replace

from predictor.iteration.launches import Step, Tape
from predictor.iteration.stack import Part
from predictor.iteration.step import StepShape

WEIGHT_BYTES = 2.0


def fully_sharded(part: Part, shape: StepShape) -> Part:
    """A part with its gathers and its reduction; as it is where nothing is sharded."""
    if shape.sharding != "parameters":
        return part
    gathers, reductions = Tape(), Tape()
    gathers.wait("data")
    dtype = "fp32" if shape.gradient_bytes > WEIGHT_BYTES else "bf16"
    groups = [(part.parameters, shape.data)]
    if shape.experts is not None:
        groups.append((part.expert_parameters, shape.experts.data))
    for parameters, group in groups:
        gathers.start(group.all_gather(WEIGHT_BYTES * parameters), "data")
        reduced = group.reduce_scatter(float(shape.gradient_bytes * parameters), dtype)
        reductions.start(reduced, "data")
    begin: tuple[Step, ...] = gathers.steps()
    return replace(
        part,
        forward=(*begin, *part.forward),
        backward=(*begin, *reductions.steps(), *part.backward),
    )
