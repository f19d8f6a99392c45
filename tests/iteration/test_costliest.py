"""The share of its peak that an operator reaches."""

from __future__ import annotations

import pytest

from predictor import estimate
from predictor.case import Case, bench_results_folder

MEASURED = (bench_results_folder() / "h100-sxm5-80gb" / "fit.json").is_file()
pytestmark = pytest.mark.skipif(not MEASURED, reason="no fitted tables of the H100")

NETWORK = 50e9
NVLINK = 450e9


def tops(model: str, gpus: int, implementation: str, **plan: object):
    case = {
        "model": {"preset": model},
        "training": {"global_batch_size": 256, "seq_length": 4096},
        "plan": plan,
        "cluster": {
            "gpu": "h100-sxm5-80gb",
            "num_gpus": gpus,
            "inter_node_bytes_per_second_per_gpu": NETWORK,
        },
        "implementation": implementation,
    }
    return estimate(Case.from_dict(case)).top_operators


@pytest.mark.parametrize(
    ("model", "gpus", "plan"),
    [
        ("llama3-8b", 64, {"sharding": "parameters"}),
        ("llama3-70b", 128, {"tensor_parallel": 8, "pipeline_parallel": 4}),
        ("mixtral-8x7b", 64, {"tensor_parallel": 2, "expert_parallel": 8}),
    ],
)
def test_no_operator_exceeds_its_peak(model: str, gpus: int, plan: dict[str, object]) -> None:
    found = tops(model, gpus, "megatron-core-te", **plan)
    assert {each.bound_by for each in found} & {"network", "scale-up links"}
    assert all(0 < each.share_of_peak <= 1 for each in found)


def test_a_ring_leaves_a_node_through_the_links_of_all_its_ranks() -> None:
    found = tops("llama3-8b", 64, "torchtitan", data_parallel=64, sharding="parameters")
    gather = next(each for each in found if each.family == "all_gather")
    sent = gather.operator.bytes * 63 / 64
    least = sent / 8 / NETWORK
    assert least > sent / NVLINK
    assert gather.bound_by == "network"
    assert gather.share_of_peak == pytest.approx(gather.launches * least / gather.seconds)


def test_messages_to_other_nodes_leave_through_the_link_of_their_sender() -> None:
    found = tops("mixtral-8x7b", 64, "megatron-core-te", tensor_parallel=4, expert_parallel=8)
    pairs = next(each for each in found if each.family == "all_to_all")
    inside = pairs.operator.ranks_per_node
    assert inside < 8
    least = pairs.operator.bytes * (8 - inside) / 8 / NETWORK
    assert pairs.bound_by == "network"
    assert pairs.share_of_peak == pytest.approx(pairs.launches * least / pairs.seconds)
