"""The fullest rank's load: exact values, laws, and the words a case may use."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.case import Case, Moe
from predictor.errors import CaseError
from predictor.iteration.moe.imbalance import load_of


def moe(experts=8, top_k=1, **fields):
    return Moe(num_experts=experts, top_k=top_k, expert_ffn_hidden_size=64, **fields)


@pytest.mark.parametrize("ranks", [1, 2, 8])
def test_balanced_experts_load_every_rank_alike(ranks):
    load = load_of(moe(imbalance="balanced"), ranks=ranks, copies=4096)
    assert (load.fullest, load.kept, load.skew) == (1.0, 1.0, 0.0)


def test_a_histogram_lies_on_the_ranks_in_order():
    counts = (10.0, 30.0, 20.0, 20.0, 5.0, 5.0, 5.0, 5.0)
    load = load_of(moe(expert_tokens=counts), ranks=4, copies=100)
    assert load.fullest == pytest.approx(40 / 25)


def test_one_expert_a_rank_of_a_flat_dirichlet_is_a_harmonic_number():
    # E[max of n uniform spacings] = (1 + 1/2 + … + 1/n)/n (Holst 1980)
    load = load_of(moe(8, imbalance="dirichlet:1"), ranks=8, copies=10**6)
    assert load.fullest == pytest.approx(sum(1 / i for i in range(1, 9)), rel=0.03)


def test_one_expert_a_rank_of_zipf_is_its_first_share():
    load = load_of(moe(16, imbalance="zipf:1"), ranks=16, copies=10**6)
    assert load.fullest == pytest.approx(16 / sum(1 / i for i in range(1, 17)), rel=1e-9)


def test_two_ranks_of_random_routing_follow_the_half_normal():
    # Two halves of n copies differ as a normal of variance n: E|X - n/2| = sqrt(n/(2 pi))
    tokens = 1024
    load = load_of(moe(2, imbalance="random"), ranks=2, copies=tokens)
    expected = 1 + 2 / tokens * math.sqrt(tokens / (2 * math.pi))
    assert load.fullest - 1 == pytest.approx(expected - 1, rel=0.12)


def test_no_expert_gets_two_copies_of_a_token():
    load = load_of(moe(8, top_k=4, imbalance="zipf:12"), ranks=8, copies=4096)
    assert load.fullest == pytest.approx(8 / 4)


def test_a_measured_ratio_is_taken_as_it_is_and_never_exceeds_the_ranks():
    assert load_of(moe(imbalance=1.7), ranks=8, copies=1).fullest == 1.7
    assert load_of(moe(imbalance=1.7), ranks=1, copies=1).fullest == 1.0


def test_capacity_cuts_the_fullest_expert_and_padding_fills_the_others():
    counts = (4.0, 2.0, 1.0, 1.0)
    cut = load_of(moe(4, expert_tokens=counts, capacity_factor=1.0), ranks=4, copies=8)
    assert (cut.fullest, cut.kept) == (2.0, 1.0)
    padded = load_of(moe(4, capacity_factor=1.25, pad_to_capacity=True), ranks=2, copies=8)
    assert padded.kept == 1.25


SPREADS = st.one_of(
    st.floats(0.05, 3).map(lambda s: f"zipf:{s}"),
    st.floats(0.1, 50).map(lambda a: f"dirichlet:{a}"),
    st.just("random"),
)


@settings(max_examples=25, deadline=None)
@given(SPREADS, st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2]))
def test_the_fullest_rank_holds_between_the_mean_and_everything(spread, ranks, top_k):
    load = load_of(moe(8, top_k, imbalance=spread), ranks=ranks, copies=4096)
    assert 1 - 1e-9 <= load.fullest <= ranks + 1e-9
    finer = load_of(moe(8, top_k, imbalance=spread), ranks=8, copies=4096)
    assert finer.fullest >= load.fullest - 1e-9


def test_more_skew_is_more_load():
    loads = [
        load_of(moe(64, imbalance=f"zipf:{s}"), ranks=8, copies=4096).fullest
        for s in (0.2, 0.6, 1.0)
    ]
    assert loads == sorted(loads)
    assert load_of(moe(64, imbalance="zipf:1"), ranks=1, copies=64).skew == pytest.approx(1.0)


def case_with(moe_fields, folder):
    file = folder / "case.toml"
    lines = "\n".join(f"{key} = {value}" for key, value in moe_fields.items())
    file.write_text(
        f'[model]\npreset = "mixtral-8x7b"\n[model.moe]\n{lines}\n'
        '[cluster]\ngpu = "h100-sxm5-80gb"\nnum_gpus = 8\n'
    )
    return Case.from_file(file)


def test_a_histogram_file_beside_the_case_is_read(tmp_path):
    (tmp_path / "counts.csv").write_text("1,2,3,4\n5,6,7,8\n")
    case = case_with({"imbalance": '"histogram:counts.csv"'}, tmp_path)
    assert case.model.moe.expert_tokens == (1, 2, 3, 4, 5, 6, 7, 8)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"imbalance": '"zip:1"'}, "did you mean 'zipf'"),
        ({"imbalance": '"zipf"'}, "zipf: and a number"),
        ({"imbalance": '"dirichlet:-1"'}, "greater than 0"),
        ({"imbalance": "0.5"}, "at least 1"),
        ({"imbalance": '"histogram:none.csv"'}, "cannot be read"),
        ({"expert_tokens": "[1, 2]"}, "a count for each of num_experts"),
        ({"pad_to_capacity": "true"}, "needs capacity_factor"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_words(fields, words, tmp_path):
    with pytest.raises(CaseError, match=words):
        case_with(fields, tmp_path)
