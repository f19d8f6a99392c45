"""Flops and bytes of operators against arithmetic done by hand."""

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.operators import (
    KERNELS,
    OPERATORS,
    Attention,
    Gemm,
    GroupedGemm,
    Interference,
    Memcpy,
    MemoryBound,
    Optimizer,
    field_names,
)
from predictor.operators.grouped_gemm import token_counts
from predictor.operators.interference import shape_text

SIZES = st.integers(1, 1 << 20)


def test_gemm_counts_a_multiply_add_as_two_flops():
    assert Gemm(m=10, n=20, k=30).flops == 12_000


@pytest.mark.parametrize("kind", ["forward", "dgrad", "wgrad"])
def test_each_gemm_kind_touches_its_three_bf16_operands_once(kind):
    assert Gemm(m=10, n=20, k=30, kind=kind).bytes == 2 * (300 + 600 + 200)


def test_accumulating_wgrad_reads_and_writes_an_fp32_gradient():
    gemm = Gemm(m=10, n=20, k=30, kind="wgrad", accumulate=True)
    assert gemm.bytes == 2 * (300 + 200) + 8 * 600


def test_fp8_gemm_reads_bytes_and_writes_bf16():
    assert Gemm(m=10, n=20, k=30, dtype="fp8").bytes == 300 + 600 + 2 * 200
    assert Gemm(m=10, n=20, k=30, dtype="fp8", kind="dgrad").bytes == 200 + 600 + 2 * 300
    accumulating = Gemm(m=10, n=20, k=30, dtype="fp8", kind="wgrad", accumulate=True)
    assert accumulating.bytes == 300 + 200 + 8 * 600


def test_tf32_gemm_moves_fp32():
    assert Gemm(m=10, n=20, k=30, dtype="tf32").bytes == 4 * (300 + 600 + 200)


def test_gelu_in_the_epilogue_writes_its_argument_too():
    assert Gemm(m=10, n=20, k=30, gelu=True).bytes == 2 * (300 + 600 + 2 * 200)


def test_even_experts_get_equal_counts():
    assert GroupedGemm(tokens=12, experts=4, n=1, k=1).counts == (3, 3, 3, 3)
    assert sorted(GroupedGemm(tokens=14, experts=4, n=1, k=1).counts) == [3, 3, 4, 4]


def test_zipf_counts_by_largest_remainder():
    # Shares 11·(1, 1/2, 1/3)/(11/6) = 6, 3, 2; and of 10 tokens 5.45, 2.73, 1.82: 5 + 2 + 1 = 8
    # leaves two for the remainders .82 and .73.
    assert sorted(GroupedGemm(tokens=11, experts=3, n=1, k=1, skew=1.0).counts) == [2, 3, 6]
    assert sorted(GroupedGemm(tokens=10, experts=3, n=1, k=1, skew=1.0).counts) == [2, 3, 5]


def test_small_numbers_come_in_whole_blocks_where_their_tokens_do():
    # 4096 blocks of 16 rows over six experts, 2048 of 32.
    assert GroupedGemm(tokens=65536, experts=6, n=1, k=1, dtype="fp8").counts == (
        *[683 * 16] * 4,
        *[682 * 16] * 2,
    )
    assert GroupedGemm(tokens=96, experts=2, n=1, k=1, dtype="fp4").counts == (64, 32)
    assert sorted(GroupedGemm(tokens=176, experts=3, n=1, k=1, dtype="fp8", skew=1.0).counts) == [
        2 * 16,
        3 * 16,
        6 * 16,
    ]
    assert GroupedGemm(tokens=7, experts=2, n=1, k=1, dtype="fp8").counts == (4, 3)


def test_grouped_gemm_touches_only_experts_that_have_tokens():
    few = GroupedGemm(tokens=2, experts=4, n=20, k=30)
    assert few.flops == 2 * 2 * 20 * 30
    assert few.bytes == 2 * (2 * 30 + 2 * 20) + 2 * 2 * 600
    wgrad = GroupedGemm(tokens=8, experts=4, n=20, k=30, kind="wgrad", accumulate=True)
    assert wgrad.bytes == 2 * (8 * 30 + 8 * 20) + 8 * 4 * 600


@given(st.integers(0, 1 << 20), st.integers(1, 300), st.floats(0, 4))
def test_counts_hand_out_every_token_and_depend_on_the_fields_alone(tokens, experts, skew):
    grouped = GroupedGemm(tokens=tokens, experts=experts, n=8, k=8, skew=skew)
    assert sum(grouped.counts) == tokens
    assert len(grouped.counts) == experts
    assert min(grouped.counts) >= 0
    token_counts.cache_clear()
    assert grouped.counts == GroupedGemm(tokens=tokens, experts=experts, n=8, k=8, skew=skew).counts


@pytest.mark.parametrize(("tokens", "experts", "skew"), [(-1, 1, 0.0), (1, 0, 0.0), (1, 1, -0.1)])
def test_impossible_counts_name_the_rule(tokens, experts, skew):
    with pytest.raises(ValueError, match="needs tokens >= 0"):
        token_counts(tokens, experts, skew)


@given(st.sampled_from(["forward", "dgrad", "wgrad"]), st.sampled_from(["bf16", "fp8", "tf32"]))
def test_one_expert_is_a_gemm(kind, dtype):
    one = GroupedGemm(tokens=48, experts=1, n=20, k=30, kind=kind, dtype=dtype)
    gemm = Gemm(m=48, n=20, k=30, kind=kind, dtype=dtype)
    assert (one.flops, one.bytes) == (gemm.flops, gemm.bytes)


@given(SIZES, SIZES, SIZES)
def test_all_kinds_of_a_gemm_cost_the_same_flops(m, n, k):
    kinds = ("forward", "dgrad", "wgrad")
    assert len({Gemm(m=m, n=n, k=k, kind=kind).flops for kind in kinds}) == 1


def test_full_attention_forward_costs_4_s2_d_flops_a_head():
    attention = Attention(
        batch=2, num_heads=3, num_query_groups=3, seq_length=100, head_dim=64, causal=False
    )
    assert attention.flops == 4 * 100**2 * 64 * 2 * 3


def test_causal_attention_costs_half_and_backward_two_and_a_half_times():
    causal = Attention(batch=1, num_heads=1, num_query_groups=1, seq_length=128, head_dim=64)
    full = Attention(
        batch=1, num_heads=1, num_query_groups=1, seq_length=128, head_dim=64, causal=False
    )
    backward = Attention(
        batch=1, num_heads=1, num_query_groups=1, seq_length=128, head_dim=64, kind="backward"
    )
    assert causal.flops == full.flops / 2
    assert backward.flops == 2.5 * causal.flops


def test_latent_attention_heads_may_differ_in_width():
    attention = Attention(
        batch=1,
        num_heads=1,
        num_query_groups=1,
        seq_length=10,
        head_dim=192,
        value_head_dim=128,
        causal=False,
    )
    assert attention.flops == 2 * 100 * (192 + 128)


def test_sliding_window_sees_window_tokens_of_each_row_but_the_first():
    attention = Attention(
        batch=1, num_heads=1, num_query_groups=1, seq_length=10, head_dim=8, window=4
    )
    assert attention.scores == 1 + 2 + 3 + 4 * 7


def attend(**fields):
    """A small attention call, full unless told otherwise."""
    sizes = {"batch": 1, "num_heads": 1, "num_query_groups": 1, "seq_length": 10, "head_dim": 8}
    return Attention(**sizes | {"causal": False} | fields)


def test_the_last_queries_of_a_sequence_see_all_before_them():
    assert attend(query_length=1, causal=True).scores == 10
    assert attend(query_length=3, causal=True).scores == 8 + 9 + 10
    assert attend(query_length=3, causal=True, window=9).scores == 8 + 9 + 9
    assert attend(query_length=3, causal=True, window=4).scores == 3 * 4


def test_a_ring_step_reads_fewer_queries_than_keys():
    step = attend(query_length=5)
    assert step.scores == 5 * 10
    assert step.bytes == 2 * (5 * 8 + 2 * 10 * 8 + 5 * 8) + 4 * 5


def test_documents_do_not_see_each_other_and_grow_one_by_one():
    packed = attend(seq_length=60, documents=3)
    assert packed.document_lengths == (10, 20, 30)
    assert packed.scores == 10**2 + 20**2 + 30**2
    assert attend(seq_length=60, documents=3, causal=True).scores == packed.scores / 2


@given(st.integers(1, 5000), st.integers(1, 64))
def test_documents_fill_their_sequence(seq_length, documents):
    if documents > seq_length:
        with pytest.raises(ValueError, match="documents"):
            attend(seq_length=seq_length, documents=documents)
        return
    lengths = attend(seq_length=seq_length, documents=documents).document_lengths
    assert sum(lengths) == seq_length
    assert len(lengths) == documents


def test_equal_attention_calls_are_equal():
    assert attend(value_head_dim=8, query_length=10, window=10) == attend()


@pytest.mark.parametrize(
    "fields", [{"query_length": 11}, {"documents": 0}, {"query_length": 5, "documents": 2}]
)
def test_lengths_that_contradict_each_other_are_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        attend(**fields)


def test_a_copy_moves_its_bytes_and_touches_both_ends_within_a_device():
    assert Memcpy(direction="h2d", bytes=1000).working_set_bytes == 1000
    assert Memcpy(direction="d2d", bytes=1000).working_set_bytes == 2000


def test_adamw_moves_seven_numbers_a_parameter():
    assert Optimizer(elements=1000, dtype="bf16").bytes == 14_000
    assert Optimizer(elements=1000, dtype="fp32").bytes == 28_000
    assert Optimizer(kernel="adamw_master", elements=1000, dtype="fp32").bytes == 30_000
    assert Optimizer(kernel="adamw_master", elements=1000, dtype="bf16").bytes == 20_000


@pytest.mark.parametrize("impl", sorted(KERNELS))
def test_each_kernel_moves_at_least_one_byte_an_element(impl):
    for name in KERNELS[impl]:
        assert MemoryBound(kernel=name, rows=3, cols=5, impl=impl).bytes >= 15


def test_table_columns_lead_with_the_fields_of_the_operator():
    assert field_names("gemm")[:5] == ("m", "n", "k", "dtype", "kind")
    for name, operator in OPERATORS.items():
        told = tuple(f.name for f in fields(operator) if f.name != "slower")  # of a case alone
        assert field_names(name) == told


def collective(name: str, **fields: Any) -> Any:
    return OPERATORS[name](**({"bytes": 1 << 20, "ranks": 4, "ranks_per_node": 4} | fields))


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("all_reduce", 2 * 3 / 4),
        ("all_gather", 3 / 4),
        ("reduce_scatter", 3 / 4),
        ("all_to_all", 3 / 4),
        ("broadcast", 1.0),
        ("send_recv", 1.0),
    ],
)
def test_bus_bytes_follow_nccl_tests(name: str, factor: float) -> None:
    assert collective(name).bus_bytes == factor * (1 << 20)


def test_bytes_ranks_and_place_are_enough_to_name_a_collective() -> None:
    for name in ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send_recv"):
        question = {"bytes": 1024, "ranks": 2, "ranks_per_node": 2, "dtype": "bf16"}
        assert OPERATORS[name](**question).bytes == 1024


def test_buffers_in_place_are_held_once() -> None:
    assert collective("all_reduce").working_set_bytes == 1 << 20
    assert collective("all_reduce", in_place=False).working_set_bytes == 2 << 20
    assert collective("all_gather").working_set_bytes == 1.25 * (1 << 20)
    assert collective("reduce_scatter", in_place=True).working_set_bytes == 1 << 20


def test_uneven_parts_fall_from_three_to_one_and_use_the_whole_buffer() -> None:
    parts = [
        collective("all_to_all", pattern="uneven", bytes=48).part_elements(d) for d in range(4)
    ]
    assert sum(parts) == 24
    assert parts == [9, 7, 5, 3]  # of 24 elements by weights 9 : 7 : 5 : 3


def test_the_busiest_link_of_an_uneven_all_to_all_is_that_of_the_fullest_rank() -> None:
    assert collective("all_to_all", pattern="uneven", bytes=48).bus_bytes == 2 * 3 * 9


@given(
    ranks=st.integers(1, 64),
    elements=st.integers(0, 1 << 24),
    pattern=st.sampled_from(["even", "uneven"]),
)
def test_parts_of_an_all_to_all_sum_to_its_buffer(ranks: int, elements: int, pattern: str) -> None:
    operator = collective("all_to_all", bytes=2 * elements, ranks=ranks, pattern=pattern)
    parts = [operator.part_elements(d) for d in range(ranks)]
    assert sum(parts) == elements
    assert min(parts) >= 0


def test_nodes_and_gpus_of_groups() -> None:
    spread = collective("all_reduce", ranks=16, ranks_per_node=8, groups=2)
    assert (spread.nodes, spread.gpus) == (2, 32)


@pytest.mark.parametrize(
    "operator",
    [
        Gemm(m=1, n=2, k=3, kind="wgrad", accumulate=True),
        MemoryBound(kernel="copy", rows=4, cols=5),
        Attention(batch=1, num_heads=2, num_query_groups=1, seq_length=8, head_dim=64),
    ],
)
def test_the_shape_of_an_interfering_operator_is_read_back(operator: Any) -> None:
    pair = Interference(
        compute=operator.name,
        shape=shape_text(operator),
        collective="all_reduce",
        bytes=1024,
        ranks=2,
        ranks_per_node=2,
    )
    assert pair.compute_operator == operator
    assert pair.flops == operator.flops
    assert replace(pair, side="collective").flops == 0


@pytest.mark.parametrize("shape", ["m=1", "rows=1 cols=2", "m=x n=1 k=1"])
def test_a_shape_of_another_operator_is_refused(shape: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the words differ by case
        pair(shape)


def pair(shape: str) -> Any:
    return Interference(
        compute="gemm", shape=shape, collective="all_reduce", bytes=8, ranks=2, ranks_per_node=2
    ).compute_operator
