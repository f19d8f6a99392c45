"""What tests of training stacks count: the operators of a layer, and the case that asks for it."""

from predictor.case import Case, resolve
from predictor.iteration.implementations import load
from predictor.iteration.launches import Launch
from predictor.iteration.shape import stages_of, step_shape
from predictor.operators import MemoryBound


def operators(steps, kind):
    """The operators of a kind among some steps, in order."""
    return [s.operator for s in steps if isinstance(s, Launch) and isinstance(s.operator, kind)]


def kernels(steps):
    """Names of the memory-bound kernels among some steps, in order."""
    return [operator.kernel for operator in operators(steps, MemoryBound)]


def first_layer(case):
    """Part of the first layer of a case, and the layer."""
    asked = resolve(case).case
    shape = step_shape(asked)
    layer = stages_of(asked, shape)[0].chunks[0].blocks[0].layer
    return load(str(asked.implementation)).layer(shape, layer), layer


def titan(*, gpus=8, model="llama3.1-8b", training=None, **plan):
    """Two sequences of 8192 tokens through torchtitan's blocks, nothing recomputed."""
    usual = {"seq_length": 8192, "micro_batch_size": 2, "recompute": "none"}
    return Case.from_dict(
        {
            "model": {"preset": model},
            "training": usual | (training or {}),
            "plan": {"tensor_parallel": 1, "sharding": "parameters"} | plan,
            "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": gpus},
            "implementation": "torchtitan",
        }
    )
