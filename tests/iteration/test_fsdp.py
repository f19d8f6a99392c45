"""Fully sharded stacks and nanotron: collectives, copies and products of one layer by hand."""

import pytest
from launched import first_layer, operators

from predictor.case import Case, resolve
from predictor.costs import load_costs
from predictor.iteration import estimate
from predictor.iteration.collectives import collective_costs
from predictor.iteration.implementations import load
from predictor.iteration.launches import Sync
from predictor.iteration.shape import stages_of, step_shape
from predictor.operators import AllGather, AllReduce, Attention, Gemm, MemoryBound, ReduceScatter

LLAMA_1B = {
    "num_layers": 16,
    "hidden_size": 2048,
    "ffn_hidden_size": 8192,
    "num_attention_heads": 32,
    "num_query_groups": 8,
    "head_dim": 64,
    "vocab_size": 128256,
    "gated_mlp": True,
    "tied_embeddings": True,
}
MPT_1B = {
    "num_layers": 24,
    "hidden_size": 2048,
    "ffn_hidden_size": 8192,
    "num_attention_heads": 16,
    "vocab_size": 50368,
    "gated_mlp": False,
}
LAYER = 2048 * (2 * 2048 + 2 * 512) + 3 * 2048 * 8192 + 2 * 2048  # parameters of a Llama layer


def case(stack, gpus=2, plan=None, model=None, training=None, cluster=None):
    return Case.from_dict(
        {
            "model": model or LLAMA_1B,
            "training": {"seq_length": 4096, "micro_batch_size": 2, "global_batch_size": 2 * gpus}
            | (training or {}),
            "plan": {"tensor_parallel": 1} | (plan or {}),
            "cluster": {"gpu": "h200-sxm5-141gb", "num_gpus": gpus, "gpus_per_node": 8}
            | (cluster or {}),
            "implementation": stack,
        }
    )


def parts(asked):
    layer, _ = first_layer(asked)
    asked = resolve(asked).case
    shape = step_shape(asked)
    stack = load(str(asked.implementation))
    return layer, stack.embedding(shape), stack.head(shape)


@pytest.mark.parametrize(
    ("stack", "dtype", "size"), [("hf-fsdp2", "fp32", 4), ("fsdp-eager", "bf16", 2)]
)
def test_a_block_is_gathered_twice_and_reduced_once(stack, dtype, size):
    layer, _, _ = parts(case(stack))
    for steps in (layer.forward, layer.entry):
        (gather,) = operators(steps, AllGather)
        assert (gather.bytes, gather.ranks) == (2 * LAYER, 2)
    (scatter,) = operators(layer.backward, ReduceScatter)
    assert (scatter.bytes, scatter.dtype) == (size * LAYER, dtype)
    assert not operators(layer.backward, AllGather)


def test_parameters_that_stay_are_gathered_once():
    layer, _, _ = parts(case("llm-foundry", model=MPT_1B, plan={"sharding": "gradients"}))
    assert len(operators(layer.forward, AllGather)) == 1
    assert layer.entry == ()


def test_replicas_of_a_sharding_group_sum_their_shards():
    layer, _, _ = parts(case("fsdp-compile", gpus=16, plan={"sharding_group": 8}))
    (scatter,) = operators(layer.backward, ReduceScatter)
    (total,) = operators(layer.backward, AllReduce)
    assert (scatter.ranks, total.ranks) == (8, 2)
    assert total.bytes == scatter.bytes // 8


def test_the_root_holds_the_tied_table_and_the_last_norm():
    _, embedding, head = parts(case("hf-fsdp2"))
    root, block = operators(embedding.forward, AllGather)
    assert root.bytes == 2 * (128256 + 1) * 2048
    assert block.bytes == 2 * LAYER
    assert operators(embedding.backward, ReduceScatter)[0].bytes == 2 * root.bytes
    assert not operators(head.forward + head.backward, AllGather)


def test_peak_of_two_gpus_within_one_percent_of_the_measured_one():
    assert estimate(case("hf-fsdp2")).memory_bytes_per_gpu == pytest.approx(
        35_117_420_544, rel=0.01
    )


def test_selective_recompute_of_torchtitan_runs_every_second_product_again():
    plain, _, _ = parts(case("torchtitan"))
    layer, _, _ = parts(case("torchtitan", training={"recompute": "selective"}))
    again = len(operators(layer.backward, Gemm)) - len(operators(plain.backward, Gemm))
    assert (len(operators(plain.forward, Gemm)), again) == (7, 3)
    assert len(operators(layer.backward, Attention)) == 1


def test_mosaic_layers_read_three_lengths_on_the_host():
    layer, _, _ = parts(case("llm-foundry", model=MPT_1B))
    assert sum(isinstance(step, Sync) for step in layer.forward) == 3
    assert [op.n for op in operators(layer.forward, Gemm)] == [3 * 2048, 2048, 8192, 2048]


def test_mosaic_layers_on_a100_run_attention_in_triton_on_whole_sequences():
    layer, _, _ = parts(case("llm-foundry", model=MPT_1B, cluster={"gpu": "a100-sxm4-80gb"}))
    assert not any(isinstance(step, Sync) for step in layer.forward)
    (forward,) = operators(layer.forward, Attention)
    (backward,) = operators(layer.backward, Attention)
    # arXiv:2307.08691, section 4.1: 1.3 to 1.5 and around 2 times FlashAttention-2, of 16 heads
    assert (forward.num_heads, forward.num_query_groups, forward.impl) == (22, 22, "flash")
    assert (backward.num_heads, backward.num_query_groups, backward.impl) == (32, 32, "flash")
    other, _, _ = parts(case("llm-foundry", model=MPT_1B))
    assert [op.num_heads for op in operators(other.forward, Attention)] == [16, 16]


def test_mosaic_products_in_8_bits_cast_inputs_weights_and_gradients():
    asked = case("llm-foundry", model=MPT_1B, training={"precision": "fp8"})
    layer, _, head = parts(asked)
    products = operators((*layer.forward, *layer.backward), Gemm)
    assert [op.dtype for op in products] == ["fp8"] * 12
    assert not any(op.accumulate for op in products)  # autograd adds up micro-batches
    casts = [
        (op.rows, op.cols)
        for op in operators(layer.forward, MemoryBound)
        if op.kernel == "cast_transpose_fp8"
    ]
    rows = 2 * 4096
    assert casts[:2] == [(rows, 2048), (3 * 2048, 2048)]  # of queries, keys and values
    assert len(casts) == 8  # four inputs, four weights
    assert {op.dtype for op in operators(head.forward, Gemm)} == {"bf16"}


def test_nanotron_sends_eight_gathers_and_scatters_a_layer():
    layer, _, _ = parts(case("nanotron", gpus=4, plan={"tensor_parallel": 4}))
    size = 2 * 2 * 4096 * 2048
    counts = [
        (len(operators(steps, AllGather)), len(operators(steps, ReduceScatter)))
        for steps in (layer.forward, layer.backward)
    ]
    assert counts == [(2, 2), (4, 2)]
    assert {op.bytes for op in operators(layer.forward, AllGather)} == {size}


def test_nanotron_splits_column_products_by_whose_tokens_have_come():
    layer, _, _ = parts(case("nanotron", gpus=4, plan={"tensor_parallel": 4}))
    rows = [op.m for op in operators(layer.forward, Gemm)]
    assert rows == [2048, 2048, 4096, 8192, 2048, 2048, 4096, 8192]


def test_nanotron_sums_all_tokens_where_activations_are_not_split():
    plan = {"tensor_parallel": 4, "sequence_parallel": False}
    layer, embedding, head = parts(case("nanotron", gpus=4, plan=plan))
    size = 2 * 2 * 4096 * 2048
    for steps in (layer.forward, layer.backward):  # two row products, two columns' inputs
        assert [op.bytes for op in operators(steps, AllReduce)] == [size, size]
        assert not operators(steps, AllGather) + operators(steps, ReduceScatter)
    assert [op.m for op in operators(layer.forward, Gemm)] == [2 * 4096] * 4
    assert [op.bytes for op in operators(embedding.forward, AllReduce)] == [size]
    assert not operators(embedding.backward, AllGather)
    assert [op.bytes for op in operators(head.backward, AllReduce)] == [size]


def test_collectives_of_the_playbooks_pipelines_are_checked_as_soon_as_stages_lie_apart():
    plan = {"tensor_parallel": 4, "pipeline_parallel": 2}
    near, far = (parts(case("nanotron", gpus=gpus, plan=plan)) for gpus in (8, 16))
    assert [part.call_seconds for part in near] == [0.0] * 3
    assert [part.call_seconds for part in far] == pytest.approx([4 * 200e-6] * 3)
    plan = {"tensor_parallel": 16, "pipeline_parallel": 2}
    across = parts(case("nanotron", gpus=32, plan=plan))
    assert [part.call_seconds for part in across] == pytest.approx([16 * 260e-6] * 3)
    released = parts(case("nanotron-released", gpus=32, plan=plan))
    assert [part.call_seconds for part in released] == [0.0] * 3


def test_nanotron_says_twice_what_a_tensor_is_before_it_sends_it():
    plan = {"tensor_parallel": 2, "pipeline_parallel": 2}
    shape = step_shape(resolve(case("nanotron", gpus=4, plan=plan)).case)
    down, up = load("nanotron").announcements(shape)
    assert up == (56, 48)
    assert down == (*up, shape.tokens, *up)  # the tokens' mask goes with the activations alone


@pytest.mark.parametrize(
    ("gpus", "tensor", "sharding", "sleeps"),
    [
        (256, 4, "optimizer", 5),  # 32 replicas: behind the last that was run again
        (256, 8, "optimizer", 0),  # 16: the last
        (512, 16, "optimizer", 5),
        (64, 32, "none", 5),
        (64, 4, "none", 5),  # 8 replicas
        (32, 2, "none", 0),
        (64, 1, "none", 0),  # 32 replicas
        (32, 16, "none", 0),  # one replica
    ],
)
def test_some_of_the_playbooks_pipelines_sleep_while_they_wait(gpus, tensor, sharding, sleeps):
    plan = {"pipeline_parallel": 2, "tensor_parallel": tensor, "sharding": sharding}
    asked = resolve(case("nanotron", gpus=gpus, plan=plan)).case
    shape = step_shape(asked)
    assert load("nanotron").message_wait(shape) == pytest.approx(0.1 * sleeps)
    assert load("nanotron-released").message_wait(shape) == 0.0


def test_nanotron_moves_on_behind_a_stages_share_of_the_products():
    # Of 28 layers of 113.2 M and a head of 402.7 M, an eighth is 446.7 M: four layers are more.
    model = {
        "num_layers": 28,
        "hidden_size": 3072,
        "ffn_hidden_size": 8192,
        "num_attention_heads": 32,
        "vocab_size": 131072,
        "gated_mlp": True,
    }
    for stages, expected in ((1, (28,)), (2, (16, 12)), (4, (8, 8, 8, 4)), (8, (4,) * 7 + (0,))):
        plan = {"pipeline_parallel": stages}
        asked = resolve(case("nanotron", gpus=stages, plan=plan, model=model)).case
        assert load("nanotron").layers(asked.model, asked.plan) == expected
    assert estimate(case("nanotron", gpus=8, plan=plan, model=model)).iteration_seconds > 0


def test_nanotron_moves_on_where_a_share_falls_between_two_layers():
    # Sixteen layers of 67.1 M and a head of exactly four layers' cost: a quarter is five.
    model = LLAMA_1B | {"num_query_groups": 32, "vocab_size": 131072}
    for stages, expected in ((2, (10, 6)), (4, (5, 5, 5, 1)), (8, (3, 2, 3, 2, 3, 2, 1, 0))):
        plan = {"pipeline_parallel": stages}
        asked = resolve(case("nanotron", gpus=stages, plan=plan, model=model)).case
        assert load("nanotron").layers(asked.model, asked.plan) == expected


def test_bytes_in_a_node_move_no_faster_than_the_clusters_network_was_published_with():
    p5 = {"gpu": "h100-sxm5-80gb", "network": "aws-p5-efa"}
    asked = resolve(case("nanotron", gpus=16, cluster=p5)).case
    costs = load_costs(asked.cluster.gpu)
    ring = AllGather(bytes=256_000_000, ranks=8, ranks_per_node=8)
    seconds = collective_costs(asked, costs)([ring]).seconds[0]
    assert ring.bus_bytes / seconds == pytest.approx(250e9)


def test_nanotron_sums_the_whole_fp32_gradient_with_zero_1():
    asked = resolve(case("nanotron", gpus=8, plan={"sharding": "optimizer"})).case
    stage = stages_of(asked, step_shape(asked))[0]
    agreed = load("nanotron").replicas(stage)
    assert (agreed.reduce, agreed.gradient_bytes, agreed.overlap_reduce) == ("all_reduce", 4, False)
    assert agreed.gather_bytes == 2


@pytest.mark.parametrize(
    "stack", ["hf-fsdp2", "torchtitan", "llm-foundry", "fsdp-eager", "fsdp-compile", "jax-xla"]
)
def test_full_recompute_takes_time_and_saves_memory(stack):
    model = MPT_1B if stack == "llm-foundry" else LLAMA_1B
    plain, full = (
        estimate(case(stack, gpus=8, model=model, training={"recompute": recompute}))
        for recompute in ("none", "full")
    )
    assert full.iteration_seconds > plain.iteration_seconds
    assert full.memory_bytes_per_gpu < plain.memory_bytes_per_gpu


def test_selective_recompute_of_fms_runs_every_second_block_again():
    plain, half, full = (
        estimate(case("fsdp-compile", training={"recompute": how})).iteration_seconds
        for how in ("none", "selective", "full")
    )
    assert half - plain == pytest.approx((full - plain) / 2, rel=0.1)


@pytest.mark.parametrize(
    ("stack", "model"),
    [
        ("hf-fsdp2", LLAMA_1B),
        ("fsdp-eager", LLAMA_1B),
        ("fsdp-compile", LLAMA_1B),
        ("torchtitan", LLAMA_1B),
        ("llm-foundry", MPT_1B),
    ],
)
def test_a_replay_ends_before_the_product_whose_result_no_gradient_needs(stack, model):
    layer, _, _ = parts(case(stack, model=model, training={"recompute": "full"}))
    forward, replay = (
        sum(each.flops for each in operators(steps, Gemm))
        for steps in (layer.forward, layer.replay)
    )
    assert forward - replay == 2 * (2 * 4096) * 2048 * 8192  # two sequences, down from 8192


def test_a_reentrant_checkpoint_replays_all_of_a_block():
    # te.Linear has no other kind (llm-foundry 00b4bae scripts/train/train.py)
    training = {"recompute": "full", "precision": "fp8"}
    layer, _, _ = parts(case("llm-foundry", model=MPT_1B, training=training))
    assert operators(layer.replay, Gemm) == operators(layer.forward, Gemm)
    shard, *forward = operators(layer.forward, MemoryBound)
    assert shard.kernel == "cast_down"  # FSDP1's own, before it gathers
    assert operators(layer.replay, MemoryBound) == forward
