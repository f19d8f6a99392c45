"""What an expert layer launches and sends, by hand and by law."""

import itertools
from dataclasses import replace

import pytest

from predictor.case import Case, resolve
from predictor.errors import CaseError
from predictor.iteration import estimate
from predictor.iteration.implementations import hf_eager, megatron_core_te, te_moe
from predictor.iteration.launches import Launch, Sync, Tape, Wait
from predictor.iteration.layer_parts import Experts
from predictor.iteration.moe.dispatch import combine, dispatch
from predictor.iteration.moe.mapping import places_visited
from predictor.iteration.shape import stages_of, step_shape
from predictor.operators import Collective, Gemm, GroupedGemm, MemoryBound

H, F, K, N = 4096, 14336, 2, 4096


def case(model="mixtral-8x7b", gpus=8, implementation="megatron-core-te", plan=None, **training):
    moe = training.pop("moe", {})
    return Case.from_dict(
        {
            "model": {"preset": model, **({"moe": moe} if moe else {})},
            "training": {"seq_length": N, "global_batch_size": 16 * gpus} | training,
            "plan": {"tensor_parallel": 1, "expert_parallel": gpus} | (plan or {}),
            "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": gpus},
            "implementation": implementation,
        }
    )


def shape_of(*args, **kwargs):
    return step_shape(resolve(case(*args, **kwargs)).case)


def layer_of(shape, asked):
    return stages_of(resolve(asked).case, shape)[0].chunks[0].blocks[-1].layer


def steps_of(stack, asked):
    shape = step_shape(resolve(asked).case)
    part = stack.STACK.layer(shape, layer_of(shape, asked))
    return part.forward, part.backward


def flops(steps):
    return sum(
        s.operator.flops
        for s in steps
        if isinstance(s, Launch) and isinstance(s.operator, Gemm | GroupedGemm)
    )


def collectives(steps):
    return [
        s.operator for s in steps if isinstance(s, Launch) and isinstance(s.operator, Collective)
    ]


@pytest.mark.parametrize(
    ("stack", "gpus", "plan"),
    [
        (hf_eager, 1, {}),
        (megatron_core_te, 8, {}),
        (megatron_core_te, 8, {"moe_experts": "sequential"}),
        (megatron_core_te, 8, {"moe_dispatcher": "deepep"}),
        (megatron_core_te, 8, {"tensor_parallel": 2, "expert_parallel": 4}),
    ],
)
def test_products_of_a_layer_are_those_of_the_visited_experts(stack, gpus, plan):
    forward, backward = steps_of(stack, case(gpus=gpus, implementation=stack.STACK.name, plan=plan))
    tensor = plan.get("tensor_parallel", 1)
    attention = H * (2 * 4096 + 2 * 1024) * N // tensor
    router = H * 8 * N // tensor
    experts = 3 * H * F * N * K // tensor
    assert flops(forward) == 2 * (attention + router + experts)
    assert flops(backward) == 4 * (attention + router + experts)


def test_all_to_all_sends_every_copy_there_and_back():
    forward, backward = steps_of(megatron_core_te, case())
    row = N * K * H * 2
    sent = [c.bytes for c in collectives(forward) if c.name == "all_to_all"]
    assert sent == [row, N * K * 4, row]
    back = [c.bytes for c in collectives(backward) if c.name == "all_to_all"]
    assert sorted(back) == sorted(sent)


def test_the_host_reads_the_counts_once_a_forward_pass_unless_experts_are_padded():
    forward, backward = steps_of(megatron_core_te, case())
    assert sum(isinstance(s, Sync) for s in forward) == 1
    assert not any(isinstance(s, Sync) for s in backward)
    padded = case(moe={"capacity_factor": 1.0, "pad_to_capacity": True})
    assert not any(isinstance(s, Sync) for s in steps_of(megatron_core_te, padded)[0])


@pytest.mark.parametrize(("dispatcher", "queued"), [("alltoall", True), ("deepep", False)])
def test_the_host_reads_the_counts_behind_the_permutation_or_inside_deepep(dispatcher, queued):
    plan = {"moe_dispatcher": dispatcher, "moe_permute_fusion": True}
    forward, backward = steps_of(megatron_core_te, case(plan=plan))
    names = [getattr(s.operator, "kernel", "") if isinstance(s, Launch) else s for s in forward]
    read = next(at for at, name in enumerate(names) if isinstance(name, Sync))
    moved = next(at for at, name in enumerate(names) if str(name).startswith("permute"))
    assert (moved < read) is queued
    maps = names[moved - 4 : moved]
    assert maps[1:] == ["copy"] * 3  # rows of the map of tokens to experts
    assert (maps[0] == "copy") is not queued  # that map, of what DeepEP lists
    again = [getattr(s.operator, "kernel", "") for s in backward if isinstance(s, Launch)]
    at = next(at for at, name in enumerate(again) if name.startswith("permute"))
    assert again[at - 1] != "copy"


def test_an_ungated_activation_runs_eagerly_its_probability_in_fp32():
    """No fusion knows it: 16 bytes a number forward, 6 + 8 + 6 + 6 and 10 + 4 backward."""
    asked = case()
    shape = step_shape(resolve(asked).case)
    layer = replace(layer_of(shape, asked), gated=False)
    for run, bytes_each in ((te_moe.experts_forward, 16), (te_moe.experts_backward, 40)):
        tape = Tape()
        run(tape, shape.routed(layer))
        streams = [s.operator for s in tape.steps() if isinstance(s.operator, MemoryBound)]
        assert sum(o.bytes for o in streams) == pytest.approx(bytes_each * N * K * F, rel=1e-3)


def transfers(dispatcher, gpus=16, model="qwen3-30b-a3b", **plan):
    asked = case(model, gpus=gpus, plan={"moe_dispatcher": dispatcher, **plan})
    shape = step_shape(resolve(asked).case)
    rows = shape.routed(layer_of(shape, asked))
    ways = (dispatch, combine)
    return [
        [(c.name, c.bytes, c.ranks) for c, _ in way(rows.experts, rows.plan, 2.0, 1000) if c]
        for way in ways
    ]


def test_dispatchers_send_what_they_say():
    assert transfers("allgather") == [
        [("all_gather", 2 * 1000 * 16, 16)],
        [("reduce_scatter", 2 * 1000 * 16, 16)],
    ]
    two_level = [("all_to_all", 16000, 2), ("all_to_all", 16000, 8)]
    assert transfers("hierarchical") == [two_level, two_level[::-1]]
    (across, inside), _ = transfers("deepep")
    assert across[1] == pytest.approx(2000 * places_visited(experts(128, 8), 2), abs=2)
    assert inside[1] == pytest.approx(2000 * places_visited(experts(128, 8), 16), abs=2)
    assert across[1] < 16000


def test_fp8_and_compression_shrink_what_is_sent():
    plain = steps_of(megatron_core_te, case())[0]
    small = steps_of(megatron_core_te, case(plan={"moe_dispatch_dtype": "fp8"}))[0]
    half = steps_of(megatron_core_te, case(plan={"moe_compression": 0.5}))[0]
    sizes = [
        [c.bytes for c in collectives(steps) if c.name == "all_to_all"]
        for steps in (plain, small, half)
    ]
    assert sizes[1] == [sizes[0][0] // 2, sizes[0][1], sizes[0][2]]
    assert sizes[2] == [size // 2 for size in sizes[0]]


def experts(total, top_k, **groups):
    return Experts(total=total, held=1, top_k=top_k, ffn=1, **groups)


@pytest.mark.parametrize(
    ("total", "top_k", "places", "expected"),
    [(4, 1, 4, 1.0), (4, 4, 4, 4.0), (4, 2, 2, 2 * (1 - 1 / 6)), (8, 2, 1, 1.0)],
)
def test_places_a_token_visits(total, top_k, places, expected):
    assert places_visited(experts(total, top_k), places) == pytest.approx(expected)


@pytest.mark.parametrize("places", [1, 2, 4, 12])
@pytest.mark.parametrize(
    ("groups", "visited", "top_k"), [(4, 2, 3), (4, 1, 2), (2, 1, 3), (3, 3, 2)]
)
def test_places_of_tokens_limited_to_groups_by_enumeration(groups, visited, top_k, places):
    size = 12 // groups
    counts = [
        len({expert // (12 // places) for expert in chosen})
        for picked in itertools.combinations(range(groups), visited)
        for chosen in itertools.combinations(
            [group * size + at for group in picked for at in range(size)], top_k
        )
    ]
    limited = experts(12, top_k, groups=groups, groups_visited=visited)
    assert places_visited(limited, places) == pytest.approx(sum(counts) / len(counts))


@pytest.mark.parametrize(
    ("total", "top_k", "places", "expected"),
    [(256, 8, 8, 1.0), (256, 8, 64, 2.0), (12, 4, 2, 1 + (4 - 2) / 6), (12, 4, 12, 4.0)],
)
def test_places_of_consecutive_experts_by_enumeration(total, top_k, places, expected):
    held = total // places
    starts = range(0, total * top_k, top_k)
    visited = [len({(s + i) % total // held for i in range(top_k)}) for s in starts]
    assert sum(visited) / len(visited) == pytest.approx(expected)
    found = places_visited(experts(total, top_k), places, consecutive=True)
    assert found == pytest.approx(expected)


def test_experts_are_folded_apart_from_attention():
    shape = shape_of(
        gpus=32, plan={"tensor_parallel": 4, "expert_parallel": 8, "expert_tensor_parallel": 1}
    )
    plan = shape.experts
    assert (shape.data.ranks, plan.expert.ranks, plan.tensor.ranks, plan.data.ranks) == (8, 8, 1, 4)
    assert plan.expert.ranks_per_node == 8
    assert plan.data.ranks_per_node == 1


def test_gradients_of_experts_are_summed_over_those_that_hold_the_same():
    asked = resolve(case(gpus=16, plan={"expert_parallel": 8, "sharding": "none"})).case
    shape = step_shape(asked)
    (stage,) = stages_of(asked, shape)
    replicas = megatron_core_te.STACK.replicas(stage)
    assert replicas.reduce == "all_reduce"
    assert stage.expert_parameters == 32 * 3 * H * F
    assert shape.experts.data.ranks == 2
    whole = estimate(case(gpus=16, plan={"expert_parallel": 16 // 2}))
    assert whole.iteration_seconds > 0


def test_owned_states_of_experts_are_split_over_their_own_replicas():
    asked = resolve(case(gpus=16, plan={"expert_parallel": 8})).case
    (stage,) = stages_of(asked, step_shape(asked))
    dense = stage.parameters - stage.expert_parameters
    assert stage.owned_parameters == -(-dense // 16) + stage.expert_parameters // 2


def seconds(**changed):
    return estimate(case("qwen3-30b-a3b", gpus=16, **changed)).iteration_seconds


def test_imbalance_costs_time_and_memory():
    even = estimate(case("qwen3-30b-a3b", gpus=16))
    skewed = estimate(case("qwen3-30b-a3b", gpus=16, moe={"imbalance": 1.5}))
    assert skewed.iteration_seconds > even.iteration_seconds
    assert skewed.memory_bytes_per_gpu > even.memory_bytes_per_gpu
    dropped = estimate(
        case("qwen3-30b-a3b", gpus=16, moe={"imbalance": 1.5, "capacity_factor": 1.0})
    )
    assert dropped.iteration_seconds == pytest.approx(even.iteration_seconds)


def test_overlap_and_sparing_dispatchers_never_cost_more():
    told = {"moe_dispatcher": "alltoall", "moe_permute_fusion": True}
    plain = seconds(plan=told)
    assert seconds(plan=told | {"moe_overlap": True}) < plain
    assert seconds(plan=told | {"moe_dispatcher": "deepep"}) < plain
    assert seconds(plan=told | {"moe_compression": 0.25}) < plain


def test_batched_experts_run_as_many_rows_as_the_fullest_has():
    uneven = {"expert_tokens": [4.0, 2.0, 1.0, 1.0, 4.0, 2.0, 1.0, 1.0]}
    plan = {"expert_parallel": 2}
    flops_of = [
        flops(steps_of(megatron_core_te, case(gpus=2, moe=moe, plan=plan | how))[0])
        for moe in ({}, uneven)
        for how in ({"moe_experts": "grouped"}, {"moe_experts": "batched"})
    ]
    assert flops_of[0] == flops_of[1] == flops_of[2] < flops_of[3]


def test_a_prediction_module_adds_a_layer_and_a_loss():
    plan = {"pipeline_parallel": 16, "expert_parallel": 64}
    with_module = case("deepseek-v3", gpus=1024, plan=plan, global_batch_size=1024)
    without = with_module.replace(model={"mtp_num_layers": 0})
    longer, shorter = (estimate(c).iteration_seconds for c in (with_module, without))
    assert shorter < longer


def test_shared_experts_may_run_beside_dispatch():
    plan = {"pipeline_parallel": 16, "expert_parallel": 64}
    asked = {"gpus": 1024, "global_batch_size": 1024}
    plain = estimate(case("deepseek-v3", plan=plan, **asked))
    beside = estimate(case("deepseek-v3", plan=plan | {"moe_shared_overlap": True}, **asked))
    assert beside.iteration_seconds < plain.iteration_seconds


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ({"expert_parallel": 3}, "must divide num_experts"),
        ({"expert_parallel": 8, "expert_tensor_parallel": 2}, "must divide the ranks"),
    ],
)
def test_a_mapping_that_cannot_be_is_refused_in_words(plan, words):
    with pytest.raises(CaseError, match=words):
        case(plan=plan)


def test_a_fully_sharded_layer_gathers_its_own_parameters_twice_and_reduces_once():
    asked = case(gpus=16, plan={"expert_parallel": 4, "sharding": "parameters"})
    forward, backward = steps_of(megatron_core_te, asked)
    resolved = resolve(asked).case
    shape = step_shape(resolved)
    layer = layer_of(shape, asked)
    weights = [2 * layer.dense_parameters, 2 * layer.expert_parameters]
    counts = 8 * 8 * 4
    for steps in (forward, backward):
        gathered = [c.bytes for c in collectives(steps) if c.name == "all_gather"]
        assert [size for size in gathered if size != counts] == weights
    reduced = [(c.bytes, c.ranks) for c in collectives(backward) if c.name == "reduce_scatter"]
    assert reduced == [(4 * layer.dense_parameters, 16), (4 * layer.expert_parameters, 4)]
    (stage,) = stages_of(resolved, shape)
    assert megatron_core_te.STACK.replicas(stage).reduce is None


@pytest.mark.parametrize(
    ("tensor", "architecture", "first"),
    [(1, "Hopper", Wait), (2, "Hopper", Launch), (2, "Blackwell", Wait)],
)
def test_one_hardware_queue_hides_no_forward_gather(tensor, architecture, first):
    plan = {"tensor_parallel": tensor, "expert_parallel": 4, "sharding": "parameters"}
    asked = case(gpus=16, plan=plan)
    shape = replace(step_shape(resolve(asked).case), architecture=architecture)
    part = megatron_core_te.STACK.layer(shape, layer_of(shape, asked))
    for steps, begins in ((part.forward, first), (part.backward, Wait)):
        mine = [s for s in steps if getattr(s, "stream", "") == "data"]
        assert isinstance(mine[0], begins)
        assert sum(isinstance(s, Wait) for s in mine) == 1


def test_sharding_parameters_takes_memory_away_and_costs_time():
    plans = [{"expert_parallel": 4, "sharding": kind} for kind in ("optimizer", "parameters")]
    split, whole = (estimate(case(gpus=16, plan=plan)) for plan in plans)
    assert whole.memory_bytes_per_gpu < split.memory_bytes_per_gpu
    assert whole.iteration_seconds > split.iteration_seconds


def test_biased_experts_move_what_their_eager_kernels_do():
    # 4096 x 4 rows; bytes an element of the second product's output and of an activation
    plan = {"expert_parallel": 1, "moe_permute_fusion": True}
    asked = case("gpt-oss-20b", gpus=1, plan=plan, recompute="none")
    biased = steps_of(megatron_core_te, asked)
    rows, hidden, ffn = N * 4, 2880, 2880
    moved = [
        sum(
            step.operator.bytes
            for step in part
            if isinstance(step, Launch)
            and getattr(step.operator, "impl", "") == "torch"
            and getattr(step.operator, "rows", 0) == rows
        )
        for part in biased
    ]
    forward = rows * (ffn * (2 * 4 + 2 * 4) + hidden * (8 + 12 + 8 + 6))
    backward = rows * (ffn * (3 * 4 + 2 * 5 + 2 * 4) + hidden * (6 + 6 + 2 * (8 + 4) + 4))
    assert moved == pytest.approx([forward, backward], rel=1e-3)


def eager_rows(part, rows):
    """Kernels over experts' rows beside products and permutation."""
    return [
        s.operator.kernel
        for s in part
        if isinstance(s, Launch)
        and isinstance(s.operator, MemoryBound)
        and s.operator.rows == rows
        and not s.operator.kernel.endswith(("permute_top2", "permute_top8", "copy"))
    ]


@pytest.mark.parametrize(
    ("model", "forward", "backward"),
    [
        ("qwen3-30b-a3b", ["cast_transpose_fp8"], ["cast_transpose_fp8"]),
        ("gpt-oss-20b", ["cast_transpose_fp8"], ["sum_rows", "cast_transpose_fp8"]),
    ],
)
def test_fused_products_activate_and_cast_what_they_write(model, forward, backward):
    # grouped_mlp.py of 2026: what enters the first product and the output's gradient is cast apart
    plan = {"expert_parallel": 8, "moe_experts": "fused", "moe_dispatcher": "deepep"}
    asked = case(model, plan=plan, precision="mxfp8", recompute="none")
    gb300 = replace(asked, cluster=replace(asked.cluster, gpu="gb300"))
    shape = step_shape(resolve(gb300).case)
    rows = shape.routed(layer_of(shape, gb300)).rows
    parts = steps_of(megatron_core_te, gb300)
    assert [eager_rows(part, rows) for part in parts] == [forward, backward]
    plain = replace(gb300, plan=replace(gb300.plan, moe_experts="grouped"))
    assert flops(steps_of(megatron_core_te, plain)[1]) == flops(parts[1])


def test_a_clamped_activation_stops_the_host_where_it_is_made_and_where_it_runs_again():
    # fused_bias_geglu.py: an offset goes to the device by a copy that the host waits for
    plan = {"expert_parallel": 1, "moe_permute_fusion": True}
    for model, modules, expected in (
        ("gpt-oss-20b", [], [1, 0]),
        ("gpt-oss-20b", ["moe_act"], [1, 1]),
        ("mixtral-8x7b", ["moe_act"], [0, 0]),
    ):
        asked = case(model, gpus=1, plan=plan, recompute="selective", recompute_modules=modules)
        parts = steps_of(megatron_core_te, asked)
        assert [sum(isinstance(s, Sync) for s in part) for part in parts] == expected


def test_probabilities_gradients_are_a_kernel_of_their_own():
    # fused_bias_swiglu.py: 10 bytes a number for the input's gradient, 6 for the sum over columns
    _, backward = steps_of(megatron_core_te, case("mixtral-8x7b", gpus=1))
    rows, ffn = N * 2, 14336
    compiled = [
        step.operator
        for step in backward
        if isinstance(step, Launch) and getattr(step.operator, "impl", "") == "inductor"
    ]
    assert [each.rows * each.cols for each in compiled] == [rows * ffn] * 2
    assert [each.bytes for each in compiled] == [10 * rows * ffn, 6 * rows * ffn]


@pytest.mark.parametrize(
    ("precision", "recipe", "rows"),
    [("mxfp8", "mxfp8", 10944), ("fp8", "current", 10928), ("nvfp4", "nvfp4", 11008)],
)
def test_small_numbers_fill_each_experts_rows_up(precision, recipe, rows):
    """2·4096·8 copies over six experts are 10,922.7 each: to multiples of 32, 16, 128."""
    asked = case("kimi-k2", 64, precision=precision, micro_batch_size=2, fp8_recipe=recipe)
    asked = asked.replace(cluster={"gpu": "gb300"})
    shape = step_shape(resolve(asked).case)
    routed = shape.routed(layer_of(shape, asked))
    product = routed.grouped(7168, 2048, "wgrad", impl="multi_stream", recipe=shape.recipe)
    assert product.counts == routed.each(shape.recipe) == (rows,) * 6
    assert sorted(routed.each()) == [10922] * 2 + [10923] * 4


def test_a_step_reads_updates_copies_and_clears_what_megatron_core_does():
    """Bytes a parameter: a look at all 4, norm 4, scale 8, AdamW 28, weights 6, the buffer 4."""
    asked = case("mixtral-8x7b", 8)
    shape = step_shape(resolve(asked).case)
    (stage,) = stages_of(resolve(asked).case, shape)
    stack = megatron_core_te.STACK
    launches = [
        launch
        for program in (stack.reduced(stage), stack.optimizer(stage))
        for segment, _ in program
        for launch in segment.launches
        if not isinstance(launch.operator, Collective)
    ]
    owned, whole = stage.owned_parameters, stage.parameters
    found = [launch.operator.bytes for launch in launches]
    assert found == pytest.approx(
        [4 * whole, 4 * owned, 8 * owned, 28 * owned, 6 * owned, 4 * whole], rel=1e-3
    )
    # A rank holds one expert of each of 32 layers: two tensors more than a module's.
    tensors = stage.tensors + 32 * 2
    assert launches[4].kernels == -(-tensors * owned // whole)
