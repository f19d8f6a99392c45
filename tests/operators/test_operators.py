"""Flops and bytes of operators against arithmetic done by hand."""

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.operators import (
    KERNELS,
    OPERATORS,
    Attention,
    Gemm,
    MemoryBound,
    Optimizer,
    field_names,
)

SIZES = st.integers(1, 1 << 20)


def test_gemm_counts_a_multiply_add_as_two_flops():
    assert Gemm(m=10, n=20, k=30).flops == 12_000


@pytest.mark.parametrize("kind", ["forward", "dgrad", "wgrad"])
def test_each_gemm_kind_touches_its_three_bf16_operands_once(kind):
    assert Gemm(m=10, n=20, k=30, kind=kind).bytes == 2 * (300 + 600 + 200)


def test_accumulating_wgrad_reads_and_writes_an_fp32_gradient():
    gemm = Gemm(m=10, n=20, k=30, kind="wgrad", accumulate=True)
    assert gemm.bytes == 2 * (300 + 200) + 8 * 600


@pytest.mark.parametrize(
    ("kind", "shape"),
    [("forward", (10, 20, 30)), ("dgrad", (10, 30, 20)), ("wgrad", (20, 30, 10))],
)
def test_output_shape_is_what_the_tensor_cores_see(kind, shape):
    assert Gemm(m=10, n=20, k=30, kind=kind).output_shape() == shape


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


def test_adamw_moves_seven_numbers_a_parameter():
    assert Optimizer(elements=1000, dtype="bf16").bytes == 14_000
    assert Optimizer(elements=1000, dtype="fp32").bytes == 28_000
    assert Optimizer(kernel="adamw_master", elements=1000, dtype="fp32").bytes == 30_000


@pytest.mark.parametrize("impl", sorted(KERNELS))
def test_each_kernel_moves_at_least_one_byte_an_element(impl):
    for name in KERNELS[impl]:
        assert MemoryBound(kernel=name, rows=3, cols=5, impl=impl).bytes >= 15


def test_table_columns_lead_with_the_fields_of_the_operator():
    assert field_names("gemm")[:5] == ("m", "n", "k", "dtype", "kind")
    for name, operator in OPERATORS.items():
        assert field_names(name) == tuple(f.name for f in fields(operator))
