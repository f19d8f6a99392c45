"""The slowest of many GPUs."""

import math

import pytest

from predictor import Case, estimate
from predictor.costs.devices import PUBLISHED_DEVIATION
from predictor.iteration.slowest import WANDERING_SECONDS, latest_host_factor, slowest_factor


def expected_maximum(count: int) -> float:
    """Of standard normal deviates, by the trapezoid rule."""
    step, total = 0.005, 0.0
    for index in range(-1600, 1801):
        x = index * step
        below = 0.5 * math.erfc(-x / math.sqrt(2.0))
        density = math.exp(-x * x / 2.0) / math.sqrt(2.0 * math.pi)
        total += x * count * below ** (count - 1) * density * step
    return total


@pytest.mark.parametrize(
    ("gpus", "within"), [(2, 0.035), (8, 0.01), (64, 0.01), (512, 0.01), (4096, 0.035)]
)
def test_it_is_the_expected_maximum(gpus: int, within: float) -> None:
    assert (slowest_factor(gpus) - 1.0) / PUBLISHED_DEVIATION == pytest.approx(
        expected_maximum(gpus), abs=within
    )


def test_one_gpu_waits_for_nobody_and_more_wait_longer() -> None:
    factors = [slowest_factor(gpus) for gpus in (1, 2, 8, 1024, 100_000)]
    assert factors[0] == 1.0
    assert factors == sorted(factors)
    assert factors[-1] < 1.07


def test_waiting_is_communication_and_no_compute() -> None:
    """Twice the replicas: the same kernels, a longer wait."""

    def step(gpus: int) -> dict[str, float]:
        case = Case.from_dict(
            {
                "model": {"preset": "llama3-8b"},
                "training": {
                    "seq_length": 4096,
                    "micro_batch_size": 1,
                    "global_batch_size": 4 * gpus,
                },
                "plan": {"tensor_parallel": 1, "sharding": "optimizer"},
                "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": gpus, "gpus_per_node": 8},
            }
        )
        return dict(estimate(case).breakdown)

    few, many = step(8), step(4096)
    for family in ("attention", "memory_bound"):
        assert many[family] < 1.01 * few[family]  # idle longer, so cooler
    least = (slowest_factor(4096) - slowest_factor(8)) * few["gemm"]
    assert many["communication"] - few["communication"] > 0.8 * least


def test_the_last_of_two_hosts_is_a_deviate_late() -> None:
    """Of two normal deviates the larger is 1/sqrt(pi) on average; a walk's grows with its root."""
    late = latest_host_factor(2, 4 * WANDERING_SECONDS) - 1.0
    assert late == pytest.approx(0.5 / math.sqrt(math.pi), rel=0.06)
    assert latest_host_factor(2, 16 * WANDERING_SECONDS) - 1.0 == pytest.approx(late / 2)


def test_a_host_that_meets_nobody_or_queues_nothing_is_never_late() -> None:
    assert latest_host_factor(1, 1e-3) == latest_host_factor(8, 0.0) == 1.0
    assert latest_host_factor(64, 1e-3) > latest_host_factor(8, 1e-3) > 1.0
