"""Regressors of attention against arithmetic by hand on a chip of ten SMs."""

from dataclasses import replace

import pytest
from toy import TOY

from predictor.costs.attention import attention_design
from predictor.operators import Attention

QUIET = replace(TOY, bytes_per_second=1e15)
"""Memory never binds. The chip makes 1e12 flops a second, 1e11 an SM."""


def columns(**fields):
    """Regressors of one call in seconds."""
    shape = {"batch": 1, "num_heads": 8, "num_query_groups": 8, "head_dim": 128, "causal": False}
    design = attention_design([Attention(**(shape | fields))], QUIET)
    return {name: float(values[0] * design.bound[0]) for name, values in design.columns.items()}


def test_full_squares_cost_their_products_and_sixteen_exponentials_a_clock():
    found = columns(seq_length=1024)
    assert found["products"] == pytest.approx(8 * 1024**2 * 2 * 256 / 1e12)
    assert found["exponentials"] == pytest.approx(8 * 1024**2 / (16 * 10 * 2.5e7))
    assert found["tail"] == found["over"] == found["products_backward"] == 0.0


def test_a_causal_mask_halves_the_blocks_and_wastes_half_of_those_on_the_diagonal():
    found = columns(seq_length=1024, causal=True)
    scores = 1024**2 / 2 + 8 * 128 * 64
    assert found["products"] == pytest.approx(8 * scores * 512 / 1e12)


def test_a_last_wave_of_four_blocks_leaves_six_sms_idle():
    found = columns(seq_length=1024)  # 64 blocks on ten SMs: seven waves for 6.4
    assert found["idle"] == pytest.approx(found["products"] * (7 / 6.4 - 1))


def test_fewer_blocks_than_sms_take_the_time_of_the_longest():
    found = columns(seq_length=512, num_heads=1, num_query_groups=1)  # four blocks
    assert found["products"] + found["over"] == pytest.approx(128 * 512 * 512 / 1e11)
    assert found["idle"] == 0.0


def test_heads_of_ninety_six_are_padded_to_two_lanes():
    assert columns(seq_length=1024, head_dim=96)["products"] == columns(seq_length=1024)["products"]


def test_backward_multiplies_five_times_where_forward_does_twice():
    forward, backward = columns(seq_length=1024), columns(seq_length=1024, kind="backward")
    assert backward["products_backward"] == pytest.approx(2.5 * forward["products"])
    assert backward["products"] == 0.0


def test_packed_documents_begin_new_blocks():
    whole, packed = columns(seq_length=4096), columns(seq_length=4096, documents=40)
    assert packed["block"] > whole["block"]
    assert packed["packed"] == packed["products"] > 0.0


def test_scores_computed_in_vain_are_those_of_half_blocks_on_the_diagonal():
    found = columns(seq_length=1024, causal=True)
    vain = 8 * 8 * 128 * 64  # heads, blocks, half of 128 x 128 scores each
    assert found["edges"] == pytest.approx(vain / (16 * 10 * 2.5e7))
    assert columns(seq_length=1024)["edges"] == 0.0


def test_a_call_of_fifteen_milliseconds_is_half_way_to_the_settled_clock():
    # 15 ms of products: 8 heads * s**2 * 512 flops over 1e12 a second
    found = columns(seq_length=1914)
    assert found["products"] == pytest.approx(0.015, rel=1e-3)
    assert found["heat"] == pytest.approx(0.5 * found["products"], rel=1e-2)


def test_a_window_of_all_keys_but_one_computes_as_many_blocks_as_none():
    scores = {w: columns(seq_length=2048, causal=True, window=w)["products"] for w in (0, 2047)}
    assert scores[2047] == scores[0]


def test_blocks_are_launched_for_each_document_as_for_the_longest():
    # lengths 204, 410, 614 and 820 of 2,048 tokens: 2 + 4 + 5 + 7 blocks of 4 x 7, on ten SMs
    found = columns(seq_length=2048, documents=4)
    assert found["documents"] == pytest.approx(8 * (28 - 18) / 10 * 1e-6)
    assert columns(seq_length=2048)["documents"] == 0.0


def test_documents_are_computed_in_whole_blocks_of_their_own():
    found = columns(seq_length=2048, documents=4, causal=True)
    blocks = sum(n * (n + 1) / 2 for n in (2, 4, 5, 7))
    assert found["products"] == pytest.approx(8 * blocks * 128**2 * 512 / 1e12)
    full = columns(seq_length=2048, documents=4)
    assert full["products"] == pytest.approx(8 * (4 + 16 + 25 + 49) * 128**2 * 512 / 1e12)
    sliding = columns(seq_length=2048, documents=4, causal=True, window=256)
    # each block of queries meets at most three of keys
    assert sliding["products"] == pytest.approx(8 * (3 + 9 + 12 + 18) * 128**2 * 512 / 1e12)


def test_what_products_exponentials_blocks_and_side_kernels_hide_is_no_time_of_memory():
    shape = {"batch": 1, "num_heads": 8, "num_query_groups": 8, "head_dim": 128, "causal": False}
    for kind in ("forward", "backward"):
        call = Attention(**shape, seq_length=256, kind=kind)
        design = attention_design([call], replace(TOY, bytes_per_second=1e9))
        found = {name: float(v[0] * design.bound[0]) for name, v in design.columns.items()}
        suffix = "_backward" * (kind == "backward")
        hidden = sum(found[f"{name}{suffix}"] for name in ("products", "exponentials", "block"))
        assert found["memory"] == pytest.approx(call.bytes / 1e9 - hidden - found["helpers"])
