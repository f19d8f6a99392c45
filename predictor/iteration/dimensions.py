"""Sizes that follow from a model and a plan: parameters, tokens, shards.

Parameter counts are those of the published architectures (Llama: Touvron et al., arXiv:2302.13971;
GPT-2: Radford et al. 2019): every weight matrix, norm weights, biases where the model has them,
input and output embeddings counted once if tied.
"""

from dataclasses import dataclass

from predictor.case import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One dense transformer layer of one tensor-parallel rank.

    Attributes:
        hidden: Width of the residual stream.
        ffn: Columns of the rank's first MLP product (one of the two, if gated).
        heads: Query heads of the rank.
        groups: Key and value heads of the rank.
        head_dim: Width of a head.
        gated: The MLP multiplies an activated gate with an up projection.
        layer_norm: LayerNorm with bias instead of RMSNorm.
        biases: Linear layers carry biases (GPT-2 and its kin).
        qk_norm: Queries and keys are normalised per head.
        rope: Rotary position embedding.
    """

    hidden: int
    ffn: int
    heads: int
    groups: int
    head_dim: int
    gated: bool
    layer_norm: bool
    biases: bool
    qk_norm: bool
    rope: bool

    @property
    def q(self) -> int:
        """Columns of the query projection."""
        return self.heads * self.head_dim

    @property
    def kv(self) -> int:
        """Columns of the key projection."""
        return self.groups * self.head_dim

    @property
    def block(self) -> str:
        """The kind of block that host costs are measured for."""
        if self.layer_norm and not self.gated:
            return "gpt2"
        return "qwen3" if self.qk_norm else "llama"

    @property
    def matrix_parameters(self) -> int:
        """Weights of the linear layers held by the rank."""
        up = 2 if self.gated else 1
        return self.hidden * (2 * self.q + 2 * self.kv + (up + 1) * self.ffn)

    @property
    def vector_parameters(self) -> int:
        """Norm weights and biases held by the rank."""
        norms = 2 * self.hidden * (2 if self.layer_norm else 1)
        if self.qk_norm:
            norms += 2 * self.head_dim
        if self.biases:
            norms += self.q + 2 * self.kv + self.hidden + self.ffn + self.hidden
        return norms

    @property
    def parameters(self) -> int:
        """All parameters of the layer held by the rank."""
        return self.matrix_parameters + self.vector_parameters

    @property
    def tensors(self) -> int:
        """Parameter tensors of the layer as the Hugging Face module holds them."""
        if self.block == "gpt2":
            return 12
        return (7 if self.gated else 6) + 2 + (2 if self.qk_norm else 0)


def layer_of(model: Model, *, tensor_parallel: int = 1) -> Layer:
    """Cut one dense layer of ``model`` over ``tensor_parallel`` ranks."""
    layer_norm = model.normalization == "layernorm"
    return Layer(
        hidden=model.hidden_size,
        ffn=model.ffn_hidden_size // tensor_parallel,
        heads=model.num_attention_heads // tensor_parallel,
        groups=max(1, model.num_query_groups // tensor_parallel),
        head_dim=model.head_dim,
        gated=bool(model.gated_mlp),
        layer_norm=layer_norm,
        biases=layer_norm and not model.gated_mlp,
        qk_norm=bool(model.qk_norm),
        rope=model.position_embedding == "rope",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Parameter counts of a whole model.

    Attributes:
        layer: One transformer layer.
        embedding: The input table, and the position table where it is learned.
        head: The output projection; zero if tied to the input table.
        final_norm: The last norm.
        num_layers: Layers.
    """

    layer: int
    embedding: int
    head: int
    final_norm: int
    num_layers: int

    @property
    def total(self) -> int:
        """All parameters."""
        return self.layer * self.num_layers + self.embedding + self.head + self.final_norm


def parameters_of(model: Model, *, seq_length: int = 0) -> Parameters:
    """Count the parameters of a dense model; a learned position table has ``seq_length`` rows."""
    layer = layer_of(model)
    table = model.vocab_size * model.hidden_size
    positions = seq_length * model.hidden_size if model.position_embedding == "learned" else 0
    return Parameters(
        layer=layer.parameters,
        embedding=table + positions,
        head=0 if model.tied_embeddings else table,
        final_norm=model.hidden_size * (2 if layer.layer_norm else 1),
        num_layers=model.num_layers,
    )


def model_flops(model: Model, *, tokens: float, seq_length: int) -> float:
    """Flops of forward and backward that the model itself needs, as MFU counts them.

    Six flops a matrix parameter and token, and attention's two products at half the square
    (PaLM, arXiv:2204.02311, appendix B, with the causal half as in FlashAttention-2).
    """
    layer = layer_of(model)
    matrices = layer.matrix_parameters * model.num_layers + model.vocab_size * model.hidden_size
    attention = 6.0 * model.num_layers * seq_length * layer.q
    return tokens * (6.0 * matrices + attention)
