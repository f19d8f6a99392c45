"""Uneven clusters: links from cases and files, and what groups feel of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor import Case, estimate
from predictor.case import resolve
from predictor.errors import CaseError
from predictor.iteration.places import Places, members

if TYPE_CHECKING:
    from pathlib import Path

NETWORK = 50e9
"""Rate of a GPU between the nodes of these cases."""


def case(plan: dict[str, int], links: Any = None, *, gpus: int = 32, per_node: int = 8) -> Case:
    cluster: dict[str, Any] = {
        "gpu": "h100-sxm5-80gb",
        "num_gpus": gpus,
        "gpus_per_node": per_node,
        "inter_node_bytes_per_second_per_gpu": NETWORK,
        "inter_node_latency_seconds": 5e-6,
    }
    if links is not None:
        cluster["links"] = links
    return Case.from_dict(
        {
            "model": {"preset": "llama3-8b"},
            "training": {"seq_length": 4096, "global_batch_size": 64},
            "plan": plan,
            "cluster": cluster,
        }
    )


def places(*arguments: Any, **options: Any) -> Places:
    return Places.of(resolve(case(*arguments, **options)).case)


def test_members_of_groups_are_strided_as_megatron_lays_ranks_out() -> None:
    assert members(8, 2, 1).tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert members(8, 2, 2).tolist() == [[0, 2], [1, 3], [4, 6], [5, 7]]
    assert members(8, 4, 2).tolist() == [[0, 2, 4, 6], [1, 3, 5, 7]]


def test_a_ring_feels_the_slowest_link_between_neighbours() -> None:
    # Four nodes in a ring 0-1-2-3-0; the link 1-2 at a fifth of the rate, 0-2 (a chord) unused.
    plan = {"tensor_parallel": 8}
    slow = places(plan, {"overrides": [[1, 2, 10e9], [0, 2, 1e9]]}).group(4, 8)
    assert slow.neighbours == (1.0, 5.0)
    assert slow.peers == (1.0, 1.0)
    assert places(plan, {"overrides": [[2, 1, 10e9]]}).group(4, 8).neighbours == (1.0, 5.0)
    assert places(plan, {"overrides": [[0, 2, 1e9]]}).group(4, 8).neighbours == (1.0, 1.0)
    inside = places(plan, {"overrides": [[1, 2, 10e9]]}).group(8, 1)
    assert inside.neighbours == (1.0, 1.0)


def test_an_exchange_takes_the_mean_of_a_rank_s_links() -> None:
    found = places({"tensor_parallel": 8}, {"overrides": [[1, 2, 10e9]]})
    group = found.group(4, 8, exchanges=True)
    assert group.peers == (1.0, pytest.approx((5 + 1 + 1) / 3))


def test_a_message_takes_its_own_link_in_its_own_direction() -> None:
    plan = {"tensor_parallel": 8, "pipeline_parallel": 4}
    down, up = places(plan, {"overrides": [[1, 2, 10e9]]}).messages(4)
    assert down == [(False, (1.0, 1.0)), (False, (1.0, 5.0)), *[(False, (1.0, 1.0))] * 2]
    assert up == [(False, (1.0, 1.0))] * 4


def test_links_between_gpus_of_a_node_are_nvlink() -> None:
    plan = {"tensor_parallel": 2}
    found = places(plan, {"between": "gpus", "overrides": [[2, 3, 45e9]]}, gpus=8)
    assert found.group(2, 1).neighbours == (10.0, 1.0)
    assert found.group(2, 2).neighbours == (1.0, 1.0)


def test_a_faster_link_than_the_rate_changes_nothing() -> None:
    even = estimate(case({"tensor_parallel": 8}))
    fast = estimate(case({"tensor_parallel": 8}, {"overrides": [[0, 1, 4e11]]}))
    assert fast.iteration_seconds == even.iteration_seconds


@pytest.mark.parametrize(
    ("plan", "pair"),
    [
        ({"tensor_parallel": 8}, [0, 1]),
        ({"tensor_parallel": 8, "pipeline_parallel": 4}, [1, 2]),
        ({"tensor_parallel": 8, "context_parallel": 4}, [1, 2]),
    ],
)
def test_slower_links_make_slower_iterations(plan: dict[str, int], pair: list[int]) -> None:
    seconds = [
        estimate(case(plan, {"overrides": [[*pair, rate], [*pair[::-1], rate]]})).iteration_seconds
        for rate in (NETWORK, 5e9, 1e9, 1e8)
    ]
    assert seconds[0] == estimate(case(plan)).iteration_seconds
    assert sorted(seconds) == seconds
    assert seconds[-1] > 1.5 * seconds[0]


def test_a_whole_matrix_at_half_the_rate_is_a_cluster_of_half_the_rate() -> None:
    plan = {"tensor_parallel": 8}
    halves = [[0.0 if i == j else NETWORK / 20 for j in range(4)] for i in range(4)]
    mapping = case(plan).to_dict()
    mapping["cluster"]["inter_node_bytes_per_second_per_gpu"] = NETWORK / 20
    slow = estimate(Case.from_dict(mapping))
    told = estimate(case(plan, {"bytes_per_second": halves}))
    # The levels of a fabric know that a byte takes a little longer than its rate says; a stated
    # rate of a link is taken as it is.
    assert told.iteration_seconds == pytest.approx(slow.iteration_seconds, rel=0.1)


def test_a_placement_puts_ranks_around_a_slow_node() -> None:
    plan = {"tensor_parallel": 8}
    links = {
        "overrides": [[a, b, 1e9] for a in range(5) for b in range(5) if a != b and 1 in (a, b)]
    }
    there = estimate(case(plan, links))
    around = estimate(case(plan, {**links, "placement": [0, 4, 2, 3]}))
    assert around.iteration_seconds == estimate(case(plan)).iteration_seconds
    assert there.iteration_seconds > 1.1 * around.iteration_seconds


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_relabelled_cluster_is_the_same_cluster(data: st.DataObject) -> None:
    rates = st.floats(1e9, 5e10)
    matrix = np.array(data.draw(st.lists(rates, min_size=16, max_size=16))).reshape(4, 4)
    order = np.array(data.draw(st.permutations(range(4))))
    moved = np.empty_like(matrix)
    moved[np.ix_(order, order)] = matrix
    plain = places({"tensor_parallel": 8}, {"bytes_per_second": matrix.tolist()})
    same = places(
        {"tensor_parallel": 8},
        {"bytes_per_second": moved.tolist(), "placement": order.tolist()},
    )
    assert same.group(4, 8, exchanges=True) == plain.group(4, 8, exchanges=True)
    assert same.messages(4) == plain.messages(4)


def test_a_file_of_pairs_is_stated_or_measured(tmp_path: Path) -> None:
    (tmp_path / "stated.csv").write_text("from,to,bytes_per_second\n1,2,10e9\n", encoding="utf-8")
    lines = ["from,to,bytes,seconds", "1,2,1000,1e-5", "1,2,1e8,0.01", "2,1,1e8,0.02"]
    (tmp_path / "measured.csv").write_text("\n".join(lines), encoding="utf-8")
    plan = {"tensor_parallel": 8}
    stated = case(plan, str(tmp_path / "stated.csv")).cluster.links
    assert stated is not None
    assert stated.overrides == ((1, 2, 10e9), (2, 1, 10e9))
    measured = case(plan, {"file": str(tmp_path / "measured.csv"), "placement": [0, 1, 2, 3]})
    assert measured.cluster.links is not None
    assert measured.cluster.links.overrides == ((1, 2, 1e10), (2, 1, 5e9))
    assert Case.from_dict(measured.to_dict()) == measured


BAD = [
    ({"between": "racks"}, "must be one of nodes, gpus"),
    ({"bytes_per_second": [[0, 1], [1]]}, r"bytes_per_second\[1\] = 1 rates"),
    ({"bytes_per_second": [[0, 0], [1, 0]]}, r"\[0\]\[1\] = 0.0: must be at least"),
    ({"bytes_per_second": [[0, 1], [1, 0]]}, "needs 4 nodes, cluster.links describes 2"),
    ({"overrides": [[0, 0, 1]]}, "of two and at least"),
    ({"overrides": [[0, 1, 0]]}, "of two and at least"),
    ({"overrides": [[0, 1]]}, r"must be \[from, to, bytes_per_second\]"),
    ({"overrides": [[0, 0.5, 1]]}, "whole numbers"),
    ({"overrides": [[0, 5000, 1]]}, "0 to 2047"),
    ({"placement": [0, 1, 2]}, "4 different numbers"),
    ({"placement": [0, 1, 2, 2]}, "4 different numbers"),
    ({"place": [0]}, "did you mean 'placement'"),
    ("none.csv", "cannot be read"),
    ("none.txt", "read from a .csv"),
    (7, "must be a table"),
]


@pytest.mark.parametrize(("links", "words"), BAD)
def test_bad_links_are_named(links: Any, words: str) -> None:
    with pytest.raises(CaseError, match=words):
        case({"tensor_parallel": 8}, links)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("from,to\n0,1\n", "columns must be"),
        ("from,to,rate\n0,1,1\n", "unknown column 'rate'"),
        ("from,to,bytes_per_second\n0,0,1\n", ":2: from and to"),
        ("from,to,bytes_per_second\n0,1,x\n", ":2: bytes_per_second = 'x'"),
        ("from,to,bytes_per_second\n0,1\n", ":2: bytes_per_second = None"),
        ("from,to,bytes,seconds\n0,1,1,0\n", ":2: the rate must be"),
        ("from,to,bytes_per_second\n", "holds no links"),
        ("", "columns must be"),
    ],
)
def test_a_damaged_file_of_links_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "links.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CaseError, match=words):
        case({"tensor_parallel": 8}, str(path))


def test_a_placement_may_not_tear_a_node_apart() -> None:
    order = [8, *range(1, 8), 0, *range(9, 32)]
    links = {"between": "gpus", "placement": order}
    with pytest.raises(CaseError, match="rank 1 must share a scale-up domain"):
        estimate(case({"tensor_parallel": 8}, links))
