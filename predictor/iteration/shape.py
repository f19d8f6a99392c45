"""From a resolved case to the sizes of every stage."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import groupby

from predictor.case import Case, Model, Training, load_gpu
from predictor.iteration.dimensions import adapters_of, layers_of
from predictor.iteration.implementations import load as load_stack
from predictor.iteration.layer import Layer
from predictor.iteration.moe.mapping import expert_plan
from predictor.iteration.places import Places
from predictor.iteration.recipes import recipe_of
from predictor.iteration.step import CORE_ATTENTION, Block, Chunk, Stage, StepShape
from predictor.values import frozen


def micro_batches_of(case: Case) -> int:
    """Micro-batches that each replica runs in a step."""
    per_micro_batch = case.training.micro_batch_size * case.plan.data_parallel
    return max(1, case.training.global_batch_size // per_micro_batch)


def step_shape(case: Case, *, vocab_multiple: int = 1) -> StepShape:
    """Sizes of a micro-batch on one rank, its share of the vocabulary padded as the stack does."""
    model, training, plan, cluster = case.model, case.training, case.plan, case.cluster
    tp = plan.tensor_parallel
    gpu = load_gpu(cluster.gpu)
    places = Places.of(case)
    groups = places.groups(case)
    shape = StepShape(
        batch=training.micro_batch_size,
        seq_length=training.seq_length,
        hidden=model.hidden_size,
        vocab=math.ceil(model.vocab_size / (tp * vocab_multiple)) * vocab_multiple,
        layer=_kinds(case)[0],
        tied_embeddings=bool(model.tied_embeddings),
        layer_norm=model.normalization == "layernorm",
        alibi=model.position_embedding == "alibi",
        fp32_states=training.master_weights == "fp32" or training.optimizer == "adamw-fused-fp32",
        gradient_bytes=4 if training.gradient_dtype == "fp32" else 2,
        recipe=recipe_of(training, gpu),
        architecture=gpu.architecture,
        recomputed=recomputed_modules(training, selective=training.recompute == "selective"),
        sequence_parallel=bool(plan.sequence_parallel),
        sharding=str(plan.sharding),
        overlap_grad_reduce=plan.overlap_grad_reduce,
        overlap_param_gather=plan.overlap_param_gather,
        overlap_p2p=plan.overlap_p2p,
        tp_overlap=plan.tp_overlap,
        cuda_graph=plan.cuda_graph or "none",
        attention_backend=plan.attention_backend or "cudnn",
        schedule=str(plan.schedule),
        stages=plan.pipeline_parallel,
        stages_apart=plan.pipeline_parallel > 1 and cluster.num_gpus > places.domain,
        chunks=plan.virtual_pipeline,
        micro_batches=micro_batches_of(case),
        tensor=groups["tensor"],
        context=groups["context"],
        context_kind=str(plan.context_parallel_kind),
        data=groups["data"],
        replicas=groups["replicas"],
        world=groups["world"],
    )
    return replace(shape, experts=expert_plan(case, tokens=shape.shard_tokens, groups=groups))


def recomputed_modules(training: Training, *, selective: bool) -> frozenset[str]:
    """What each layer replays apart from whole layers."""
    return frozenset(training.recompute_modules or (CORE_ATTENTION,)) if selective else frozenset()


def stages_of(case: Case, shape: StepShape) -> tuple[Stage, ...]:
    """What every pipeline stage holds and runs; stages of one shape are equal but for the index."""
    alike = cache(lambda chunks: _stage(case, shape, chunks))
    return tuple(
        replace(alike(chunks), index=index) for index, chunks in enumerate(chunks_of(case))
    )


def chunks_of(case: Case) -> tuple[tuple[Chunk, ...], ...]:
    """The chunks of every pipeline stage."""
    counts = load_stack(str(case.implementation)).layers(case.model, case.plan)
    kinds = _kinds(case)
    replays = replays_of(
        case, recompute=str(case.training.recompute), stages=case.plan.pipeline_parallel
    )
    start, chunks = 0, []
    for index, count in enumerate(counts):
        last = index == len(counts) - 1
        end = len(kinds) if last else start + count  # prediction modules come with the head
        blocks = _blocks(kinds[start:end], replays)
        chunks.append(Chunk(blocks=blocks, embedding=index == 0, head=last))
        start = end
    stages = case.plan.pipeline_parallel
    mine = [tuple(chunks[index::stages]) for index in range(stages)]
    if case.plan.schedule == "dualpipe":  # each stage also holds its mirror image's part
        mine = [(chunks[index], chunks[-1 - index]) for index in range(stages)]
    return tuple(mine)


def _kinds(case: Case) -> tuple[Layer, ...]:
    """Every layer of the model, cut for one rank."""
    plan = case.plan
    return layers_of(
        case.model,
        tensor_parallel=plan.tensor_parallel,
        expert_parallel=plan.expert_parallel,
        expert_tensor_parallel=plan.expert_tensor_parallel,
        adapters=adapters_of(case.training),
    )


def replays_of(case: Case, *, recompute: str, stages: int) -> int:
    """Layers of a chunk that run again in the backward pass, from its first one on."""
    if recompute == "selective":
        share = load_stack(str(case.implementation)).selective_blocks
        return round(share * case.model.num_layers / stages)
    if recompute != "full":
        return 0
    wanted = case.training.recompute_layers
    return case.model.num_layers if wanted is None else wanted


def _blocks(kinds: Sequence[Layer], replays: int) -> tuple[Block, ...]:
    marked = [(layer, index < replays) for index, layer in enumerate(kinds)]
    return tuple(
        Block(layer=layer, count=len(list(run)), replayed=replayed)
        for (layer, replayed), run in groupby(marked)
    )


@frozen
class Held:
    """What a rank of a stage holds: parameters outside routed experts, in them, and tensors.

    ``trained`` are those of the first that have gradients, tensors those that have.
    """

    dense: int
    experts: int
    tensors: int
    trained: int


def held_by(model: Model, shape: StepShape, chunks: Sequence[Chunk]) -> Held:
    """Add up the layers of some chunks and the tables and norms beside them."""
    blocks = [block for chunk in chunks for block in chunk.blocks]
    held = sum(block.layer.dense_parameters * block.count for block in blocks)
    experts = sum(block.layer.expert_parameters * block.count for block in blocks)
    tensors = sum(block.layer.tensors * block.count for block in blocks)
    table = shape.vocab * shape.hidden
    first = any(chunk.embedding for chunk in chunks)
    last = any(chunk.head for chunk in chunks)
    if first:
        rows = model.max_position_embeddings or shape.seq_length
        learned = model.position_embedding == "learned"
        held += table + (rows * shape.hidden if learned else 0)
        tensors += 1 + learned
    if last:
        held += shape.hidden * (2 if shape.layer_norm else 1)
        tensors += 1 + shape.layer_norm
        if not (first and shape.tied_embeddings):
            held += table
            tensors += 1
    if shape.layer.adapters is not None:
        thin = sum(block.layer.adapter_parameters * block.count for block in blocks)
        own = sum(block.layer.tensors * block.count for block in blocks)
        return Held(held + thin, experts, own, thin)
    return Held(held, experts, tensors, held)


def _stage(case: Case, shape: StepShape, chunks: tuple[Chunk, ...]) -> Stage:
    held = held_by(case.model, shape, chunks)
    sharded = shape.sharding != "none"
    shards = shape.data.ranks if sharded else 1
    expert_shards = shape.experts.data.ranks if sharded and shape.experts else 1
    return Stage(
        index=0,
        shape=shape,
        chunks=chunks,
        parameters=held.dense + held.experts,
        expert_parameters=held.experts,
        trained_parameters=held.trained + held.experts,
        owned_parameters=math.ceil(held.trained / shards) + math.ceil(held.experts / expert_shards),
        tensors=held.tensors,
    )
