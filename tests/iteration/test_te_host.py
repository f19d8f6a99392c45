"""Host costs of expert layers on Transformer Engine, counted by hand."""

import pytest

from predictor.case import Case, resolve
from predictor.iteration.implementations import megatron_core_te
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
    part, rows = part_of()
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
