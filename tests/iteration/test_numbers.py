"""No number leaves that is none, and plain formulas written a second time give the same counts.

The formulas are those of the papers, not of the package:

    parameters  a GPT layer has 12h² in matrices and 13h in vectors (Narayanan et al. 2021,
                arXiv:2104.04473, eq. 2); a Llama layer h²(2 + 2g/a) + 3hf and 2h
    flops       72·B·s·l·h²·(1 + s/(6h) + V/(12lh)) without recompute (the same, section 5.1), its
                s/6h halved where the mask leaves half of the scores
    memory      2 bytes a parameter in bf16, and 12 of fp32 weights and Adam's moments, which ZeRO-1
                divides by the replicas (Rajbhandari et al. 2020, arXiv:1910.02054, section 3.1)
    traffic     a ring all-reduce sends 2(n-1)/n of the buffer (Patarasu and Yuan 2009)
"""

import json
from math import inf, isfinite

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor import Case, estimate
from predictor.case import gpu_names, resolve
from predictor.errors import PredictorError
from predictor.iteration.built import memory_of_stages
from predictor.iteration.dimensions import model_flops, parameters_of
from predictor.iteration.estimate import operators_of
from predictor.iteration.implementations import descriptions
from predictor.operators import AllGather, AllReduce, Gemm

HEAD = 64
ALMOST = 1 + 1e-9
YEARS = 1e3 * 365 * 86400


def sizes(top: int, least: int = 0) -> st.SearchStrategy[int]:
    """Powers of two and what lies beside them."""
    return st.builds(
        lambda power, more: max(1, 2**power + more),
        st.integers(least, top),
        st.sampled_from([0, 0, 0, 1, -1]),
    )


MODELS = st.fixed_dictionaries(
    {
        "num_layers": st.integers(1, 200),
        "num_attention_heads": st.sampled_from([1, 2, 8, 64, 1024]),
        "ffn_hidden_size": sizes(22),
        "vocab_size": sizes(24),
        "gated_mlp": st.booleans(),
        "tied_embeddings": st.booleans(),
        "normalization": st.sampled_from(["rmsnorm", "layernorm"]),
    },
    optional={
        "moe": st.fixed_dictionaries(
            {
                "num_experts": st.sampled_from([2, 8, 4096]),
                "top_k": st.sampled_from([1, 2]),
                "expert_ffn_hidden_size": sizes(20),
            }
        )
    },
)
CASES = st.fixed_dictionaries(
    {
        "model": MODELS,
        "training": st.fixed_dictionaries(
            {
                "seq_length": sizes(27),
                "global_batch_size": st.sampled_from([64, 4096, 2**20, 2**30]),
                "precision": st.sampled_from(["bf16", "fp16", "fp8"]),
                "recompute": st.sampled_from(["none", "selective", "full"]),
            }
        ),
        "plan": st.fixed_dictionaries(
            {
                "tensor_parallel": st.sampled_from([1, 1, 2, 8]),
                "pipeline_parallel": st.sampled_from([1, 1, 2, 4]),
                "sharding": st.sampled_from(["none", "optimizer", "parameters"]),
            }
        ),
        "cluster": st.fixed_dictionaries(
            {
                "gpu": st.sampled_from(gpu_names()),
                "num_gpus": st.sampled_from([1, 8, 64, 2**12, 2**22]),
            },
            optional={
                "inter_node_bytes_per_second_per_gpu": st.floats(1e-3, 1e15),
                "inter_node_latency_seconds": st.floats(1e-12, 10.0),
            },
        ),
        "implementation": st.sampled_from(sorted(descriptions())),
    }
)


def leaves(value, path=""):
    """Numbers of an answer by their path."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from leaves(each, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for each in value:
            yield from leaves(each, path)
    elif isinstance(value, int | float):
        yield path, value


def check(case):
    told = estimate(case).to_dict()
    assert all(isfinite(value) and value >= 0 for _, value in leaves(told))
    low, high = told["interval_seconds"]
    seconds = told["iteration_seconds"]
    assert 0 < low <= seconds <= high < inf
    assert sum(told["breakdown"].values()) == pytest.approx(seconds)
    assert sum(told["origin"].values()) == pytest.approx(1)
    assert told["mfu"] <= 1
    assert told["memory_bytes_per_gpu"] <= told["memory_reserved_bytes_per_gpu"]
    json.dumps(told)  # nothing of an array library is left
    return told


@pytest.mark.parametrize("recompute", ["none", "full"])
@pytest.mark.parametrize("stack", ["hf-fsdp2", "torchtitan", "megatron-core-te", "nanotron"])
def test_numbers_of_every_kind_of_memory_are_plain(stack, recompute):
    raw = {
        "model": {"hidden_size": 512, "num_layers": 4, "num_attention_heads": 8}
        | {"ffn_hidden_size": 2048, "vocab_size": 32000},
        "training": {"seq_length": 1024, "micro_batch_size": 1, "global_batch_size": 16}
        | {"recompute": recompute},
        "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 8},
        "plan": {"pipeline_parallel": 1},
        "implementation": stack,
    }
    check(Case.from_dict(raw))


@pytest.mark.parametrize(
    ("schedule", "stages", "micro_batches"),
    [("gpipe", 2, 2**14 + 2), ("gpipe", 2048, 130), ("zb-h1", 2, 11_000), ("zb-1p", 32, 400)],
)
def test_a_schedule_too_long_to_play_through_is_refused(schedule, stages, micro_batches):
    raw = {
        "model": {"hidden_size": 64, "num_layers": stages, "num_attention_heads": 1}
        | {"ffn_hidden_size": 256, "vocab_size": 1024},
        "training": {"seq_length": 64, "micro_batch_size": 1, "global_batch_size": micro_batches},
        "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": stages},
        "plan": {"pipeline_parallel": stages, "tensor_parallel": 1, "schedule": schedule},
        "implementation": "megatron-core-te",
    }
    with pytest.raises(PredictorError, match=f"{micro_batches} micro-batches in 1 chunks"):
        estimate(Case.from_dict(raw))


def test_dualpipe_needs_a_pipeline():
    raw = {
        "model": {"hidden_size": 512, "num_layers": 4, "num_attention_heads": 8}
        | {"ffn_hidden_size": 2048, "vocab_size": 32000},
        "training": {"seq_length": 1024, "micro_batch_size": 1, "global_batch_size": 16},
        "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 8},
        "plan": {"pipeline_parallel": 1, "schedule": "dualpipe"},
        "implementation": "megatron-core-te",
    }
    with pytest.raises(PredictorError, match="even pipeline_parallel"):
        estimate(Case.from_dict(raw))


@settings(max_examples=80, deadline=None)
@given(CASES)
def test_every_legal_case_gives_numbers_that_can_be_or_a_reason(raw):
    model = raw["model"] | {"hidden_size": HEAD * raw["model"]["num_attention_heads"]}
    try:
        told = check(Case.from_dict(raw | {"model": model}))
    except PredictorError as reason:
        assert str(reason)  # noqa: PT017 - refused, with its reason
        return
    gpus = raw["cluster"]["num_gpus"]
    assert told["tokens_per_second_per_gpu"] * gpus * told["iteration_seconds"] == pytest.approx(
        raw["training"]["seq_length"] * raw["training"]["global_batch_size"]
    )


@pytest.mark.parametrize("implementation", ["hf-eager", "megatron-core-te", "nanotron"])
def test_ten_to_the_seventeen_parameters_do_not_overflow(implementation):
    raw = {
        "model": {"num_layers": 10_000, "hidden_size": 2**20, "ffn_hidden_size": 2**22}
        | {"num_attention_heads": 2**13, "vocab_size": 2**24, "gated_mlp": True},
        "training": {"seq_length": 2**27, "global_batch_size": 2**30},
        "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 1},
        "implementation": implementation,
    }
    told = check(Case.from_dict(raw))
    assert not told["fits"]
    assert told["memory_bytes_per_gpu"] > 2 * 1.6e17
    assert told["iteration_seconds"] > YEARS


def gpt(layers, hidden, vocab, **more):
    return {
        "num_layers": layers,
        "hidden_size": hidden,
        "ffn_hidden_size": 4 * hidden,
        "num_attention_heads": hidden // HEAD,
        "vocab_size": vocab,
        "gated_mlp": False,
        "normalization": "layernorm",
        "position_embedding": "learned",
        "linear_bias": "all",
        "tied_embeddings": True,
    } | more


def resolved(model, sequence=512, batch=8, gpus=1, **plan):
    raw = {
        "model": model,
        "training": {"seq_length": sequence, "global_batch_size": batch},
        "plan": plan,
        "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": gpus},
        "implementation": "megatron-core-te",
    }
    return resolve(Case.from_dict(raw)).case


GPTS = {
    "layers": st.integers(1, 60),
    "heads": st.integers(1, 200),
    "vocab": st.integers(1, 1000).map(lambda n: 512 * n),
    "sequence": st.integers(1, 100).map(lambda n: 64 * n),
}


@given(**GPTS)
def test_parameters_and_flops_of_a_gpt_are_the_papers(layers, heads, vocab, sequence):
    h, s, v = HEAD * heads, sequence, vocab
    model = resolved(gpt(layers, h, v), sequence=s).model
    layer_norm_behind = 2 * h
    paper = layers * (12 * h**2 + 13 * h) + v * h + s * h + layer_norm_behind
    assert parameters_of(model, seq_length=s).total == paper
    batch = 3
    half = 72 * batch * s * layers * h**2 * (1 + s / (12 * h) + v / (12 * layers * h))
    assert model_flops(model, tokens=batch * s, seq_length=s) == pytest.approx(half, rel=1e-12)


@given(
    layers=st.integers(1, 60),
    groups=st.integers(1, 8),
    queries=st.integers(1, 8),
    ffn=st.integers(1, 500),
)
def test_parameters_of_a_llama_with_groups(layers, groups, queries, ffn):
    heads, f, v = groups * queries, 16 * ffn, 32000
    h = HEAD * heads
    model = resolved(
        gpt(layers, h, v, ffn_hidden_size=f, gated_mlp=True, tied_embeddings=False)
        | {"num_query_groups": groups, "normalization": "rmsnorm", "position_embedding": "rope"}
        | {"linear_bias": "none"}
    ).model
    paper = layers * (2 * h**2 * (1 + groups / heads) + 3 * h * f + 2 * h) + 2 * v * h + h
    assert parameters_of(model).total == pytest.approx(paper, rel=1e-15)


PLANS = {
    "layers": st.sampled_from([4, 8, 12]),
    "hidden": st.sampled_from([512, 1024, 3072]),
    "tensor": st.sampled_from([1, 2, 4]),
    "stages": st.sampled_from([1, 2, 4]),
    "replicas": st.sampled_from([1, 2, 4]),
}
VOCAB, TOKENS_OF_ONE = 32768, 512


@settings(max_examples=30, deadline=None)
@given(**PLANS)
def test_products_of_all_stages_are_six_flops_a_parameter_and_token(
    layers, hidden, tensor, stages, replicas
):
    case = resolved(
        gpt(layers, hidden, VOCAB),
        gpus=tensor * stages * replicas,
        tensor_parallel=tensor,
        pipeline_parallel=stages,
    )
    counted = sum(
        operator.flops * times
        for operator, times in operators_of(case).items()
        if isinstance(operator, Gemm)
    )
    tokens = 8 / replicas * TOKENS_OF_ONE
    parameters = 12 * layers * hidden**2 + VOCAB * hidden
    assert counted * tensor == pytest.approx(6 * parameters * tokens, rel=1e-12)


@settings(max_examples=30, deadline=None)
@given(**PLANS, sharded=st.booleans())
def test_weights_and_states_of_the_first_stage_are_the_papers_bytes(
    layers, hidden, tensor, stages, replicas, sharded
):
    case = resolved(
        gpt(layers, hidden, VOCAB, tied_embeddings=False),
        gpus=tensor * stages * replicas,
        tensor_parallel=tensor,
        pipeline_parallel=stages,
        sharding="optimizer" if sharded else "none",
    )
    parts = memory_of_stages(case)[0].parts
    matrices = 12 * hidden**2 / tensor
    # biases of columns are cut, those of rows and the two norms are whole
    vectors = (3 + 4) * hidden / tensor + (1 + 1 + 4) * hidden
    held = layers / stages * (matrices + vectors)
    held += VOCAB * hidden / tensor + TOKENS_OF_ONE * hidden
    if stages == 1:
        held += VOCAB * hidden / tensor + 2 * hidden
    assert parts["parameters"] == pytest.approx(2 * held, rel=1e-12)
    assert parts["gradients"] == pytest.approx(4 * held, rel=1e-12)
    states = 12 * held / (replicas if sharded else 1)
    assert parts["optimizer states"] == pytest.approx(states, rel=2e-3)


@given(m=sizes(20), n=sizes(20), k=sizes(20))
def test_a_product_is_two_flops_a_cell_and_reads_and_writes_each_matrix_once(m, n, k):
    product = Gemm(m=m, n=n, k=k)
    assert product.flops == pytest.approx(2 * m * n * k, rel=1e-15)
    assert product.bytes == pytest.approx(2 * (m * k + n * k + m * n), rel=1e-15)


@given(power=st.integers(0, 22), size=st.integers(1, 2**40))
def test_a_ring_moves_its_share_of_the_buffer(power, size):
    ranks = 2**power + 1
    common = {"bytes": size, "ranks": ranks, "ranks_per_node": 1}
    assert AllReduce(**common).bus_bytes == pytest.approx(2 * (ranks - 1) / ranks * size)
    assert AllGather(**common).bus_bytes == pytest.approx((ranks - 1) / ranks * size)
