"""JAX's policies of recomputation and 8-bit weights: launches of one layer by hand."""

import pytest

from predictor.case import Case, resolve
from predictor.iteration.implementations import load
from predictor.iteration.launches import Launch
from predictor.iteration.shape import step_shape
from predictor.operators import AllGather, Attention, Gemm

HIDDEN, FFN, TOKENS = 4096, 14336, 8192
QKV = 4096 + 2 * 1024
PARAMETERS = HIDDEN * (QKV + HIDDEN + 3 * FFN)


def layer(**training):
    raw = {
        "model": {"preset": "llama3-8b"},
        "training": {"seq_length": TOKENS, **training},
        "plan": {"sharding": "parameters"},
        "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 8},
        "implementation": "jax-xla",
    }
    asked = resolve(Case.from_dict(raw)).case
    shape = step_shape(asked)
    return load("jax-xla").layer(shape, shape.layer)


def products(steps, kind):
    found = [s.operator for s in steps if isinstance(s, Launch) and isinstance(s.operator, Gemm)]
    return [(each.n, each.k) for each in found if each.kind == kind]


def attentions(steps):
    calls = [s.operator for s in steps if isinstance(s, Launch)]
    return [each.kind for each in calls if isinstance(each, Attention)]


@pytest.mark.parametrize(
    ("modules", "again"),
    [(["core_attn", "layernorm", "mlp"], [(2 * FFN, HIDDEN)]), (["core_attn"], [])],
)
def test_products_that_a_policy_keeps_do_not_run_again(modules, again):
    part = layer(recompute="selective", recompute_modules=modules)
    assert products(part.backward, "forward") == again
    assert attentions(part.backward) == ["forward", "backward"]
    assert len(products(part.backward, "dgrad")) == 4


def test_without_recomputation_nothing_runs_again():
    part = layer()
    assert products(part.backward, "forward") == []
    assert attentions(part.backward) == ["backward"]


def test_weights_are_gathered_in_bf16_and_cast_in_both_passes():
    part = layer(precision="fp8")
    gathered = [
        step.operator.bytes
        for step in part.forward
        if isinstance(step, Launch) and isinstance(step.operator, AllGather)
    ]
    assert gathered == [2 * (PARAMETERS + 2 * HIDDEN)]
    for steps in (part.forward, part.backward):
        casts = [
            step.operator.rows * step.operator.cols
            for step in steps
            if isinstance(step, Launch) and "cast" in getattr(step.operator, "kernel", "")
        ]
        assert PARAMETERS in casts
