"""LoRA on Megatron-Core with Transformer Engine: launches and bytes by hand, and laws."""

from collections import Counter

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from predictor.case import Case, resolve
from predictor.costs import load_costs
from predictor.errors import CaseError, NotPredictable
from predictor.iteration import estimate
from predictor.iteration.built import run_of
from predictor.iteration.dimensions import adapters_of, layers_of, model_flops
from predictor.iteration.implementations import megatron_core_te
from predictor.iteration.launches import Launch
from predictor.iteration.megatron_memory import fused_activations
from predictor.iteration.shape import stages_of, step_shape
from predictor.operators import Collective, Gemm, MemoryBound
from predictor.report.text import heading

N, H, F, Q, KV, V, LAYERS, RANK = 2048, 1024, 2816, 1024, 256, 32000, 4, 16
QKV = Q + 2 * KV
MODULES = ("linear_qkv", "linear_proj", "linear_fc1", "linear_fc2")
SIZES = {
    "linear_qkv": (QKV, H),
    "linear_proj": (H, Q),
    "linear_fc1": (2 * F, H),
    "linear_fc2": (H, F),
}
MODEL = {
    "num_layers": LAYERS,
    "hidden_size": H,
    "ffn_hidden_size": F,
    "num_attention_heads": 16,
    "num_query_groups": 4,
    "vocab_size": V,
    "gated_mlp": True,
}


def case_of(modules=MODULES, rank=RANK, *, gpus=1, plan=None, gpu="h100-sxm5-80gb", **training):
    adapters = {"adapter_rank": rank, "adapter_modules": list(modules)} if modules else {}
    return resolve(
        Case.from_dict(
            {
                "model": MODEL,
                "training": {"seq_length": N, "global_batch_size": 8 * gpus} | adapters | training,
                "plan": {"tensor_parallel": 1} | (plan or {}),
                "cluster": {"gpu": gpu, "num_gpus": gpus},
                "implementation": "megatron-core-te",
            }
        )
    ).case


def stage_of(*args, **kwargs):
    case = case_of(*args, **kwargs)
    return stages_of(case, step_shape(case))[0]


def operators(stage, phase, *, layer=-1):
    block = stage.chunks[0].blocks[layer]
    steps = getattr(megatron_core_te.STACK.layer(stage.shape, block.layer), phase)
    return [step.operator for step in steps if isinstance(step, Launch)]


def products(found):
    return Counter((x.kind, x.m, x.n, x.k, x.dtype) for x in found if isinstance(x, Gemm))


def test_a_layer_multiplies_each_matrix_twice_and_its_adapters_six_times():
    for modules in (MODULES, ("linear_qkv",), ("linear_proj", "linear_fc2")):
        stage = stage_of(modules)
        wanted = {phase: Counter() for phase in ("forward", "backward")}
        for name, (out, into) in SIZES.items():
            wanted["forward"]["forward", N, out, into, "bf16"] += 1
            wanted["backward"]["dgrad", N, out, into, "bf16"] += 1
            for m_out, m_into in ((RANK, into), (out, RANK)) if name in modules else ():
                wanted["forward"]["forward", N, m_out, m_into, "bf16"] += 1
                wanted["backward"]["dgrad", N, m_out, m_into, "bf16"] += 1
                wanted["backward"]["wgrad", N, m_out, m_into, "bf16"] += 1
        for phase, counted in wanted.items():
            assert products(operators(stage, phase)) == counted


def test_an_adapter_adds_a_product_of_its_scale_and_a_sum_by_kernels_of_their_own():
    """Two passes over the module's output forward; its gradient scaled, its input's summed."""
    for name, (out, into) in SIZES.items():
        stage = stage_of((name,))
        for phase, wanted in {
            "forward": {("mul_scalar", N, out): 1, ("add", N, out): 1},
            "backward": {("mul_scalar", N, out): 1, ("add", N, into): 1},
        }.items():
            eager = Counter(
                (x.kernel, x.rows, x.cols)
                for x in operators(stage, phase)
                if isinstance(x, MemoryBound) and x.impl == "torch"
            )
            assert eager == wanted


def test_nothing_is_computed_below_the_lowest_adapter():
    """Layer 0 ends with the first adapter's weight gradient: whose input's gradient is nobody's."""
    stage = stage_of(("linear_qkv",))
    whole, lowest = (products(operators(stage, "backward", layer=at)) for at in (-1, 0))
    missing = {("dgrad", N, QKV, H, "bf16"): 1, ("dgrad", N, RANK, H, "bf16"): 1}
    assert whole - lowest == missing
    above = stage_of(("linear_fc2",))
    assert not any(x.name == "attention" for x in operators(above, "backward", layer=0))
    assert [kind for kind, *_ in products(operators(above, "backward", layer=0))] == [
        "dgrad",
        "wgrad",
        "wgrad",
    ]


def test_frozen_tables_have_no_gradients():
    stage = stage_of()
    assert megatron_core_te.STACK.embedding(stage.shape).backward == ()
    head = megatron_core_te.STACK.head(stage.shape)
    kinds = [
        x.operator.kind for x in head.backward if isinstance(x, Launch) and type(x.operator) is Gemm
    ]
    assert kinds == ["dgrad"]
    assert head.parameters == 0


def test_ends_of_a_pipeline_share_no_gradient_of_a_frozen_table():
    for modules in ((), MODULES):
        case = case_of(modules, gpus=2, plan={"pipeline_parallel": 2})
        tied = resolve(case.replace(model={"tied_embeddings": True})).case
        seconds = run_of(tied, load_costs("h100-sxm5-80gb")).links.tied_seconds
        assert (seconds > 0) == (modules == ())


@pytest.mark.parametrize("rank", [1, 16, 64])
def test_parameters_are_the_rank_times_both_sides_of_every_module(rank):
    frozen = stage_of(()).parameters
    for modules in (MODULES, ("linear_qkv",), ("linear_fc1", "linear_proj")):
        stage = stage_of(modules, rank)
        thin = LAYERS * sum(rank * sum(SIZES[name]) for name in modules)
        assert stage.trained_parameters == stage.owned_parameters == thin
        assert stage.parameters == frozen + thin
        assert stage.tensors == 2 * LAYERS * len(modules)


def test_tensor_ranks_split_both_products_of_an_adapter():
    """By outputs those of qkv and fc1, by inputs and then outputs those of proj and fc2."""
    stage = stage_of(gpus=2, plan={"tensor_parallel": 2})
    each = (
        RANK // 2 * H + QKV // 2 * RANK,
        RANK * Q // 2 + H // 2 * RANK,
        RANK // 2 * H + F * RANK,
        RANK * F // 2 + H // 2 * RANK,
    )
    assert stage.trained_parameters == LAYERS * sum(each)


def collectives(found):
    return [(x.name, x.bytes) for x in found if isinstance(x, Collective)]


def test_collectives_of_tensor_ranks():
    """Sequence parallelism: the norm's output is gathered once, in bf16, for module and adapter."""
    whole, thin = 2 * N * H, 2 * N * RANK
    shared = {"gpus": 2, "plan": {"tensor_parallel": 2}}
    qkv = stage_of(("linear_qkv",), **shared)
    assert collectives(operators(qkv, "forward")) == [
        ("all_gather", whole),
        ("all_gather", thin),
        ("reduce_scatter", whole),
        ("all_gather", whole),
        ("reduce_scatter", whole),
    ]
    assert collectives(operators(qkv, "backward")) == [
        ("all_gather", whole),
        ("reduce_scatter", whole),
        ("all_gather", whole),
        ("all_reduce", thin),
        ("reduce_scatter", whole),
    ]
    proj = stage_of(("linear_proj",), **shared)
    assert collectives(operators(proj, "forward"))[:4] == [
        ("all_gather", whole),
        ("reduce_scatter", whole),
        ("all_reduce", thin),
        ("all_gather", whole),
    ]
    assert collectives(operators(proj, "backward"))[2:5] == [
        ("all_gather", whole),
        ("all_reduce", thin),
        ("all_gather", whole),
    ]


def test_sums_of_input_gradients_without_sequence_parallelism():
    shared = {"gpus": 2, "plan": {"tensor_parallel": 2, "sequence_parallel": False}}
    plain, adapted = (
        Counter(collectives(operators(stage_of(modules, **shared), "backward")))
        for modules in ((), ("linear_qkv",))
    )
    assert adapted - plain == {("all_reduce", 2 * N * RANK): 1, ("all_reduce", 2 * N * H): 1}


def test_a_ring_is_left_to_the_modules_without_an_adapter():
    """The module gathers what the norm wrote in one go, and its adapter does so again."""
    plan = {"tensor_parallel": 2, "tp_overlap": True}
    forward = operators(stage_of(("linear_qkv",), gpus=2, plan=plan), "forward")
    gathers = [size for name, size in collectives(forward) if name == "all_gather"]
    assert gathers == [2 * N * H, 2 * N * H, 2 * N * RANK]
    assert len([x for x in collectives(forward) if x[0] == "send_recv"]) == 3


def test_small_formats_are_not_turned_for_gradients_that_nobody_takes():
    """Frozen products stay in 8 bits, adapters in bf16; an adapter's norm writes bf16."""
    found = operators(stage_of(("linear_qkv",), precision="fp8"), "forward")
    found += operators(stage_of(("linear_qkv",), precision="fp8"), "backward")
    kernels = Counter(x.kernel for x in found if isinstance(x, MemoryBound))
    assert kernels["cast_transpose_fp8"] == kernels["transpose_fp8"] == 0
    assert kernels["cast_fp8"] == 3 + 4  # qkv's, proj's and fc2's inputs; four outputs' gradients
    dtypes = Counter(x.dtype for x in found if isinstance(x, Gemm))
    assert dtypes == {"fp8": 4 + 4, "bf16": 2 + 4}


def test_frozen_weights_are_cast_in_every_step_only_where_they_are_kept_in_bf16():
    """Recipes with one scale a tensor keep parameters small; others cast each of two blocks."""
    for precision, gpu, casts in (("fp8", "h100-sxm5-80gb", 0), ("mxfp8", "b200-sxm", 2)):
        stage = stage_of(gpu=gpu, precision=precision)
        assert [block.count for block in stage.chunks[0].blocks] == [1, LAYERS - 1]
        ((segment, _),) = megatron_core_te.optimizer(stage)
        names = [x.operator.kernel for x in segment.launches]
        assert names.count("cast_transpose_fp8") == casts


def test_kept_bytes_of_a_layer():
    """Norms' inputs, q, k, v, attention's output and statistics, gate and up; adapters' inputs."""
    always = 4 * N * H + 4 * N * 16 + 2 * N * (2 * Q + 2 * KV) + 4 * N * F
    own = {"linear_qkv": H, "linear_proj": 0, "linear_fc1": H, "linear_fc2": F}
    for modules in (("linear_qkv",), ("linear_proj", "linear_fc2"), MODULES):
        adapters = sum(2 * N * (own[name] + RANK) for name in modules)
        kept = fused_activations(stage_of(modules), (1,))
        assert kept == LAYERS * (always + adapters)
    whole = fused_activations(stage_of(()), (1,))
    assert fused_activations(stage_of(MODULES, 1), (1,)) == whole + LAYERS * 4 * 2 * N


def test_states_are_those_of_adapters():
    parts = estimate(case_of(gpus=2)).memory_parts
    frozen = estimate(case_of((), gpus=2)).memory_parts
    thin = LAYERS * sum(RANK * sum(sizes) for sizes in SIZES.values())
    assert parts["optimizer states"] == 12 * thin / 2
    assert parts["gradients"] == 4 * thin
    assert parts["parameters"] == frozen["parameters"] + 2 * thin


def test_the_models_own_flops():
    case = case_of(("linear_qkv",))
    row = layers_of(case.model)
    matrices = sum(layer.matrix_parameters for layer in row) + V * H
    thin = LAYERS * RANK * (QKV + H)
    attention = 6 * N / 2 * 2 * Q * LAYERS
    flops = model_flops(case.model, tokens=1, seq_length=N, adapters=adapters_of(case.training))
    assert flops == 4 * matrices + 6 * thin + attention


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        ("not supported yet by torchtitan", {"implementation": "torchtitan"}),
        ("not supported yet by hf-eager", {"implementation": "hf-eager"}),
        ("with sharding 'parameters'", {"plan": {"sharding": "parameters"}, "gpus": 2}),
        ("with schedule 'zb-h1'", {"plan": {"schedule": "zb-h1", "pipeline_parallel": 2}}),
        ("with experts", {"model": {"preset": "mixtral-8x7b"}}),
        ("with experts, latent attention", {"model": {"preset": "deepseek-v3", "num_layers": 4}}),
    ],
)
def test_what_is_not_known_is_refused_by_name(words, changed):
    gpus = changed.pop("gpus", 2 if "plan" in changed else 1)
    asked = {
        "model": MODEL,
        "training": {"seq_length": N, "adapter_rank": 8},
        "plan": {},
        "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": gpus},
    }
    with pytest.raises(NotPredictable, match=f"adapter_rank 8: LoRA is .*{words}"):
        estimate(Case.from_dict(asked | changed))


@pytest.mark.parametrize(
    ("rule", "training", "tensor"),
    [
        ("adapter_modules = .*needs adapter_rank", {"adapter_modules": ["linear_qkv"]}, 1),
        ("must name at least one", {"adapter_rank": 8, "adapter_modules": []}, 1),
        ("each once", {"adapter_rank": 8, "adapter_modules": ["linear_fc1", "linear_fc1"]}, 1),
        ("did you mean 'linear_qkv'", {"adapter_rank": 8, "adapter_modules": ["linear_kqv"]}, 1),
        (r"tensor_parallel = 4: must divide adapter_rank \(6\)", {"adapter_rank": 6}, 4),
        ("adapter_rank = 0: must be at least 1", {"adapter_rank": 0}, 1),
    ],
)
def test_rules(rule, training, tensor):
    asked = {
        "model": MODEL,
        "training": {"seq_length": N} | training,
        "plan": {"tensor_parallel": tensor},
        "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 4},
    }
    with pytest.raises(CaseError, match=rule):
        Case.from_dict(asked)


def test_defaults_and_words():
    """Every module, as the frameworks' own; no graph of an iteration, which recipes leave out."""
    case = case_of((), adapter_rank=4, precision="fp8", gpu="b200-sxm")
    assert case.training.adapter_modules == MODULES
    assert case.plan.cuda_graph == "none"
    assert case_of((), precision="fp8", gpu="b200-sxm").plan.cuda_graph == "iteration"
    words = " ".join(heading(case_of(("linear_qkv", "linear_fc1"))))
    assert "recompute none; LoRA of rank 16 on linear_qkv, linear_fc1" in " ".join(words.split())


def test_a_rank_that_is_not_split_may_be_any():
    assert stage_of(("linear_proj",), 3, gpus=2, plan={"tensor_parallel": 2}).trained_parameters


SETTINGS = st.fixed_dictionaries(
    {
        "rank": st.sampled_from([4, 8, 32]),
        "modules": st.lists(st.sampled_from(MODULES), min_size=1, max_size=4, unique=True),
        "precision": st.sampled_from(["bf16", "fp8"]),
        "recompute": st.sampled_from(["none", "selective", "full"]),
        "plan": st.fixed_dictionaries(
            {
                "tensor_parallel": st.sampled_from([1, 2, 4]),
                "pipeline_parallel": st.sampled_from([1, 2]),
                "sequence_parallel": st.booleans(),
                "tp_overlap": st.booleans(),
            }
        ),
    }
)


def asked_of(given_settings, modules):
    more = {name: given_settings[name] for name in ("precision", "recompute", "plan")}
    return estimate(case_of(modules, given_settings["rank"], gpus=8, **more))


@settings(max_examples=25, deadline=None)
@given(SETTINGS)
def test_a_module_less_never_takes_longer_nor_more_memory(chosen):
    assume(len(chosen["modules"]) > 1)
    more = asked_of(chosen, chosen["modules"])
    less = asked_of(chosen, chosen["modules"][1:])
    assert less.iteration_seconds <= more.iteration_seconds * 1.001
    assert less.memory_bytes_per_gpu <= more.memory_bytes_per_gpu


@settings(max_examples=25, deadline=None)
@given(SETTINGS)
def test_adapters_never_take_more_memory_than_all_weights(chosen):
    """But with split sequences, of which an adapter keeps its input whole."""
    assume(not chosen["plan"]["sequence_parallel"] or chosen["plan"]["tensor_parallel"] == 1)
    thin, whole = asked_of(chosen, chosen["modules"]), asked_of(chosen, ())
    assert thin.memory_bytes_per_gpu <= whole.memory_bytes_per_gpu


DGXC = "NVIDIA/dgxc-benchmarking v25.02 llama3/finetuning/README"
BRIDGE = "NVIDIA-NeMo/Megatron-Bridge docs/performance-summary-archive.md"
INTERLEAVED = {"tensor_parallel": 2, "pipeline_parallel": 4, "virtual_pipeline": 20}
PUBLISHED = {
    f"{DGXC}_8b.md:60": (0.92, "llama3-8b", "bf16", 8, {}),
    f"{DGXC}_8b.md:67": (0.68, "llama3-8b", "fp8", 8, {}),
    f"{DGXC}_70b.md:59": (9.118, "llama3-70b", "bf16", 16, INTERLEAVED | {"tp_overlap": True}),
    f"{BRIDGE}:191": (6.199, "llama3-70b", "fp8", 16, INTERLEAVED),
}
"""Seconds of a step of 32 sequences of 4,096 tokens on 8 H100; adapters on qkv, as the recipes."""


@pytest.mark.parametrize("place", PUBLISHED)
def test_published_steps(place):
    """All weights would take over a quarter longer, at the same use of the GPUs."""
    seconds, model, precision, rank, plan = PUBLISHED[place]
    asked = {
        "model": {"preset": model},
        "training": {
            "seq_length": 4096,
            "micro_batch_size": 1,
            "global_batch_size": 32,
            "precision": precision,
        },
        "plan": {"tensor_parallel": 1} | plan,
        "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 8},
    }
    adapters = {"adapter_rank": rank, "adapter_modules": ["linear_qkv"]}
    thin = estimate(Case.from_dict(asked | {"training": asked["training"] | adapters}))
    whole = estimate(Case.from_dict(asked))
    assert thin.iteration_seconds == pytest.approx(seconds, rel=0.12)
    assert whole.iteration_seconds > 1.25 * seconds
    assert thin.mfu == pytest.approx(whole.mfu, rel=0.15)
