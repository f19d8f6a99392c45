"""One layer of one rank: what it is made of, and the parameters that follow.

Parameter counts are those of the published architectures (Llama: Touvron et al., arXiv:2302.13971;
GPT-2: Radford et al. 2019; latent attention: DeepSeek-V2, arXiv:2405.04434, section 2.1): every
weight matrix, norm weights, biases where the model has them.
"""

from predictor.case import COLUMN_MODULES
from predictor.iteration.layer_parts import Adapters, Experts, Latent, Linear
from predictor.values import frozen


@frozen(kw_only=True)
class Layer:
    """One transformer layer of one rank.

    Attributes:
        hidden: Width of the residual stream.
        ffn: Columns of the rank's first MLP product (one of the two, if gated); 0 with experts.
        heads: Query heads of the rank.
        groups: Key and value heads of the rank.
        head_dim: Width of a query and key head.
        gated: The MLP multiplies an activated gate with an up projection.
        layer_norm: LayerNorm with bias instead of RMSNorm.
        biases: Linear layers carry biases (GPT-2 and its kin).
        qk_norm: Queries and keys are normalised per head.
        rope: Rotary position embedding.
        window: Tokens that a query sees; None for all before it.
        latent: Latent attention in place of the usual projections.
        experts: Experts in place of the MLP.
        predicts: A multi-token prediction module: two norms and a product of 2·hidden into hidden
            come before the layer, a norm and the shared head after it.
        adapters: What alone is trained; None: all weights are.
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
    window: int | None = None
    latent: Latent | None = None
    experts: Experts | None = None
    predicts: bool = False
    adapters: Adapters | None = None

    @property
    def q(self) -> int:
        """Columns of the query projection."""
        return self.heads * self.head_dim

    @property
    def kv(self) -> int:
        """Columns of the key projection."""
        return self.groups * self.head_dim

    @property
    def v(self) -> int:
        """Columns of attention's output."""
        return self.heads * (self.latent.value if self.latent else self.head_dim)

    @property
    def mlp_matrices(self) -> int:
        """Matrices of a feed-forward: three if gated, else two."""
        return 3 if self.gated else 2

    @property
    def block(self) -> str:
        """The kind of block that host costs are measured for."""
        if self.layer_norm and not self.gated:
            return "gpt2"
        return "qwen3" if self.qk_norm else "llama"

    @property
    def attention_parameters(self) -> int:
        """Weights of attention's projections; down-projections are whole on every rank."""
        if self.latent is None:
            return self.hidden * (2 * self.q + 2 * self.kv)
        down, latent = self.latent.q_rank, self.latent
        queries = down * (self.hidden + self.q) if down else self.hidden * self.q
        compressed = self.hidden * (latent.kv_rank + latent.rope)
        keys_and_values = latent.kv_rank * self.heads * (latent.nope + latent.value)
        return queries + compressed + keys_and_values + self.hidden * self.v

    @property
    def router_parameters(self) -> int:
        """Weights of the router, whole on every rank."""
        return self.hidden * self.experts.total if self.experts else 0

    @property
    def expert_parameters(self) -> int:
        """Matrices and biases of the routed experts held by the rank."""
        return self.experts.held * self._one_expert if self.experts else 0

    @property
    def visited_parameters(self) -> int:
        """Matrices and biases of the routed experts that one token visits."""
        return self.experts.top_k * self._one_expert if self.experts else 0

    @property
    def _one_expert(self) -> int:
        if self.experts is None:
            return 0
        biases = (self.mlp_matrices - 1) * self.experts.ffn + self.hidden if self.biases else 0
        return self.mlp_matrices * self.hidden * self.experts.ffn + biases

    @property
    def matrix_parameters(self) -> int:
        """Weights of the linear layers that every token passes, held by the rank."""
        width = self.ffn
        if self.experts:
            width = self.experts.shared_ffn + self.experts.residual_ffn
        merge = 2 * self.hidden * self.hidden if self.predicts else 0
        mlp = self.mlp_matrices * self.hidden * width
        return self.attention_parameters + self.router_parameters + mlp + merge

    @property
    def vector_parameters(self) -> int:
        """Norm weights and biases held by the rank, those of routed experts apart."""
        norms = 2 * self.hidden * (2 if self.layer_norm else 1)
        if self.qk_norm:
            norms += 2 * self.head_dim
        if self.latent:
            norms += self.latent.q_rank + self.latent.kv_rank
        if self.predicts:
            norms += 3 * self.hidden
        if self.experts and self.experts.residual_ffn:
            norms += self.hidden
        if self.biases:
            norms += self.q + 2 * self.kv + self.hidden
            norms += self.experts.total if self.experts else self.ffn + self.hidden
        return norms

    @property
    def dense_parameters(self) -> int:
        """Parameters outside the routed experts, which attention's mapping lays out."""
        return self.matrix_parameters + self.vector_parameters

    def linear(self, module: str) -> Linear:
        """One of a dense layer's linear modules, by Megatron-Core's name."""
        up = 2 if self.gated else 1
        out, into = {
            "linear_qkv": (self.q + 2 * self.kv, self.hidden),
            "linear_proj": (self.hidden, self.q),
            "linear_fc1": (up * self.ffn, self.hidden),
            "linear_fc2": (self.hidden, self.ffn),
        }[module]
        if self.adapters is None:
            return Linear(out, into)
        rank = self.adapters.rank if module in self.adapters.modules else 0
        return Linear(out, into, trained=False, rank=rank)

    @property
    def adapter_parameters(self) -> int:
        """Weights of the adapters held by the rank.

        The first product of a module that splits its output is split over tensor ranks by its own
        outputs; the second one always is.
        """
        if self.adapters is None:
            return 0
        ranks, total = self.adapters.tensor_ranks, 0
        for module in self.adapters.modules:
            each = self.linear(module)
            if module in COLUMN_MODULES:
                total += each.rank // ranks * each.into + each.out * each.rank
            else:
                total += each.rank * each.into + each.out // ranks * each.rank
        return total

    @property
    def trained_parameters(self) -> int:
        """Parameters outside the routed experts that have gradients."""
        return self.dense_parameters if self.adapters is None else self.adapter_parameters

    @property
    def parameters(self) -> int:
        """All parameters of the layer held by the rank, without adapters."""
        return self.dense_parameters + self.expert_parameters

    @property
    def active_parameters(self) -> int:
        """Parameters that one token passes; of an uncut layer."""
        return self.dense_parameters + self.visited_parameters

    @property
    def tensors(self) -> int:
        """Trained tensors: two an adapter, else all, as the Hugging Face module holds them."""
        if self.adapters is not None:
            return 2 * len(self.adapters.modules)
        if self.block == "gpt2":
            return 12
        mlp = self.mlp_matrices if self.gated else 2
        if self.experts:
            shared = self.mlp_matrices if self.experts.shared_ffn else 0
            mlp = 3 + shared + (4 if self.experts.residual_ffn else 0)
        attention = 4 if self.latent is None else (7 if self.latent.q_rank else 5)
        return attention + mlp + 2 + (2 if self.qk_norm else 0)
