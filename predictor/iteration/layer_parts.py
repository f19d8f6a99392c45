"""What a layer of one rank may have in place of its usual parts, or beside them."""

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
class Adapters:
    """LoRA: two thin products beside each of some linear modules, whose weights are frozen.

    A module ``y = x·wᵀ`` becomes ``y = x·wᵀ + scale·(x·aᵀ)·bᵀ`` with ``a`` of rank x inputs and
    ``b`` of outputs x rank (Hu et al., arXiv:2106.09685).

    Attributes:
        rank: Of all tensor ranks together.
        modules: Which modules have one, by Megatron-Core's names.
        tensor_ranks: Ranks that share a module's matrices.
        lowest: Nothing that is trained comes before the layer, so nobody needs its input's
            gradient.
    """

    rank: int
    modules: frozenset[str]
    tensor_ranks: int = 1
    lowest: bool = False


@frozen
class Linear:
    """A linear module of one rank.

    Attributes:
        out: Columns of its output.
        into: Columns of its input.
        trained: Its own weights are.
        rank: Of its adapter; 0 without one.
    """

    out: int
    into: int
    trained: bool = True
    rank: int = 0
