"""``megatron-core-local``: Megatron-Core's local spec, no Transformer Engine, no Apex.

Read in Megatron-Core 0.19 on torch 2.11 and compared with profiled kernel counts of six steps:
torch norms (an RMSNorm's gradient runs the kernels of a LayerNorm's), products without fused
accumulation, a bias of queries, keys and values added by a kernel of its own, rotary embedding
written out, PyTorch's scaled dot product attention, activations and residual adds by
``torch.compile``. A hook adds every parameter's gradient into an fp32 buffer after each backward
pass. The loss is Megatron's vocabulary-split one in fp32; AdamW runs list by list (``foreach``),
over experts apart. Gradients are clipped: their norm is above one, as that of young models is.
"""

from collections.abc import Sequence

from predictor.iteration.implementations import eager_blocks as eager
from predictor.iteration.implementations import hf_eager, local_moe
from predictor.iteration.launches import BARE_LAUNCH, HostWork, Program, Segment, Step, Tape
from predictor.iteration.layer import Layer
from predictor.iteration.megatron_memory import fused_activations
from predictor.iteration.memory import CUBLAS_WORKSPACE_BYTES, Memory, finished, largest, worst_of
from predictor.iteration.stack import Part, Replicas, Stack, called, module_launches
from predictor.iteration.step import Stage, StepShape
from predictor.operators import Host, MemoryBound, Optimizer

NAME = local_moe.STACK
WEIGHT_BYTES = 2
LOGIT_BYTES = 6
"""At the loss: fp32 exponentials, which become the gradient in place, and its bf16 copy."""

TEMPORARY_BYTES = 4
"""A parameter's fp32 denominator in ``foreach`` AdamW: the whole list's at once."""

OPTIMIZER_PASSES = 8
"""Launches of AdamW for as many parameters as one takes."""

ROPE_TABLE_KERNELS = 6
"""Small launches of a tensor's rotation: cosines and sines, each scaled and cast, every layer."""

ROPE_LAUNCHES = {"forward": 24, "backward": 14}
"""Of queries and keys together, counted in a trace."""

FLAT_COLUMNS = 4096
"""A gradient is walked as rows of so many numbers."""


def layer_part(shape: StepShape, layer: Layer) -> Part:
    """One layer of one rank."""
    forward, backward = Tape(), Tape()
    layer_forward(forward, shape, layer)
    layer_backward(backward, shape, layer)
    held = 2 * layer.experts.held if layer.experts else 0  # added expert by expert
    eager.accumulated(backward, layer.dense_parameters, _tensors(layer) - held)
    return Part(
        forward=forward.steps(),
        backward=backward.steps(),
        replay=forward.steps(),
        forward_host=_host("forward", shape, layer, forward),
        backward_host=_host("backward", shape, layer, backward),
        replay_host=_host("forward", shape, layer, forward),
        parameters=layer.dense_parameters,
        expert_parameters=layer.expert_parameters,
    )


def _host(phase: str, shape: StepShape, layer: Layer, tape: Tape) -> HostWork:
    """What a measured layer of its kind costs the host, and a call for every collective in it."""
    block = "moe" if layer.experts else "llama"
    work: HostWork = ((_activity(phase, "layer", block), 1), *called(tape.steps()))
    work += _replayed_core(phase, shape)
    if layer.experts:
        work += local_moe.held_host(phase, shape.routed(layer))
        work += local_moe.spread_host(phase, shape.routed(layer))
    return work + _without_rope(phase, layer)


def _attention_host(phase: str, shape: StepShape, steps: Sequence[Step], layer: Layer) -> HostWork:
    """A measured dense layer less its MLP, and a call for every collective."""
    dense: HostWork = ((_activity(phase, "layer"), 1.0), *local_moe.experts_host(phase, -1))
    return (*dense, *called(steps), *_replayed_core(phase, shape), *_without_rope(phase, layer))


def _replayed_core(phase: str, shape: StepShape) -> HostWork:
    """Attention's core once more, which the measured layers keep."""
    again = phase == "backward" and shape.selective_recompute
    return module_launches("forward", 1) if again else ()


def _without_rope(phase: str, layer: Layer) -> HostWork:
    """The measured layers rotate queries and keys."""
    return () if layer.rope else ((BARE_LAUNCH, -ROPE_LAUNCHES[phase]),)


def _activity(phase: str, quantity: str, block: str = "llama") -> Host:
    return Host(stack=NAME, block=block, phase=phase, quantity=quantity)


def _tensors(layer: Layer) -> int:
    experts = 2 * layer.experts.held - 1 if layer.experts else 0
    biases = 6 if layer.biases else 0  # of four products and two norms
    return 6 + biases + experts + (2 if layer.qk_norm else 0)


def _held_tensors(stage: Stage) -> int:
    """Parameter tensors of a stage: its layers', the table, the final norm and the head."""
    blocks = [block for chunk in stage.chunks for block in chunk.blocks]
    return sum(_tensors(b.layer) * b.count for b in blocks) + stage.first + 2 * stage.last


def _norm_forward(tape: Tape, layer: Layer, rows: int, cols: int) -> None:
    """One kernel."""
    tape.fresh(eager.kernel("layer_norm" if layer.layer_norm else "rms_norm", rows, cols))


def _norm_backward(tape: Tape, layer: Layer, rows: int, cols: int) -> None:
    """The input's gradient and the weight's; a tensor of zeros stands in for RMSNorm's mean."""
    tape.fresh(eager.kernel("layer_norm_backward", rows, cols), kernels=2)
    if not layer.layer_norm:
        tape.run(eager.kernel("fill", rows, cols))


def _compiled(name: str, rows: int, cols: int) -> MemoryBound:
    return MemoryBound(kernel=name, rows=rows, cols=cols, impl="inductor")


def layer_forward(tape: Tape, shape: StepShape, layer: Layer) -> None:
    """Attention and feed-forward, each between a norm and a fused add."""
    n, shard = shape.tokens, shape.shard_tokens
    attention = Tape()
    _attention_forward(attention, shape, layer)
    if layer.experts:
        tape.section(_attention_host("forward", shape, attention.steps(), layer), attention.steps())
    else:
        tape.extend(attention.steps())
    _norm_forward(tape, layer, shard, layer.hidden)
    if layer.experts:
        local_moe.forward(tape, shape.routed(layer), shape.tensor)
    else:
        _column_forward(tape, shape, (2 if layer.gated else 1) * layer.ffn, layer.hidden)
        tape.fresh(_compiled("silu_mul_halves" if layer.gated else "gelu", n, layer.ffn))
        _row_forward(tape, shape, layer.hidden, layer.ffn)
    tape.fresh(eager.kernel("add", shard, layer.hidden))


def _attention_forward(tape: Tape, shape: StepShape, layer: Layer) -> None:
    n, shard = shape.tokens, shape.shard_tokens
    _norm_forward(tape, layer, shard, layer.hidden)
    _column_forward(tape, shape, layer.q + 2 * layer.kv, layer.hidden)
    if layer.biases:
        tape.fresh(eager.kernel("mul_weight", n, layer.q + 2 * layer.kv))  # a broadcast sum
    for heads in (layer.heads, layer.groups):
        if layer.qk_norm:
            _norm_forward(tape, layer, n * heads, layer.head_dim)
        if layer.rope:
            eager.tiny(tape, shape.seq_length * layer.head_dim, ROPE_TABLE_KERNELS)
            eager.rope_forward(tape, n * heads, layer.head_dim)
            tape.fresh(eager.kernel("cat", n * heads, layer.head_dim))
    tape.run(shape.attention("forward", layer))
    _row_forward(tape, shape, layer.hidden, layer.q)
    tape.fresh(eager.kernel("add", shard, layer.hidden))


def layer_backward(tape: Tape, shape: StepShape, layer: Layer) -> None:
    """The gradient of :func:`layer_forward`."""
    n, shard = shape.tokens, shape.shard_tokens
    if layer.experts:
        local_moe.backward(tape, shape.routed(layer))
    else:
        _row_backward(tape, shape, layer.hidden, layer.ffn)
        name = "silu_mul_halves_backward" if layer.gated else "gelu_backward"
        tape.fresh(_compiled(name, n, layer.ffn))
        if layer.biases:
            tape.fresh(eager.kernel("sum_rows", n, layer.ffn))
        _column_backward(tape, shape, (2 if layer.gated else 1) * layer.ffn, layer.hidden)
    _norm_backward(tape, layer, shard, layer.hidden)
    tape.fresh(eager.kernel("add", shard, layer.hidden))
    attention = Tape()
    _attention_backward(attention, shape, layer)
    if layer.experts:
        tape.section(
            _attention_host("backward", shape, attention.steps(), layer), attention.steps()
        )
    else:
        tape.extend(attention.steps())


def _attention_backward(tape: Tape, shape: StepShape, layer: Layer) -> None:
    n, shard = shape.tokens, shape.shard_tokens
    _row_backward(tape, shape, layer.hidden, layer.q)
    if shape.selective_recompute:
        tape.run(shape.attention("forward", layer))
    tape.run(shape.attention("backward", layer), kernels=eager.attention_kernels(layer))
    for heads in (layer.groups, layer.heads):
        if layer.rope:
            eager.rope_forward(tape, n * heads, layer.head_dim)  # its gradient is another rotation
            tape.fresh(eager.kernel("add", n * heads, layer.head_dim))
        if layer.qk_norm:
            _norm_backward(tape, layer, n * heads, layer.head_dim)
    tape.run(eager.kernel("cat", n, layer.q + 2 * layer.kv))
    if layer.biases:
        tape.fresh(eager.kernel("sum_rows", n, layer.q + 2 * layer.kv))
    _column_backward(tape, shape, layer.q + 2 * layer.kv, layer.hidden)
    _norm_backward(tape, layer, shard, layer.hidden)
    tape.fresh(eager.kernel("add", shard, layer.hidden))


def _column_forward(tape: Tape, shape: StepShape, out: int, into: int) -> None:
    if shape.sequence_parallel:
        tape.collective(shape.tensor.all_gather(2.0 * shape.tokens * into))
    eager.linear_forward(tape, shape.tokens, out, into)


def _row_forward(tape: Tape, shape: StepShape, out: int, into: int) -> None:
    eager.linear_forward(tape, shape.tokens, out, into)
    tape.collective(shape.partial_sum(out))


def _column_backward(tape: Tape, shape: StepShape, out: int, into: int) -> None:
    """The input is gathered again beside dgrad, its gradient summed beside wgrad."""
    if shape.sequence_parallel:
        tape.start(shape.tensor.all_gather(2.0 * shape.tokens * into), "tensor")
    eager.dgrad(tape, shape.tokens, out, into)
    if shape.sequence_parallel:
        tape.wait("tensor")
    tape.start(shape.partial_sum(into), "tensor")
    eager.wgrad(tape, shape.tokens, out, into)
    tape.wait("tensor")


def _row_backward(tape: Tape, shape: StepShape, out: int, into: int) -> None:
    if shape.sequence_parallel:
        tape.collective(shape.tensor.all_gather(2.0 * shape.tokens * out))
    eager.dgrad(tape, shape.tokens, out, into)
    eager.wgrad(tape, shape.tokens, out, into)


def embedding_part(shape: StepShape) -> Part:
    """Lookup and its scattered gradient."""
    forward, backward = Tape(), Tape()
    forward.run(eager.kernel("embedding", shape.tokens, shape.hidden))
    if shape.layer.rope:
        forward.collective(shape.partial_sum(shape.hidden))
    else:  # positions are added to whole sums, then a rank keeps its share
        forward.collective(shape.tensor.all_reduce(shape.activation_bytes))
        forward.run(eager.kernel("add", shape.tokens, shape.hidden))
    if shape.sequence_parallel:
        backward.collective(shape.tensor.all_gather(shape.activation_bytes))
    backward.run(eager.kernel("fill", shape.vocab, shape.hidden))
    backward.run(eager.kernel("embedding_backward", shape.tokens, shape.hidden), kernels=12)
    parameters = shape.vocab * shape.hidden
    eager.accumulated(backward, parameters, 1)
    return Part(forward=forward.steps(), backward=backward.steps(), parameters=parameters)


def head_part(shape: StepShape) -> Part:
    """Final norm, the rank's columns of the logits, the loss in fp32 pass by pass, in place."""
    n, layer, vocab = shape.tokens, shape.layer, shape.vocab
    forward, backward = Tape(), Tape()
    _norm_forward(forward, layer, shape.shard_tokens, shape.hidden)
    _column_forward(forward, shape, vocab, shape.hidden)
    # The maximum is subtracted, and the sum divided by, with one broadcasting kernel.
    for name in ("cast_up", "amax_fp32", "mul_rows_fp32", "exp_fp32", "sum_fp32", "mul_rows_fp32"):
        forward.run(eager.kernel(name, n, vocab))
    for _ in range(3):
        forward.collective(shape.tensor.all_reduce(4.0 * n, "fp32"))
    backward.run(eager.kernel("mul_rows_fp32", n, vocab))
    backward.run(eager.kernel("cast_down", n, vocab))
    _column_backward(backward, shape, vocab, shape.hidden)
    _norm_backward(backward, layer, shape.shard_tokens, shape.hidden)
    parameters = vocab * shape.hidden
    eager.accumulated(backward, parameters, 2)
    tied = shape.tied_embeddings and shape.stages == 1
    return Part(
        forward=forward.steps(),
        backward=backward.steps(),
        forward_host=((_activity("forward", "fixed"), 1), *called(forward.steps())),
        backward_host=((_activity("backward", "fixed"), 1), *called(backward.steps())),
        parameters=0 if tied else parameters,
    )


def replicas(stage: Stage) -> Replicas:
    """One collective a buffer when all is done, unless overlap is asked for."""
    shape = stage.shape
    sharded = shape.sharding != "none"
    return Replicas(
        reduce="reduce_scatter" if sharded else "all_reduce",
        gradient_bytes=shape.gradient_bytes,
        bucket_parameters=40_000_000 if stage.index == 0 and shape.overlap_grad_reduce else None,
        overlap_reduce=shape.overlap_grad_reduce is True,
        gather_bytes=WEIGHT_BYTES if sharded else 0.0,
        overlap_gather=shape.overlap_param_gather is True,
    )


def _flat(name: str, elements: int) -> MemoryBound:
    """One kernel over a flat tensor."""
    return eager.kernel(name, -(-elements // FLAT_COLUMNS), FLAT_COLUMNS)


def reduced(stage: Stage) -> Program:
    """Gradients scaled by the replicas; their norms tensor by tensor, each read by the host.

    A norm above one then clips them, tensor by tensor: a scaled copy is made and copied back
    (``local_multi_tensor_scale`` in ``utils.py``).
    """
    tape = Tape()
    tensors = _held_tensors(stage)
    if stage.shape.data.ranks > 1:
        tape.run(_flat("mul_scalar_fp32", stage.parameters))
    for _ in range(tensors):
        tape.run(_flat("sum_fp32", stage.owned_parameters // tensors))
        tape.sync()
    tape.collective(stage.shape.world.all_reduce(4, "fp32"), "data")
    tape.sync()
    for name in ("mul_scalar_fp32", "copy_fp32"):
        tape.run(_flat(name, stage.owned_parameters), kernels=tensors)
    return ((Segment(label="gradient norm", phase="optimizer", steps=tape.steps()), 1),)


def optimizer(stage: Stage) -> Program:
    """Pass by pass over the owned states, a copy into every parameter, zeroed gradients."""
    tape = Tape()
    tensors = _held_tensors(stage)
    owned = stage.owned_parameters
    launches = 1 + owned // hf_eager.OPTIMIZER_ELEMENTS_PER_LAUNCH
    step = Optimizer(kernel="adamw_foreach", elements=owned, tensors=tensors, dtype="fp32")
    tape.run(step, kernels=OPTIMIZER_PASSES * launches)
    tape.run(_flat("cast_down", owned), kernels=tensors)
    tape.run(_flat("fill_fp32", stage.parameters))
    host = (
        (_activity("optimizer", "fixed"), 1),
        (_activity("optimizer", "tensor"), tensors),
    )
    return ((Segment(label="optimizer", phase="optimizer", steps=tape.steps(), host=host), 1),)


def memory(stage: Stage, in_flight: tuple[int, ...]) -> Memory:
    """The larger of two moments: the loss of the last micro-batch, and the optimizer's step.

    Experts that ranks share have an optimizer of their own, so that its temporaries come after the
    other's (``optimizer/__init__.py``; ``allreduce`` in ``tensor_parallel/layers.py``).
    """
    shape = stage.shape
    spread = shape.experts is not None and shape.experts.expert.ranks > 1
    experts = stage.expert_parameters if spread else 0
    states = {
        "parameters": 2.0 * stage.parameters,
        "optimizer states": 12.0 * stage.owned_parameters,
        "gradients": 4.0 * stage.parameters,
        "workspaces": float(CUBLAS_WORKSPACE_BYTES),
    }
    share = stage.owned_parameters / stage.parameters
    loss = {
        "activations": fused_activations(stage, in_flight),
        "logits and loss": 1.0 * LOGIT_BYTES * shape.tokens * shape.vocab if stage.last else 0.0,
    }
    temporary = TEMPORARY_BYTES * share * largest((experts, stage.parameters - experts))
    step = {"activations": temporary, "logits and loss": 0.0}
    worst = worst_of(loss, step)
    return finished({**states, **worst}, distributed=shape.world.ranks > 1)


STACK = Stack(
    name=NAME,
    description="Megatron-Core 0.19 local spec on torch 2.11: no Transformer Engine, no Apex",
    parallel=True,
    compared=False,
    knows=frozenset({"experts"}),
    layer=layer_part,
    embedding=embedding_part,
    head=head_part,
    replicas=replicas,
    reduced=reduced,
    optimizer=optimizer,
    memory=memory,
)
