"""Sizes that follow from a model and a plan: layers of every kind, parameters, flops.

A model is a row of layers that need not be alike: dense and mixture-of-experts layers, full and
windowed attention, and the multi-token prediction modules behind the last one. :func:`layers_of`
cuts each over the ranks; counts and flops are sums over that row.

Parameters are those of the layers (:mod:`predictor.iteration.layer`), input and output embeddings
counted once if tied.
"""

from dataclasses import replace
from functools import lru_cache

from predictor.case import Model, Training
from predictor.iteration.layer import Layer
from predictor.iteration.layer_parts import Adapters, Experts, Latent
from predictor.values import frozen


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


@lru_cache(maxsize=256)
def layers_of(
    model: Model,
    *,
    tensor_parallel: int = 1,
    expert_parallel: int = 1,
    expert_tensor_parallel: int = 1,
    adapters: Adapters | None = None,
) -> tuple[Layer, ...]:
    """Every layer of one rank's cut, from the bottom; prediction modules come last.

    All layers have the ``adapters``; below the first of them nothing is trained.
    """
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
    row += [replace(row[-1], predicts=True)] * extra
    if adapters is None:
        return tuple(row)
    adapters = replace(adapters, tensor_ranks=tensor_parallel)
    thin = {layer: replace(layer, adapters=adapters) for layer in kinds.values()}
    lowest = replace(row[0], adapters=replace(adapters, lowest=True))
    return (lowest, *(thin[layer] for layer in row[1:]))


def adapters_of(training: Training) -> Adapters | None:
    """The adapters of every layer of a resolved case; None where all weights are trained."""
    if training.adapter_rank is None:
        return None
    return Adapters(rank=training.adapter_rank, modules=frozenset(training.adapter_modules))


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
def model_flops(
    model: Model, *, tokens: float, seq_length: int, adapters: Adapters | None = None
) -> float:
    """Flops of forward and backward that the model itself needs, as MFU counts them.

    Six flops for each matrix parameter that a token passes, four if it is frozen (its gradient's
    two are not needed), and attention's two products over the
    keys that a query sees: half the square (PaLM, arXiv:2204.02311, appendix B, with the causal
    half as in FlashAttention-2), less with a window. A prediction module passes the head again.
    """
    row = layers_of(model, adapters=adapters)
    heads = 1 + sum(layer.predicts for layer in row)
    matrices = heads * model.vocab_size * model.hidden_size
    attention = 0.0
    for layer in row:
        matrices += layer.matrix_parameters
        if layer.experts:
            matrices += layer.experts.top_k * layer.mlp_matrices * layer.hidden * layer.experts.ffn
        attention += 6.0 * mean_keys(seq_length, layer.window) * (layer.q + layer.v)
    if adapters is None:
        return tokens * (6.0 * matrices + attention)
    thin = sum(layer.adapter_parameters for layer in row)
    return tokens * (4.0 * matrices + 6.0 * thin + attention)


def mean_keys(seq_length: int, window: int | None) -> float:
    """Keys that a causal query sees on average: half the sequence, or nearly its window.

    The first ``window`` queries see half of it on average, the others all of it.
    """
    if window is None or window >= seq_length:
        return seq_length / 2
    return window - window * window / (2 * seq_length)
