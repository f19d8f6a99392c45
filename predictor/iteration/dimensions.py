"""Sizes that follow from a model and a plan: layers of every kind, parameters, flops.

A model is a row of layers that need not be alike: dense and mixture-of-experts layers, full and
windowed attention, and the multi-token prediction modules behind the last one. :func:`layers_of`
cuts each over the ranks; counts and flops are sums over that row.

Parameter counts are those of the published architectures (Llama: Touvron et al., arXiv:2302.13971;
GPT-2: Radford et al. 2019; latent attention: DeepSeek-V2, arXiv:2405.04434, section 2.1): every
weight matrix, norm weights, biases where the model has them, input and output embeddings counted
once if tied.
"""

from dataclasses import replace
from functools import lru_cache

from predictor.case import Model
from predictor.values import frozen


@frozen(kw_only=True)
class Experts:
    """The feed-forward of a mixture-of-experts layer on one rank.

    Attributes:
        total: Routed experts of the layer.
        held: Routed experts of the rank.
        top_k: Routed experts that a token visits.
        ffn: Columns of a routed expert's first product on the rank (one of the two, if gated).
        shared_ffn: Columns of all shared experts on the rank; every token visits them.
        residual_ffn: Columns of a dense feed-forward with its own norm beside the experts.
        groups: Groups of experts.
        groups_visited: Groups that a token's experts come from.
    """

    total: int
    held: int
    top_k: int
    ffn: int
    shared_ffn: int = 0
    residual_ffn: int = 0
    groups: int = 1
    groups_visited: int = 1


@frozen(kw_only=True)
class Latent:
    """Multi-head latent attention: what is projected down before it is projected up to heads.

    Attributes:
        q_rank: Rank of the queries; 0 for full rank.
        kv_rank: Rank of keys and values.
        nope: Part of a query and key head without position.
        rope: Part with position; one key of it serves all heads.
        value: Width of a value head.
    """

    q_rank: int
    kv_rank: int
    nope: int
    rope: int
    value: int


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

    @property
    def parameters(self) -> int:
        """All parameters of the layer held by the rank."""
        return self.dense_parameters + self.expert_parameters

    @property
    def active_parameters(self) -> int:
        """Parameters that one token passes; of an uncut layer."""
        return self.dense_parameters + self.visited_parameters

    @property
    def tensors(self) -> int:
        """Parameter tensors of the layer as the Hugging Face module holds them."""
        if self.block == "gpt2":
            return 12
        mlp = self.mlp_matrices if self.gated else 2
        if self.experts:
            shared = self.mlp_matrices if self.experts.shared_ffn else 0
            mlp = 3 + shared + (4 if self.experts.residual_ffn else 0)
        attention = 4 if self.latent is None else (7 if self.latent.q_rank else 5)
        return attention + mlp + 2 + (2 if self.qk_norm else 0)


def layer_of(
    model: Model,
    place: int = 0,
    *,
    tensor_parallel: int = 1,
    expert_parallel: int = 1,
    expert_tensor_parallel: int = 1,
) -> Layer:
    """Cut the layer at ``place`` (0 at the bottom) of ``model`` over its ranks."""
    latent = None
    if model.mla is not None:
        latent = Latent(
            q_rank=model.mla.q_lora_rank or 0,
            kv_rank=model.mla.kv_lora_rank,
            nope=model.mla.qk_nope_head_dim,
            rope=model.mla.qk_rope_head_dim,
            value=model.mla.v_head_dim,
        )
    experts = None
    if is_moe(model, place):
        experts = _experts(model, tensor_parallel, expert_parallel, expert_tensor_parallel)
    layer_norm = model.normalization == "layernorm"
    return Layer(
        hidden=model.hidden_size,
        ffn=0 if experts else model.ffn_hidden_size // tensor_parallel,
        heads=model.num_attention_heads // tensor_parallel,
        groups=max(1, model.num_query_groups // tensor_parallel),
        head_dim=latent.nope + latent.rope if latent else model.head_dim,
        gated=bool(model.gated_mlp),
        layer_norm=layer_norm,
        biases=(layer_norm and not model.gated_mlp)
        or (experts is not None and model.linear_bias == "all"),
        qk_norm=bool(model.qk_norm),
        rope=model.position_embedding == "rope",
        window=window_of(model, place),
        latent=latent,
        experts=experts,
    )


def layers_of(
    model: Model,
    *,
    tensor_parallel: int = 1,
    expert_parallel: int = 1,
    expert_tensor_parallel: int = 1,
) -> tuple[Layer, ...]:
    """Every layer of one rank's cut, from the bottom; prediction modules come last."""
    depth, extra = model.num_layers, model.mtp_num_layers or 0
    kinds: dict[tuple[bool, int | None], Layer] = {}
    row = []
    for place in range(depth):
        kind = is_moe(model, place), window_of(model, place)
        if kind not in kinds:
            kinds[kind] = layer_of(
                model,
                place,
                tensor_parallel=tensor_parallel,
                expert_parallel=expert_parallel,
                expert_tensor_parallel=expert_tensor_parallel,
            )
        row.append(kinds[kind])
    return (*row, *([replace(row[-1], predicts=True)] * extra))


def is_moe(model: Model, place: int) -> bool:
    """Whether the layer at ``place`` holds experts.

    The first layers may be dense; of the others every ``moe_layer_frequency``-th one, counted from
    the bottom (Megatron-LM's ``--moe-layer-freq``, DeepSeek's ``first_k_dense_replace``).
    """
    moe = model.moe
    if moe is None or place < (moe.first_dense_layers or 0):
        return False
    return place % (moe.moe_layer_frequency or 1) == 0


def window_of(model: Model, place: int) -> int | None:
    """Tokens that a query of the layer at ``place`` sees; None for all before it."""
    every = model.full_attention_frequency
    if every and (place + 1) % every == 0:
        return None
    return model.attention_window


def _experts(model: Model, tensor: int, expert: int, expert_tensor: int) -> Experts | None:
    moe = model.moe
    if moe is None:
        return None
    shared = moe.shared_expert_ffn_hidden_size
    if shared is None:
        shared = (moe.num_shared_experts or 0) * moe.expert_ffn_hidden_size
    return Experts(
        total=moe.num_experts,
        held=moe.num_experts // expert,
        top_k=moe.top_k,
        ffn=moe.expert_ffn_hidden_size // expert_tensor,
        shared_ffn=shared // tensor,
        residual_ffn=(moe.residual_ffn_hidden_size or 0) // tensor,
        groups=moe.routing_groups or 1,
        groups_visited=moe.groups_per_token or moe.routing_groups or 1,
    )


@frozen(kw_only=True)
class Parameters:
    """Parameter counts of a whole model.

    Attributes:
        layers: All transformer layers.
        active_layers: Of these, what one token passes: the routed experts that it visits.
        prediction: Multi-token prediction modules, which published totals leave out.
        embedding: The input table, and the position table where it is learned.
        head: The output projection; zero if tied to the input table.
        final_norm: The last norm.
    """

    layers: int
    active_layers: int
    prediction: int
    embedding: int
    head: int
    final_norm: int

    @property
    def total(self) -> int:
        """All parameters but those of the prediction modules."""
        return self.layers + self.embedding + self.head + self.final_norm

    @property
    def active(self) -> int:
        """Parameters that one token passes, both embedding tables among them."""
        return self.active_layers + self.embedding + self.head + self.final_norm


def parameters_of(model: Model, *, seq_length: int = 0) -> Parameters:
    """Count the parameters of a model; a learned position table has ``seq_length`` rows."""
    row = layers_of(model)
    table = model.vocab_size * model.hidden_size
    positions = seq_length * model.hidden_size if model.position_embedding == "learned" else 0
    main = [layer for layer in row if not layer.predicts]
    return Parameters(
        layers=sum(layer.parameters for layer in main),
        active_layers=sum(layer.active_parameters for layer in main),
        prediction=sum(layer.parameters for layer in row if layer.predicts),
        embedding=table + positions,
        head=0 if model.tied_embeddings else table,
        final_norm=model.hidden_size * (2 if model.normalization == "layernorm" else 1),
    )


@lru_cache(maxsize=256)
def model_flops(model: Model, *, tokens: float, seq_length: int) -> float:
    """Flops of forward and backward that the model itself needs, as MFU counts them.

    Six flops for each matrix parameter that a token passes, and attention's two products over the
    keys that a query sees: half the square (PaLM, arXiv:2204.02311, appendix B, with the causal
    half as in FlashAttention-2), less with a window. A prediction module passes the head again.
    """
    row = layers_of(model)
    heads = 1 + sum(layer.predicts for layer in row)
    matrices = heads * model.vocab_size * model.hidden_size
    attention = 0.0
    for layer in row:
        matrices += layer.matrix_parameters
        if layer.experts:
            matrices += layer.experts.top_k * layer.mlp_matrices * layer.hidden * layer.experts.ffn
        attention += 6.0 * mean_keys(seq_length, layer.window) * (layer.q + layer.v)
    return tokens * (6.0 * matrices + attention)


def mean_keys(seq_length: int, window: int | None) -> float:
    """Keys that a causal query sees on average: half the sequence, or nearly its window.

    The first ``window`` queries see half of it on average, the others all of it.
    """
    if window is None or window >= seq_length:
        return seq_length / 2
    return window - window * window / (2 * seq_length)
