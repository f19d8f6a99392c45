"""What an eager Hugging Face layer launches, against counts of its traced operators.

Reference: transformers 5.17.0 on torch 2.11, operators counted with a dispatch mode; the byte
totals are those of its source, in units of n·h, n·(q + k) and n·f.
"""

import pytest

from predictor.case import Case, resolve
from predictor.iteration.implementations import hf_compile, hf_eager
from predictor.iteration.shape import step_shape
from predictor.operators import Gemm, MemoryBound

N, H, Q, K, F = 4096, 2048, 2048, 512, 8192


def shape_of(model, **training):
    case = Case.from_dict(
        {
            "model": {"preset": model},
            "training": {"seq_length": 4096, "micro_batch_size": 1, "global_batch_size": 1}
            | training,
            "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 1},
            "implementation": "hf-eager",
        }
    )
    return step_shape(resolve(case).case)


def layer(module, shape):
    return module.layer_part(shape, shape.layer)


def kernels(launches):
    return sum(launch.kernels for launch in launches)


def memory_bytes(launches):
    return sum(
        launch.operator.bytes
        for launch in launches
        if isinstance(launch.operator, MemoryBound) and launch.operator.cols > 1
    )


@pytest.mark.parametrize(("model", "launches"), [("llama3.2-1b", 38), ("qwen3-0.6b", 54)])
def test_forward_launches_of_a_layer(model, launches):
    assert kernels(layer(hf_eager, shape_of(model)).forward) == launches


def test_forward_launches_of_a_gpt2_layer():
    shape = shape_of("gpt2", seq_length=1024)
    assert kernels(layer(hf_eager, shape).forward) == 17


def test_backward_launches_of_a_grouped_llama_layer():
    assert kernels(layer(hf_eager, shape_of("llama3.2-1b")).backward) == pytest.approx(79, abs=2)


def test_backward_launches_of_a_gpt2_layer():
    shape = shape_of("gpt2", seq_length=1024)
    assert kernels(layer(hf_eager, shape).backward) == pytest.approx(33, abs=2)


def test_forward_traffic_of_a_llama_layer():
    expected = 84 * N * H + 20 * N * (Q + K) + 10 * N * F
    assert memory_bytes(layer(hf_eager, shape_of("llama3.2-1b")).forward) == expected


def test_backward_traffic_of_a_llama_layer():
    expected = 214 * N * H + 34 * N * (Q + K) + 18 * N * F
    assert memory_bytes(layer(hf_eager, shape_of("llama3.2-1b")).backward) == expected


def test_gelu_written_out_moves_36_bytes_forward_and_56_backward():
    shape = shape_of("gpt2", seq_length=1024)
    n, f = 1024, 3072
    gelu = {"mul_scalar", "pow", "add_scalar", "tanh", "tanh_backward", "mul", "add"}

    def moved(launches):
        return sum(
            launch.operator.bytes
            for launch in launches
            if isinstance(launch.operator, MemoryBound)
            and launch.operator.kernel in gelu
            and launch.operator.cols == f
        )

    assert moved(layer(hf_eager, shape).forward) == 36 * n * f
    assert moved(layer(hf_eager, shape).backward) == 56 * n * f


def test_every_weight_has_one_forward_one_wgrad_and_one_dgrad():
    shape = shape_of("llama3.2-1b")
    launches = layer(hf_eager, shape).forward + layer(hf_eager, shape).backward
    kinds = [launch.operator.kind for launch in launches if isinstance(launch.operator, Gemm)]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "forward": 7,
        "wgrad": 7,
        "dgrad": 7,
    }


def test_layer_gemm_flops_are_two_four_times_parameters_and_tokens():
    shape = shape_of("llama3.2-1b")

    def flops(launches):
        return sum(x.operator.flops for x in launches if isinstance(x.operator, Gemm))

    assert flops(layer(hf_eager, shape).forward) == 2 * N * shape.layer.matrix_parameters
    assert flops(layer(hf_eager, shape).backward) == 4 * N * shape.layer.matrix_parameters


def test_replay_skips_the_last_product_and_the_last_add():
    shape = shape_of("llama3.2-1b", recompute="full")
    part = layer(hf_eager, shape)
    gemms = [x for x in part.replay + part.backward if isinstance(x.operator, Gemm)]
    assert len(gemms) == 14 + 6


def test_compiled_attention_runs_the_full_square_with_repeated_heads():
    launches = layer(hf_compile, shape_of("llama3.2-1b")).forward
    (attention,) = [x.operator for x in launches if x.operator.name == "attention"]
    assert (attention.causal, attention.bias) == (False, True)
    assert attention.num_query_groups == attention.num_heads == 32


def test_compiled_layer_launches_a_quarter_of_the_eager_one():
    shape = shape_of("llama3.2-1b")
    eager = kernels(layer(hf_eager, shape).forward + layer(hf_eager, shape).backward)
    compiled = kernels(layer(hf_compile, shape).forward + layer(hf_compile, shape).backward)
    assert compiled < eager / 2
