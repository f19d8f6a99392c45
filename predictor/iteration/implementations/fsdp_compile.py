"""``fsdp-compile``: the model of ``fsdp-eager`` under ``torch.compile``, a graph for each block.

Read in fms-fsdp at 5a296af (``policies/ac_handler.py``): selective recomputation runs a share of
the blocks again, evenly spread. The published tables do not name the share; half is assumed.
"""

from dataclasses import replace

from predictor.iteration.implementations import compiled_blocks as compiled
from predictor.iteration.implementations import fsdp, fsdp_eager
from predictor.iteration.launches import Tape
from predictor.iteration.layer import Layer
from predictor.iteration.memory import Memory
from predictor.iteration.stack import Part
from predictor.iteration.step import Stage, StepShape

SHARDED = fsdp_eager.SHARDED


def layer_part(shape: StepShape, layer: Layer) -> Part:
    """One compiled block."""
    forward, backward, replay = Tape(), Tape(), Tape()
    compiled.forward(forward, shape, layer)
    compiled.backward(backward, shape, layer)
    compiled.replay(replay, shape, layer)
    part = Part(forward=forward.steps(), backward=backward.steps(), replay=replay.steps())
    return SHARDED.layer(shape, layer, part)


def memory(stage: Stage, in_flight: tuple[int, ...]) -> Memory:
    """What compiled blocks keep, four bf16 buffers of logits at the loss."""
    del in_flight
    whole = replace(stage.shape, recomputed=frozenset())  # blocks are kept whole or not at all
    return fsdp.sharded_memory(replace(stage, shape=whole), compiled.saved_bytes, logit_bytes=8.0)


STACK = replace(
    fsdp_eager.STACK,
    name="fsdp-compile",
    description="PyTorch FSDP around compiled Llama blocks (fms-fsdp), FlashAttention-2",
    layer=layer_part,
    selective_blocks=0.5,
    memory=memory,
)
