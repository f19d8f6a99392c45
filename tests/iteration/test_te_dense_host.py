"""Host costs of dense layers on Transformer Engine, counted by hand."""

import pytest

from predictor.case import Case, resolve
from predictor.iteration import estimate
from predictor.iteration.implementations import megatron_core_te, te_steps
from predictor.iteration.implementations.te_dense_host import PLAIN_LAUNCHES, PRODUCTS
from predictor.iteration.launches import Launch
from predictor.iteration.shape import stages_of, step_shape
from predictor.operators import Gemm, MemoryBound

PHASES = ("forward", "backward")
LOCAL = ("megatron-core-local", "llama", "layer")


def case_of(gpu="h100-sxm5-80gb", tensor=1, layers=None, **asked):
    return resolve(
        Case.from_dict(
            {
                "model": {"preset": "llama3-8b"} | ({"num_layers": layers} if layers else {}),
                "training": {"seq_length": 4096, **asked.get("training", {})},
                "plan": {"tensor_parallel": tensor, **asked.get("plan", {})},
                "cluster": {"gpu": gpu, "num_gpus": tensor},
            }
        )
    ).case


def works(**asked):
    shape = step_shape(case_of(**asked))
    part = megatron_core_te.layer_part(shape, shape.layer)
    found = {}
    for phase, steps, work in zip(
        PHASES,
        (part.forward, part.backward),
        (part.forward_host, part.backward_host),
        strict=True,
    ):
        named = {(each.stack, each.block, each.quantity): times for each, times in work or ()}
        found[phase] = steps, named
    return found


def test_a_llama_layer_on_one_gpu_is_the_measured_one():
    for phase, (steps, work) in works().items():
        launches = [step for step in steps if isinstance(step, Launch)]
        assert sum(each.kernels for each in launches) == PLAIN_LAUNCHES[phase]
        assert sum(isinstance(each.operator, Gemm) for each in launches) == PRODUCTS[phase]
        assert work == {LOCAL: 1.0}


def test_tensor_ranks_add_their_calls():
    """A gather and a scatter at each end of attention and feed-forward; both ways twice, and the
    column products' inputs once more."""
    for phase, (_, work) in works(tensor=8).items():
        calls = {"forward": 4, "backward": 6}[phase]
        assert work == {LOCAL: 1.0, ("torch.distributed", "any", "collective"): calls}


def test_a_ring_exchange_leaves_in_bare_launches():
    """8 ranks: a forward ring is seven more transfers and products; two gather, two scatter."""
    _, work = works(tensor=8, plan={"tp_overlap": True})["forward"]
    assert work[LOCAL] == 1.0
    assert ("torch.distributed", "any", "collective") not in work
    assert work["cuda", "any", "launch"] == 4 * 7 + 4 * 7


def test_casts_come_on_top():
    _, work = works(training={"precision": "fp8", "fp8_recipe": "current"})["forward"]
    eager = work["hf-eager", "llama", "layer"]
    assert eager == pytest.approx(8 / 38)


@pytest.mark.parametrize(
    ("gpu", "precision", "graphs"),
    [
        ("b200-sxm", "fp8", "iteration"),
        ("b200-sxm", "bf16", "none"),
        ("h100-sxm5-80gb", "fp8", "none"),
    ],
)
def test_dense_steps_in_8_bits_on_blackwell_are_graphed(gpu, precision, graphs):
    asked = case_of(gpu=gpu, training={"precision": precision})
    assert asked.plan.cuda_graph == graphs
    shape = step_shape(asked)
    host = megatron_core_te.layer_part(shape, shape.layer).forward_host
    assert (host == ()) is (graphs == "iteration")


def test_a_graph_of_the_iteration_frees_a_step_from_its_host():
    host = {
        graphs: estimate(
            case_of(tensor=8, layers=4, plan={"cuda_graph": graphs}, training={"seq_length": 1024})
        ).breakdown["host"]
        for graphs in ("none", "iteration")
    }
    assert host["iteration"] < 0.2 * host["none"]


@pytest.mark.parametrize(("gradients", "words"), [("fp32", 1.0), ("bf16", 0.5)])
def test_gradients_are_read_for_numbers_that_are_none_before_their_norm(gradients, words):
    asked = case_of(layers=2, tensor=8, training={"gradient_dtype": gradients})
    (stage,) = stages_of(asked, step_shape(asked))
    ((segment, _),) = te_steps.reduced(stage)
    walked = [each.operator for each in segment.launches if isinstance(each.operator, MemoryBound)]
    expected = (words * stage.parameters, stage.owned_parameters)
    for one, numbers in zip(walked, expected, strict=True):
        assert one.rows * one.cols == pytest.approx(numbers, rel=1e-3)
