"""Laws of an estimate on the committed tables."""

from dataclasses import replace
from importlib import import_module

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.case import Case
from predictor.errors import NotPredictable
from predictor.iteration import estimate


def case(model="llama3.2-1b", gpus=1, implementation="hf-eager", plan=None, **training):
    defaults = {"seq_length": 2048, "micro_batch_size": 1, "global_batch_size": gpus}
    return Case.from_dict(
        {
            "model": {"preset": model},
            "training": defaults | training,
            "plan": plan or {},
            "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": gpus},
            "implementation": implementation,
        }
    )


SHAPES = st.tuples(
    st.sampled_from(["llama3.2-1b", "gpt2", "qwen3-0.6b"]),
    st.sampled_from(["hf-eager", "hf-compile"]),
    st.sampled_from([512, 1024]),
    st.integers(1, 4),
)


@settings(max_examples=20, deadline=None)
@given(SHAPES)
def test_breakdown_sums_to_the_iteration_and_the_interval_holds_it(shape):
    model, implementation, seq_length, batch = shape
    answer = estimate(
        case(
            model,
            implementation=implementation,
            seq_length=seq_length,
            micro_batch_size=batch,
            global_batch_size=batch,
        )
    )
    assert sum(answer.breakdown.values()) == pytest.approx(answer.iteration_seconds)
    low, high = answer.interval_seconds
    assert 0 < low < answer.iteration_seconds < high
    assert sum(answer.memory_parts.values()) == pytest.approx(answer.memory_bytes_per_gpu)
    assert sum(answer.origin.values()) == pytest.approx(1.0)
    assert 0 < answer.mfu < 1


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6))
def test_a_larger_batch_is_never_faster(small, more):
    times = [
        estimate(case(micro_batch_size=b, global_batch_size=b)).iteration_seconds
        for b in (small, small + more)
    ]
    assert times[1] > times[0]


def test_recompute_adds_time_and_takes_memory_away():
    plain = estimate(case(seq_length=4096, micro_batch_size=4, global_batch_size=4))
    replayed = estimate(
        case(seq_length=4096, micro_batch_size=4, global_batch_size=4, recompute="full")
    )
    assert replayed.iteration_seconds > plain.iteration_seconds
    assert replayed.memory_bytes_per_gpu < plain.memory_bytes_per_gpu


def test_many_micro_batches_cost_what_unrolling_them_costs():
    times = [
        estimate(case(seq_length=512, global_batch_size=m)).iteration_seconds for m in (3, 4, 5, 9)
    ]
    assert times[1] - times[0] == pytest.approx(times[2] - times[1], rel=1e-6)
    assert times[3] - times[2] == pytest.approx(4 * (times[1] - times[0]), rel=1e-6)


def test_a_small_model_waits_for_the_host():
    small = estimate(case("gpt2", seq_length=128))
    large = estimate(case("gpt2", seq_length=1024, micro_batch_size=16, global_batch_size=16))
    assert small.breakdown["host"] / small.iteration_seconds > 0.3
    assert large.breakdown["host"] / large.iteration_seconds < 0.15


def test_without_tensor_parallel_the_smallest_that_fits_is_taken_and_said():
    answer = estimate(case("llama3-8b", gpus=8, implementation="megatron-core-te"))
    assert answer.fits
    assert "smallest of 1, 2, 4, 8 that fits" in answer.defaults_taken[0]


def test_degrees_that_rules_leave_are_named_where_the_smallest_is_taken():
    asked = case("llama3-8b", gpus=8, implementation="megatron-core-te", global_batch_size=33)
    answer = estimate(asked)
    assert "plan.tensor_parallel = 8 (smallest of 8 that fits)" in answer.defaults_taken[0]


def test_where_no_tensor_degree_fits_the_largest_is_taken_and_said():
    asked = case("llama3-70b", gpus=64, implementation="megatron-core-te", seq_length=8192)
    answer = estimate(asked)
    assert not answer.fits
    assert answer.defaults_taken[0] == "plan.tensor_parallel = 8 (none of 1, 2, 4, 8 fits)"
    widest = replace(asked, plan=replace(asked.plan, tensor_parallel=8))
    assert answer.memory_bytes_per_gpu == estimate(widest).memory_bytes_per_gpu


def test_multi_gpu_communication_is_marked_extrapolated():
    answer = estimate(
        case("llama3-8b", gpus=64, implementation="megatron-core-te", plan={"tensor_parallel": 8})
    )
    assert answer.exposed_communication_seconds > 0
    assert answer.origin["extrapolated"] > 0
    assert any("extrapolated" in note for note in answer.notes)


def test_a_hundred_thousand_gpus_cost_no_more_than_a_hundred_to_estimate():
    plan = {"tensor_parallel": 8, "pipeline_parallel": 8}
    answer = estimate(
        case(
            "gpt3-175b",
            gpus=64 * 1536,
            implementation="megatron-core-te",
            plan=plan,
            global_batch_size=1536 * 8,
        )
    )
    assert answer.bubble_seconds > 0


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"model": "mixtral-8x7b", "implementation": "hf-compile"}, "mixture-of-experts"),
        ({"precision": "fp8"}, "precision 'fp8'"),
        ({"recompute": "custom"}, "custom"),
        ({"implementation": "megascale"}, "changes the model"),
        ({"gpus": 2, "plan": {"tensor_parallel": 1}}, "one GPU"),
        (
            {
                "model": "mixtral-8x7b",
                "gpus": 8,
                "implementation": "megatron-core-te",
                "plan": {"moe_experts": "fused"},
            },
            "moe_experts 'fused': those kernels take precision 'mxfp8'",
        ),
        ({"plan": {"attention_backend": "flash"}}, "attention_backend: hf-eager has one of its"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(changed, words):
    with pytest.raises(NotPredictable, match=words):
        estimate(case(**changed))


def test_strict_refuses_multi_gpu_communication():
    wide = case("llama3-8b", gpus=8, implementation="megatron-core-te", plan={"tensor_parallel": 8})
    with pytest.raises(NotPredictable, match="strict"):
        estimate(wide, strict=True)


def test_a_gpu_without_tables_borrows_efficiencies_and_says_so():
    base = case().to_dict()
    base["cluster"]["gpu"] = "h800-sxm5-80gb"
    answer = estimate(Case.from_dict(base))
    assert answer.origin["datasheet"] > 0.3
    assert answer.origin["measured"] == 0
    assert any("has not been measured" in note for note in answer.notes)
    assert answer.iteration_seconds == pytest.approx(estimate(case()).iteration_seconds, rel=0.3)


def test_a_plan_that_was_forgotten_and_built_again_is_priced_again() -> None:
    """Plans and prices are kept apart, and one may leave before the other."""
    asked = Case.from_dict(
        {
            "model": {"preset": "llama3.2-1b"},
            "plan": {"tensor_parallel": 2},
            "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 4},
        }
    )
    before = estimate(asked)
    import_module("predictor.iteration.built").built_step.cache_clear()
    assert estimate(asked).to_dict() == before.to_dict()


def words_on_communication(gpus: int, tensor: int) -> tuple[str, dict[str, float]]:
    asked = {
        "model": {"preset": "llama3-8b"},
        "training": {"seq_length": 4096, "micro_batch_size": 1, "global_batch_size": 32},
        "plan": {"tensor_parallel": tensor},
        "cluster": {"gpu": "h200-sxm5-141gb", "num_gpus": gpus, "gpus_per_node": 8},
    }
    found = estimate(Case.from_dict(asked))
    return found.notes[-1], dict(found.origin)


def test_the_note_on_communication_tells_measured_groups_from_others() -> None:
    """Groups of two and four H200s were measured, of 32 and between nodes none."""
    inside, origin = words_on_communication(4, 4)
    assert inside == "collectives are of groups that were measured on h200-sxm5-141gb"
    assert origin["extrapolated"] < 0.01
    mixed, _ = words_on_communication(16, 4)
    assert " % of the time in collectives is of groups that were measured" in mixed
    outside, _ = words_on_communication(32, 1)
    assert outside == "communication is extrapolated from fitted levels of links, not measured"
