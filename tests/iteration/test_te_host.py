"""Host costs of expert layers on Transformer Engine, counted by hand."""

import math

import pytest

from predictor.case import Case, resolve
from predictor.iteration.implementations import megatron_core_te, te_steps
from predictor.iteration.implementations.te_host import EXPERT_PRODUCTS, PLAIN_LAUNCHES, layer_host
from predictor.iteration.launches import Launch
from predictor.iteration.shape import stages_of, step_shape
from predictor.operators import Collective, GroupedGemm, Host

PHASES = ("forward", "backward")


def part_of(model="mixtral-8x7b", gpus=1, **plan):
    asked = {
        "model": {"preset": model},
        "training": {"seq_length": 4096},
        "plan": {"tensor_parallel": 1, **plan},
        "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": gpus},
    }
    case = resolve(Case.from_dict(asked)).case
    shape = step_shape(case, vocab_multiple=1)
    layers = [block.layer for block in stages_of(case, shape)[0].chunks[0].blocks]
    layer = next(each for each in layers if each.experts and not each.predicts)
    return megatron_core_te.layer_part(shape, layer), shape.routed(layer)


def work_of(part, phase):
    work = part.forward_host if phase == "forward" else part.backward_host
    return {(each.stack, each.block, each.quantity): times for each, times in work}


@pytest.mark.parametrize("phase", PHASES)
def test_a_mixtral_layer_is_the_measured_one_and_its_grouped_products(phase):
    part, rows = part_of(moe_permute_fusion=True)
    steps = part.forward if phase == "forward" else part.backward
    launches = [step for step in steps if isinstance(step, Launch)]
    grouped = sum(each.kernels for each in launches if isinstance(each.operator, GroupedGemm))
    assert grouped == EXPERT_PRODUCTS[phase] * rows.experts.held
    assert sum(each.kernels for each in launches) - grouped == PLAIN_LAUNCHES[phase]
    assert work_of(part, phase) == {
        ("megatron-core-local", "moe", "layer"): 1.0,
        ("megatron-core-local", "moe", "expert"): 1.0,
        ("cuda", "any", "launch"): float(grouped),
    }


def test_experts_one_by_one_are_as_many_modules_and_no_bare_launches():
    part, rows = part_of(moe_experts="sequential")
    for phase in PHASES:
        work = work_of(part, phase)
        assert work["megatron-core-local", "moe", "expert"] == rows.experts.held
        assert ("cuda", "any", "launch") not in work


def test_collectives_and_latent_attention_come_on_top():
    part, _ = part_of("deepseek-v2", gpus=8, expert_parallel=8)
    for phase, steps in zip(PHASES, (part.forward, part.backward), strict=True):
        calls = sum(isinstance(s, Launch) and isinstance(s.operator, Collective) for s in steps)
        work = work_of(part, phase)
        assert calls > 0
        assert work["torch.distributed", "any", "collective"] == calls
        assert work["hf-eager", "llama", "layer"] > 0


@pytest.mark.parametrize(
    ("model", "graphs", "experts"),
    [
        # five linear modules of latent attention where plain has two, two of the shared experts
        ("deepseek-v2", "none", 1 + 3 / 2 + 2 / 2),
        ("deepseek-v2", "router", 0.2 + 3 / 2),  # the dense MLP that attention lacks, as below
        ("deepseek-v2", "attention", 1.2),
        ("moonlight-16b-a3b", "none", 1 + 2 / 2 + 2 / 2),  # queries of full rank
    ],
)
def test_more_linear_modules_are_halves_of_an_expert(model, graphs, experts):
    part, _ = part_of(model, gpus=8, expert_parallel=8, cuda_graph=graphs)
    for phase in PHASES:
        work = work_of(part, phase)
        assert work["megatron-core-local", "moe", "expert"] == pytest.approx(experts)


@pytest.mark.parametrize(("phase", "launches"), [("forward", 4 * 1.3), ("backward", 4 * 3.5)])
def test_a_layer_beside_another_micro_batchs_is_four_nodes(phase, launches):
    plan = {"gpus": 2, "expert_parallel": 2, "moe_permute_fusion": True}
    (alone, _), (beside, _) = (part_of(**plan, moe_overlap=each) for each in (False, True))
    eager = ("hf-eager", "llama", "layer")
    a_layer = {"forward": 38, "backward": 79}[phase]  # launches of the measured eager layer
    more = work_of(beside, phase)[eager] - work_of(alone, phase).get(eager, 0.0)
    assert more * a_layer == pytest.approx(launches)


def test_graphs_hold_the_router_attention_or_everything():
    measured = {
        Host(stack="megatron-core-local", block="moe", quantity="layer"): 10.0,
        Host(stack="megatron-core-local", block="llama", quantity="layer"): 6.0,
        Host(stack="megatron-core-local", block="moe", quantity="expert"): 2.0,
    }

    def seconds(graphs):
        part, rows = part_of(cuda_graph=graphs)
        work = layer_host("forward", part.forward, rows, graphs)
        return sum(measured.get(each, 0.0) * times for each, times in work)

    # attention 6 - 2, router and dispatcher 10 - 4, of which a fifth stays; one MLP
    assert seconds("none") == pytest.approx(4 + 6 + 2)
    assert seconds("router") == pytest.approx(4 + 0.2 * 6 + 2)
    assert seconds("attention") == pytest.approx(0.2 * 6 + 2)
    assert seconds("iteration") == 0.0


def test_the_step_costs_what_megatrons_measured_one_does_for_every_tensor_owned():
    # two ranks share every tensor of Mixtral by halves: 16 of experts a layer among them
    asked = {
        "model": {"preset": "mixtral-8x7b", "num_layers": 2},
        "training": {"seq_length": 4096},
        "plan": {"tensor_parallel": 1},
        "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 2},
    }
    case = resolve(Case.from_dict(asked)).case
    (stage,) = stages_of(case, step_shape(case))
    ((segment, _),) = te_steps.optimizer(stage)
    work = {each.quantity: times for each, times in segment.host}
    tensors = stage.tensors + 2 * 8 * 2
    assert work == {"fixed": 1.0, "tensor": math.ceil(tensors / 2)}


def test_rows_of_one_expert_need_no_order_and_those_of_many_do_even_alone():
    many, one = part_of(), part_of(gpus=8, expert_parallel=8)
    for (part, rows), copies in ((many, 2), (one, 0)):
        assert rows.experts.held == (8 if copies else 1)
        moved = [step.operator for step in part.forward if isinstance(step, Launch)]
        moved = [each for each in moved if getattr(each, "kernel", "") == "copy"]
        assert sum(each.rows == rows.rows and each.cols > 1 for each in moved) == copies


def test_ranks_that_share_an_expert_gather_its_rows_then_sort_them():
    part, rows = part_of(gpus=4, tensor_parallel=2, expert_parallel=2, expert_tensor_parallel=2)
    steps = [step.operator for step in part.forward if isinstance(step, Launch)]
    hidden = rows.layer.hidden
    gathered = [each.bytes for each in steps if each.name == "all_gather"]
    assert 2.0 * rows.rows * hidden in gathered
    assert 4.0 * rows.rows in gathered  # their probabilities
    names = [(each.name, getattr(each, "rows", None)) for each in steps]
    last = max(place for place, each in enumerate(steps) if each.name == "all_gather")
    assert ("memory_bound", rows.rows) in names[last : last + 2]


def test_permutation_is_written_out_unless_fused():
    # moe_utils.py: index_select of the copies; their sum is added into zeros; gradients mirror both
    for fused, kernels in (
        (False, ("index_select", "fill", "index_add")),
        (True, ("permute_top2", "unpermute_top2")),
    ):
        part, _ = part_of(moe_permute_fusion=fused)
        for steps in (part.forward, part.backward):
            names = [
                getattr(each.operator, "kernel", "") for each in steps if isinstance(each, Launch)
            ]
            assert [names.count(name) for name in kernels] == [1] * len(kernels)
            assert not fused or "index_add" not in names


def test_permutation_is_fused_where_other_defaults_are_those_of_recipes():
    def fused(gpu="h100-sxm5-80gb", model="mixtral-8x7b", gpus=64, **plan):
        asked = {
            "model": {"preset": model},
            "training": {"seq_length": 4096, "global_batch_size": 4 * gpus},
            "plan": {"tensor_parallel": 1, "expert_parallel": 8, **plan},
            "cluster": {"gpu": gpu, "num_gpus": gpus},
        }
        return resolve(Case.from_dict(asked)).case.plan.moe_permute_fusion

    assert fused() is False
    assert fused(moe_overlap=True) is False  # asked for, and so no sign of a recipe
    assert fused(gpu="gb200") is True  # whose recipes hold routers in graphs
    assert fused(gpu="b200-sxm") is True  # whose recipes do not, but fuse
    assert fused(model="deepseek-v3", gpus=256, expert_parallel=64) is True
