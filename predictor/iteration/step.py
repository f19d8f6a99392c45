"""The step of one rank: its sizes, and the segments an implementation builds from them."""

from dataclasses import dataclass

from predictor.iteration.dimensions import Layer
from predictor.iteration.launches import Segment
from predictor.operators import Attention


@dataclass(frozen=True, slots=True, kw_only=True)
class StepShape:
    """Everything an implementation needs to name its launches, for the fullest pipeline stage.

    Attributes:
        layer: One layer after tensor parallelism.
        num_layers: Layers of the stage.
        recompute_layers: Of these, how many replay their forward pass in the backward pass.
        batch: Sequences of a micro-batch.
        seq_length: Tokens a sequence.
        vocab: Columns of the rank's logits.
        parameters: Parameters that the rank holds.
        owned_parameters: Parameters whose optimizer state the rank holds.
        tensors: Parameter tensors that the rank holds.
        tied_embeddings: The head shares the input table.
        fp32_states: Masters, moments and gradients in fp32 instead of bf16.
        selective_recompute: Core attention is replayed in the backward pass.
        sequence_shard: Ranks over which activations outside the products are split.
    """

    layer: Layer
    num_layers: int
    recompute_layers: int
    batch: int
    seq_length: int
    vocab: int
    parameters: int
    owned_parameters: int
    tensors: int
    tied_embeddings: bool
    fp32_states: bool
    selective_recompute: bool = False
    sequence_shard: int = 1

    @property
    def tokens(self) -> int:
        """Tokens of a micro-batch on this rank."""
        return self.batch * self.seq_length

    def attention(self, kind: str, *, bias: bool = False) -> Attention:
        """The layer's attention call: causal and grouped, or the full square with a bias.

        A materialised mask comes with keys and values repeated to all query heads
        (Hugging Face's ``repeat_kv``), so the call has no query groups.
        """
        return Attention(
            batch=self.batch,
            num_heads=self.layer.heads,
            num_query_groups=self.layer.heads if bias else self.layer.groups,
            seq_length=self.seq_length,
            head_dim=self.layer.head_dim,
            causal=not bias,
            bias=bias,
            kind="forward" if kind == "forward" else "backward",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The segments of a step, in order.

    Attributes:
        micro_batch: Forward and backward of one micro-batch.
        accumulate: What every micro-batch after the first adds.
        optimizer: Once a step.
    """

    micro_batch: tuple[Segment, ...]
    accumulate: Segment
    optimizer: Segment
