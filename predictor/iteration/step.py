"""Sizes that launches follow from: a micro-batch on one rank, and what each stage holds."""

import math
from dataclasses import replace
from typing import Final

from predictor.iteration.groups import Group
from predictor.iteration.layer import Layer
from predictor.iteration.moe.mapping import ExpertPlan
from predictor.iteration.moe.shape import Routed
from predictor.iteration.recipes import Recipe
from predictor.operators import Attention, Collective
from predictor.values import frozen

ALONE: Final = Group()
"""One rank that talks to nobody."""

CORE_ATTENTION: Final = "core_attn"


@frozen(kw_only=True)
class StepShape:
    """A micro-batch on one rank: the same on every stage.

    Attributes:
        batch: Sequences of a micro-batch.
        seq_length: Tokens of a sequence, over all context-parallel ranks.
        hidden: Width of the residual stream.
        vocab: Columns of the rank's logits.
        layer: The (first kind of) layer after tensor parallelism.
        tied_embeddings: The head shares the input table.
        layer_norm: Norms are LayerNorm with bias instead of RMSNorm.
        alibi: Positions are biases of attention's scores.
        fp32_states: Masters, moments and gradients in fp32 instead of bf16.
        gradient_bytes: Bytes of a stored gradient.
        recipe: How operands of products become small; None: products of 16-bit numbers.
        recomputed: What selective recomputation replays in the backward pass, as
            ``training.recompute_modules`` names it.
        sequence_parallel: Activations outside the products are split over the tensor ranks.
        sharding: What replicas split: ``none``, ``optimizer``, ``gradients`` or ``parameters``.
        overlap_grad_reduce: Gradients are reduced beside the backward pass; None: as the stack has
            it, as for the other overlaps.
        overlap_param_gather: Parameters are gathered beside the forward pass.
        overlap_p2p: Pipeline transfers run beside computation.
        tp_overlap: Tensor-parallel transfers run beside products.
        cuda_graph: What CUDA graphs hold.
        attention_backend: Whose kernels attention runs where a stack leaves it open.
        architecture: Of the GPU, by which a stack may choose its kernels.
        schedule: Order of a pipeline's passes.
        stages: Pipeline stages.
        stages_apart: Some of them lie on different nodes.
        chunks: Chunks of a stage.
        micro_batches: Of one replica in a step.
        tensor: Ranks that share a layer's matrices.
        context: Ranks that share a sequence.
        context_kind: How they see each other's keys and values.
        data: Ranks among which gradients are summed and states are split (data and context ranks
            together, or one sharding group of them).
        replicas: Sharding groups that hold the same; a group of one without HSDP.
        world: All ranks.
        experts: Where experts lie and how tokens reach them; None in a dense model.
    """

    batch: int
    seq_length: int
    hidden: int
    vocab: int
    layer: Layer
    tied_embeddings: bool = False
    layer_norm: bool = False
    alibi: bool = False
    fp32_states: bool = True
    gradient_bytes: int = 4
    recipe: Recipe | None = None
    recomputed: frozenset[str] = frozenset()
    sequence_parallel: bool = False
    sharding: str = "none"
    overlap_grad_reduce: bool | None = None
    overlap_param_gather: bool | None = None
    overlap_p2p: bool | None = None
    tp_overlap: bool | None = None
    cuda_graph: str = "none"
    attention_backend: str = "cudnn"
    architecture: str = ""
    schedule: str = "1f1b"
    stages: int = 1
    stages_apart: bool = False
    chunks: int = 1
    micro_batches: int = 1
    tensor: Group = ALONE
    context: Group = ALONE
    context_kind: str = "ring"
    data: Group = ALONE
    replicas: Group = ALONE
    world: Group = ALONE
    experts: ExpertPlan | None = None

    def of_parts(self) -> "StepShape":
        """The same to layers, embedding and head: how passes and buckets are ordered left out."""
        return replace(
            self,
            overlap_grad_reduce=None,
            overlap_param_gather=None,
            overlap_p2p=None,
            schedule="1f1b",
            chunks=1,
        )

    @property
    def selective_recompute(self) -> bool:
        """Whether core attention, or what a stack's own selection is, is replayed."""
        return CORE_ATTENTION in self.recomputed

    @property
    def tokens(self) -> int:
        """Tokens of a micro-batch on this rank."""
        return self.batch * self.seq_length // self.context.ranks

    @property
    def sequence_shard(self) -> int:
        """Ranks over which activations outside the products are split."""
        return self.tensor.ranks if self.sequence_parallel else 1

    @property
    def shard_tokens(self) -> int:
        """Tokens that norms and residual adds of this rank see."""
        return self.tokens // self.sequence_shard

    @property
    def activation_bytes(self) -> float:
        """The residual stream of a micro-batch in two-byte numbers, before sequence parallelism."""
        return 2.0 * self.tokens * self.hidden

    def partial_sum(self, width: int) -> Collective | None:
        """What makes tensor ranks' partial sums of ``width`` two-byte columns whole.

        A rank gets its share of the tokens under sequence parallelism, otherwise all of them.
        """
        whole = self.tensor.reduce_scatter if self.sequence_parallel else self.tensor.all_reduce
        return whole(2.0 * self.tokens * width)

    def attention(self, kind: str, layer: Layer | None = None, *, bias: bool = False) -> Attention:
        """A layer's attention call: causal and grouped, or the full square with a bias.

        Latent attention has as many key heads as query heads once they are projected up.

        A materialised mask comes with keys and values repeated to all query heads
        (Hugging Face's ``repeat_kv``), so the call has no query groups.
        """
        layer = layer or self.layer
        return Attention(
            batch=self.batch,
            num_heads=layer.heads,
            num_query_groups=layer.heads if bias or layer.latent else layer.groups,
            seq_length=self.seq_length,
            head_dim=layer.head_dim,
            value_head_dim=layer.latent.value if layer.latent else 0,
            causal=not bias,
            bias=bias,
            window=layer.window or 0,
            kind="forward" if kind == "forward" else "backward",
            impl=self.attention_backend,
        )

    def routed(self, layer: Layer) -> Routed:
        """The rows that an expert layer of this rank works on."""
        if layer.experts is None or self.experts is None:
            msg = "the layer has no experts"
            raise ValueError(msg)
        return Routed(
            layer=layer, experts=layer.experts, plan=self.experts, tokens=self.shard_tokens
        )


@frozen(kw_only=True)
class Block:
    """Layers of one kind in a row.

    Attributes:
        layer: The kind.
        count: How many.
        replayed: They keep their input alone and run again in the backward pass.
    """

    layer: Layer
    count: int
    replayed: bool = False


@frozen(kw_only=True)
class Chunk:
    """What one stage runs of the model in one go.

    Attributes:
        blocks: Its layers, bottom up.
        embedding: It begins with the input table.
        head: It ends with the final norm, the logits and the loss.
    """

    blocks: tuple[Block, ...]
    embedding: bool
    head: bool

    @property
    def layers(self) -> int:
        """Layers of all kinds."""
        return sum(block.count for block in self.blocks)


@frozen(kw_only=True)
class Stage:
    """One pipeline stage of one rank.

    Attributes:
        index: Its place in the pipeline.
        shape: Sizes of a micro-batch.
        chunks: What it runs, one for each virtual stage.
        parameters: Parameters that a rank computes with.
        expert_parameters: Of these, those of routed experts.
        trained_parameters: Of these, how many have gradients.
        owned_parameters: Of these, how many it keeps the optimizer states of.
        tensors: Parameter tensors that have gradients.
    """

    index: int
    shape: StepShape
    chunks: tuple[Chunk, ...]
    parameters: int
    expert_parameters: int
    trained_parameters: int
    owned_parameters: int
    tensors: int

    @property
    def owned_tensors(self) -> int:
        """Tensors of which the rank owns a part: a module's, and two of each of its experts."""
        blocks = [block for chunk in self.chunks for block in chunk.blocks]
        experts = sum(2 * b.layer.experts.held * b.count for b in blocks if b.layer.experts)
        return math.ceil((self.tensors + experts) * self.owned_parameters / self.trained_parameters)

    @property
    def first(self) -> bool:
        """It holds the input table."""
        return any(chunk.embedding for chunk in self.chunks)

    @property
    def last(self) -> bool:
        """It holds the head."""
        return any(chunk.head for chunk in self.chunks)
