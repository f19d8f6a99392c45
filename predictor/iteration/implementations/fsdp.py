"""Fully sharded data parallel as PyTorch has it: what it adds to the parts of a model.

Read in torch 2.11 ``distributed/fsdp/_fully_shard`` (second generation) and torch 2.1
``distributed/fsdp`` (first). Every block is one group, all other parameters (tables, last norm,
head) are the root's.

Forward pass of a block: wait for its gather, copy it to parameters (second generation; the first
gathers in place), cast and send the next block's shard, compute. Backward pass: the same one block
down the model, then wait for what is under way, bring gradients into one buffer, send them. So one
gather and one reduction run beside a block, one behind the other on one stream: they share links.

The last block's forward pass gathers it anew for its backward pass, beside the head. The first
block's backward pass gathers a block too many, beside its computation.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from predictor.dtypes import BF16_BYTES
from predictor.iteration.groups import Group
from predictor.iteration.implementations import eager_blocks as eager
from predictor.iteration.implementations import float8, hf_eager
from predictor.iteration.launches import Program, Segment, Tape
from predictor.iteration.layer import Layer
from predictor.iteration.memory import CUBLAS_WORKSPACE_BYTES, Memory, finished, largest, worst_of
from predictor.iteration.stack import Part, module_host
from predictor.iteration.step import ALONE, Stage, StepShape
from predictor.operators import Optimizer
from predictor.values import frozen

LINKS: Final = "data"


@frozen(kw_only=True)
class Fsdp:
    """How a stack shards.

    Attributes:
        copies: Gathers and reductions pass through buffers of their own (second generation).
        gradient_bytes: Of a reduced gradient.
    """

    copies: bool = True
    gradient_bytes: int = 4

    def layer(self, shape: StepShape, layer: Layer, part: Part) -> Part:
        """A block with its gathers and its reduction."""
        forward, entry, backward = Tape(), Tape(), Tape()
        size = float8.weight_bytes(shape)
        held = _shards(shape, layer)
        forward.wait(LINKS)
        for parameters, ranks, _ in held:
            self._copy_out(forward, parameters, size)
            self._gather(forward, ranks, parameters, size)
        forward.extend(part.forward)
        if shape.sharding == "parameters":
            for parameters, ranks, _ in held:
                self._copy_out(entry, parameters, size)
                self._gather(entry, ranks, parameters, size)
        backward.extend(part.backward)
        backward.wait(LINKS)
        for parameters, ranks, replicas in held:
            self._reduce(backward, ranks, replicas, parameters)
        return replace(
            part, forward=forward.steps(), entry=entry.steps(), backward=backward.steps()
        )

    def embedding(self, shape: StepShape, part: Part) -> Part:
        """The root is gathered before all else, and the first block behind it; reduced at last."""
        forward, backward = Tape(), Tape()
        root = self.root_parameters(shape)
        self._gather(forward, shape.data, root, BF16_BYTES)
        forward.wait(LINKS)
        self._copy_out(forward, root, BF16_BYTES)
        for parameters, ranks, _ in _shards(shape, shape.layer):
            self._gather(forward, ranks, parameters, float8.weight_bytes(shape))
        forward.extend(part.forward)
        backward.extend(part.backward)
        backward.wait(LINKS)
        self._reduce(backward, shape.data, shape.replicas, root)
        return replace(part, forward=forward.steps(), backward=backward.steps())

    def head(self, part: Part) -> Part:
        """The last block has come back when the head's gradient is done."""
        backward = Tape()
        backward.extend(part.backward)
        backward.wait(LINKS)
        return replace(part, backward=backward.steps())

    def accumulate(self, stage: Stage) -> Program:
        """From the second micro-batch on, the rank's shard of the gradients is added."""
        tape = Tape()
        tape.run(eager.kernel("add_fp32", stage.owned_parameters, 1), kernels=stage.tensors)
        return ((Segment(label="gradient accumulation", phase="backward", steps=tape.steps()), 1),)

    @staticmethod
    def root_parameters(shape: StepShape) -> int:
        """Both tables (one, if tied) and the last norm."""
        tables = 1 if shape.tied_embeddings else 2
        return (tables * shape.vocab + 1) * shape.hidden

    def _gather(self, tape: Tape, ranks: Group, parameters: int, size: float) -> None:
        """The shard is cast, laid into the buffer, and sent."""
        if ranks.ranks > 1 or self.copies:
            shard = -(-parameters // ranks.ranks)
            kernels = 1 + shard // hf_eager.OPTIMIZER_ELEMENTS_PER_LAUNCH
            cast = "foreach_cast_down" if self.copies else "cast_down"
            tape.run(eager.kernel(cast, shard, 1), kernels=kernels)
            if self.copies:
                tape.run(eager.kernel("foreach_copy", _words(shard, size), 1), kernels=kernels)
        tape.start(ranks.all_gather(size * parameters), LINKS)

    def _copy_out(self, tape: Tape, parameters: int, size: float) -> None:
        if self.copies:
            tape.run(eager.kernel("split_copy", _words(parameters, size), 1))

    def _reduce(self, tape: Tape, ranks: Group, replicas: Group, parameters: int) -> None:
        """Gradients into one buffer, scattered in the node and summed over its replicas."""
        wide = self.gradient_bytes == 4  # noqa: PLR2004 - bytes of fp32
        dtype = "fp32" if wide else "bf16"
        size = self.gradient_bytes * parameters
        if self.copies:
            tape.run(eager.kernel("chunk_cat" if wide else "split_copy", parameters, 1))
        elif wide:
            tape.run(eager.kernel("cast_up", parameters, 1))
        if not self.copies:  # divided before and after, by the root of the ranks each
            tape.run(eager.kernel("mul_scalar_fp32" if wide else "mul_scalar", parameters, 1))
        tape.start(ranks.reduce_scatter(size, dtype), LINKS)
        tape.start(replicas.all_reduce(size / ranks.ranks, dtype), LINKS)


def _words(numbers: int, size: float) -> int:
    """Two-byte words of so many numbers."""
    return math.ceil(numbers * size / BF16_BYTES)


def _shards(shape: StepShape, layer: Layer) -> list[tuple[int, Group, Group]]:
    """Parameters of a block by the ranks that split them, and those ranks' replicas.

    Experts that ranks share are split among the ranks that hold the same ones.
    """
    experts = layer.expert_parameters
    if not experts or shape.experts is None or shape.experts.expert.ranks == 1:
        return [(layer.parameters, shape.data, shape.replicas)]
    dense = (layer.parameters - experts, shape.data, shape.replicas)
    return [dense, (experts, shape.experts.data, ALONE)]


def hosted(part: Part) -> Part:
    """A part whose kernels Python modules queue."""
    return replace(
        part,
        forward_host=module_host("forward", part.forward),
        backward_host=module_host("backward", (*part.entry, *part.backward)),
        replay_host=module_host("forward", part.replay),
    )


def fused_optimizer(stage: Stage) -> Program:
    """PyTorch's fused AdamW over the rank's shards in fp32."""
    owned = stage.owned_parameters
    tape = Tape()
    tape.run(
        Optimizer(elements=owned, tensors=stage.tensors, dtype="fp32", impl="torch"),
        kernels=1 + owned // hf_eager.OPTIMIZER_ELEMENTS_PER_LAUNCH,
    )
    return ((Segment(label="optimizer", phase="optimizer", steps=tape.steps()), 1),)


PASSES = ("mul_scalar_fp32",) * 5 + ("add_fp32",) * 3
"""Passes of an AdamW that is written out over fp32 states: decay, both moments, root, correction,
epsilon, update; 76 bytes a parameter."""


def pass_by_pass_optimizer(stage: Stage, *, kernels: int, syncs: int = 0) -> Program:
    """An AdamW of eight passes over the rank's shards in fp32.

    Args:
        stage: Whose shards.
        kernels: Launches of one pass.
        syncs: How often the host reads a result.
    """
    tape = Tape()
    for name in PASSES:
        tape.run(eager.kernel(name, stage.owned_parameters, 1), kernels=kernels)
    for _ in range(syncs):
        tape.sync()
    return ((Segment(label="optimizer", phase="optimizer", steps=tape.steps()), 1),)


def clipped(stage: Stage) -> Program:
    """Norms of the shards, their sum over all ranks, read by the host, and the shards scaled."""
    tape = Tape()
    tape.run(eager.kernel("sum_fp32", stage.owned_parameters, 1))
    tape.collective(stage.shape.world.all_reduce(4, "fp32"), LINKS)
    tape.run(eager.kernel("mul_scalar_fp32", stage.owned_parameters, 1))
    tape.sync()
    return ((Segment(label="gradient norm", phase="optimizer", steps=tape.steps()), 1),)


def sharded_memory(
    stage: Stage, saved: Callable[[StepShape, Layer], float], *, logit_bytes: float
) -> Memory:
    """Peak of a rank: at the loss, or in the backward pass of the last layer.

    At the loss, the root's parameters and the last block's, gathered beside it, are whole in bf16.

    Args:
        stage: What it holds.
        saved: Bytes that a layer keeps of a micro-batch.
        logit_bytes: Bytes a logit that live at the loss.
    """
    shape = stage.shape
    blocks = [block for chunk in stage.chunks for block in chunk.blocks]
    kept = sum(
        b.count * (shape.activation_bytes if b.replayed else saved(shape, b.layer)) for b in blocks
    )
    replay = largest(saved(shape, b.layer) for b in blocks if b.replayed)
    layer = blocks[-1].layer
    whole = BF16_BYTES * (Fsdp.root_parameters(shape) + layer.parameters)
    if shape.sharding != "parameters":
        whole = BF16_BYTES * stage.parameters
    loss = {
        "activations": kept,
        "logits and loss": shape.tokens * (logit_bytes * shape.vocab + 8.0 * shape.hidden),
        "gradients": 0.0,
    }
    wide = BF16_BYTES * layer.parameters + 4.0 * layer.parameters
    last = {
        "activations": kept + replay + shape.tokens * (6.0 * layer.ffn + 12.0 * shape.hidden),
        "logits and loss": 0.0,
        "gradients": wide + 4.0 * shape.vocab * shape.hidden,
    }
    worst = worst_of(loss, last)
    if shape.micro_batches > 1:
        worst["gradients"] += 4.0 * stage.owned_parameters
    parts = {
        "parameters": 4.0 * stage.owned_parameters + whole,
        "optimizer states": 8.0 * stage.owned_parameters,
        **worst,
        "workspaces": float(CUBLAS_WORKSPACE_BYTES),
    }
    return finished(parts, distributed=shape.world.ranks > 1)
