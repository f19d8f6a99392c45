"""Megatron-LM's arguments and recipes of Megatron-Core: fields, defaults and what is listed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.case.importers import Imported, case_from_files, merged
from predictor.case.importers.megatron_arguments import read_arguments
from predictor.case.importers.megatron_fields import pattern_of
from predictor.case.importers.nemo import read_recipe
from predictor.errors import CaseError

LLAMA = (
    "torchrun --nproc_per_node 8 --nnodes 2 pretrain_gpt.py --num-layers 32 --hidden-size 4096 "
    "--ffn-hidden-size 14336 --num-attention-heads 32 --group-query-attention --num-query-groups 8 "
    "--seq-length 8192 --max-position-embeddings 8192 --position-embedding-type rope "
    "--normalization RMSNorm --swiglu --untie-embeddings-and-output-weights --disable-bias-linear "
    "--attention-dropout 0 --hidden-dropout 0 --micro-batch-size 1 --global-batch-size 128 --bf16 "
    "--tensor-model-parallel-size 4 --pipeline-model-parallel-size 2 --sequence-parallel "
    "--use-distributed-optimizer"
)


def values(imported: Imported, **given_fields: Any) -> dict[str, Any]:
    flags = {key.replace("__", "."): value for key, value in given_fields.items()}
    return {path: found.value for path, found in merged([imported], flags).fields.items()}


def test_a_llama_is_read_whole() -> None:
    imported = read_arguments("a.sh", LLAMA)
    found = values(imported)
    expected = {
        "model.num_layers": 32,
        "model.ffn_hidden_size": 14336,
        "model.num_query_groups": 8,
        "model.gated_mlp": True,
        "model.activation": "silu",
        "model.normalization": "rmsnorm",
        "model.position_embedding": "rope",
        "model.tied_embeddings": False,
        "model.linear_bias": "none",
        "training.precision": "bf16",
        "training.recompute": "none",
        "plan.tensor_parallel": 4,
        "plan.pipeline_parallel": 2,
        "plan.context_parallel": 1,
        "plan.sequence_parallel": True,
        "plan.sharding": "optimizer",
        "cluster.num_gpus": 16,
        "cluster.gpus_per_node": 8,
        "implementation": "megatron-core-te",
    }
    assert {path: found.get(path) for path in expected} == expected
    assert imported.unknown == ()


def test_what_is_absent_is_megatrons_default() -> None:
    found = values(
        read_arguments(
            "a.sh", "x --num-layers 12 --hidden-size 768 --num-attention-heads 12 --fp16"
        ),
        cluster__num_gpus=4,
    )
    expected = {
        "model.gated_mlp": False,
        "model.activation": "gelu",
        "model.ffn_hidden_size": 4 * 768,
        "model.num_query_groups": 12,
        "model.normalization": "layernorm",
        "model.position_embedding": "learned",
        "model.tied_embeddings": True,
        "model.linear_bias": "all",
        "plan.sharding": "none",
        "plan.sequence_parallel": False,
        "training.global_batch_size": 4,  # one micro-batch of one sequence a replica
    }
    assert {path: found.get(path) for path in expected} == expected


def test_a_plan_alone_says_nothing_of_the_model() -> None:
    found = values(read_arguments("a.sh", "x --tensor-model-parallel-size 2 --bf16"))
    assert not [path for path in found if path.startswith("model.")]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("--recompute-granularity full --recompute-method uniform --recompute-num-layers 1",
         {"training.recompute": "full"}),
        ("--recompute-granularity full --recompute-method block --recompute-num-layers 5",
         {"training.recompute": "full", "training.recompute_layers": 5}),
        ("--recompute-activations", {"training.recompute": "selective"}),
        ("--recompute-granularity selective --recompute-modules core_attn mlp",
         {"training.recompute": "selective",
          "training.recompute_modules": ["core_attn", "mlp"]}),
        ("--fp8-format hybrid", {"training.precision": "fp8", "training.fp8_recipe": "delayed"}),
        ("--fp8-format e4m3 --fp8-recipe mxfp8", {"training.precision": "mxfp8"}),
        ("--grad-reduce-in-bf16", {"training.gradient_dtype": "bf16"}),
        ("--accumulate-allreduce-grads-in-fp32", {"training.gradient_dtype": "fp32"}),
        ("--num-layers-per-virtual-pipeline-stage 4", {"plan.virtual_pipeline": 4}),
        ("--num-virtual-stages-per-pipeline-rank 8", {"plan.virtual_pipeline": 8}),
        ("--decoder-first-pipeline-num-layers 14", {"plan.layers_per_stage": [14, 18]}),
        ("--context-parallel-size 2 --cp-comm-type a2a",
         {"plan.context_parallel": 2, "plan.context_parallel_kind": "ulysses"}),
        ("--use-torch-fsdp2", {"plan.sharding": "parameters"}),
        ("--use-megatron-fsdp --data-parallel-sharding-strategy optim_grads",
         {"plan.sharding": "gradients"}),
        ("--window-size (4095,0) --window-attn-skip-freq 4",
         {"model.attention_window": 4096, "model.full_attention_frequency": 4}),
        ("--transformer-impl local", {"implementation": "megatron-core-local"}),
        ("--kv-channels 256 --qk-layernorm", {"model.head_dim": 256, "model.qk_norm": True}),
        ("--num-distributed-optimizer-instances 2", {"plan.sharding_group": 1}),
        ("--vocab-size=128000", {"model.vocab_size": 128000}),
        ("--attention-backend flash", {"plan.attention_backend": "flash"}),
        ("--attention-backend fused", {"plan.attention_backend": None}),
        ("--attention-backend flash --transformer-impl local", {"plan.attention_backend": None}),
    ],
)  # fmt: skip
def test_an_argument_is_a_field(more: str, expected: dict[str, Any]) -> None:
    found = values(read_arguments("a.sh", f"{LLAMA} {more}"))
    assert {path: found.get(path) for path in expected} == expected


def test_experts_and_latent_attention() -> None:
    more = (
        "--num-experts 64 --moe-router-topk 6 --moe-ffn-hidden-size 1408 "
        "--moe-shared-expert-intermediate-size 2816 --moe-layer-freq ([0]*1+[1]*31) "
        "--moe-grouped-gemm --moe-token-dispatcher-type alltoall --expert-model-parallel-size 8 "
        "--multi-latent-attention --kv-lora-rank 512 --v-head-dim 128 --qk-head-dim 128"
    )
    found = values(read_arguments("a.sh", f"{LLAMA} {more}"))
    expected = {
        "model.moe.num_experts": 64,
        "model.moe.top_k": 6,
        "model.moe.shared_expert_ffn_hidden_size": 2816,
        "model.moe.first_dense_layers": 1,
        "plan.moe_experts": "grouped",
        "plan.moe_dispatcher": "alltoall",
        "plan.expert_parallel": 8,
        "model.mla.kv_lora_rank": 512,
        "model.mla.qk_rope_head_dim": 64,
        "model.head_dim": 192,
    }
    assert {path: found.get(path) for path in expected} == expected


def test_what_is_not_understood_is_listed_with_its_line_and_the_rest_by_name() -> None:
    imported = read_arguments(
        "a.sh",
        f"{LLAMA} \\\n --frobnicate 3 --lr 1e-4 --save /x \\\n"
        " --cuda-graph-impl local --no-rope-fusion",
    )
    words = "\n".join(imported.unknown)
    assert "a.sh:2: --frobnicate" in words
    assert "a.sh:3: --cuda-graph-impl" in words
    assert "a.sh:3: --no-rope-fusion" in words
    assert {"--lr", "--save"} <= set(imported.free)


def test_dropout_that_megatron_adds_by_itself_is_listed() -> None:
    imported = read_arguments("a.sh", LLAMA.replace("--attention-dropout 0 ", ""))
    assert any("attention-dropout" in words for words in imported.unknown)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("x --num-layers abc --bf16", "--num-layers = 'abc': must be a whole number"),
        ("x --num-layers 2 --bf16 --fp16", "cannot stand beside"),
        ("x --num-layers 2 --num-layers 3 --bf16", "keep one"),
        ("x --num-layers 2 --bf16\ny --num-layers 3 --bf16", "lines 1 and 2"),
        ("echo hello", "holds no command"),
        ("x --num-layers 2", "trains in fp32"),
        (f"{LLAMA} --num-layers-per-virtual-pipeline-stage 5", "must divide num_layers"),
        (f"{LLAMA} --cross-norm 1 --normalization GroupNorm", "known: LayerNorm"),
        (f"{LLAMA} --num-experts 8 --moe-layer-freq open('x')", "must be a number or a pattern"),
    ],
)
def test_what_cannot_be_is_one_error(script: str, words: str) -> None:
    with pytest.raises(CaseError) as raised:
        merged([read_arguments("a.sh", script)], {})
    assert words in str(raised.value)


def test_a_flag_decides_what_the_arguments_leave_open() -> None:
    imported = read_arguments("a.sh", "x --num-layers 2")
    assert values(imported, training__precision="bf16")["training.precision"] == "bf16"


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("2", 2),
        ("([0]*3+[1]*5)", [0, 0, 0, 1, 1, 1, 1, 1]),
        ("([1]*2+[0]*1)*2", [1, 1, 0, 1, 1, 0]),
        ([0, 1], [0, 1]),
        ("0", None),
        ("[1]*99999999", None),
        ("[2]", None),
        ("__import__('os')", None),
        ("(" * 400 + "1" + ")" * 400, None),
    ],
)
def test_a_pattern_of_layers_is_worked_out_without_running_it(
    text: object, pattern: object
) -> None:
    assert pattern_of(text) == pattern


@given(st.text(max_size=80))
def test_no_text_brings_more_than_the_one_error(text: str) -> None:
    try:
        read_arguments("a.sh", text)
    except CaseError as error:
        assert str(error).startswith("a.sh")  # noqa: PT017 - either way is right


RECIPE = """
ConfigContainer:
  model:
    _target_: megatron.bridge.models.GPTModelProvider
    num_layers: 8
    hidden_size: 2048
    num_attention_heads: 16
    gated_linear_unit: true
    activation_func: {_target_: torch.nn.functional.silu, _call_: false}
    tensor_model_parallel_size: 2
    fp8: null
    fp8_recipe: delayed
    apply_rope_fusion: true
    bias_dropout_fusion: false
    hidden_dropout: 0.0
    qk_clip: true
  train: {global_batch_size: 16, micro_batch_size: 1, train_iters: 5}
  mixed_precision: {bf16: true, fp8: hybrid, fp8_recipe: tensorwise, grad_reduce_in_fp32: false}
  ddp: {use_distributed_optimizer: true, grad_reduce_in_fp32: true}
  optimizer: {lr: 0.1, optimizer: adam}
  dataset: {sequence_length: 4096}
  rng: {seed: 1}
"""


def test_a_recipe_is_read_by_its_sections() -> None:
    imported = read_recipe("r.yaml", RECIPE)
    found = values(imported)
    expected = {
        "model.num_layers": 8,
        "model.gated_mlp": True,
        "model.activation": "silu",
        "training.seq_length": 4096,
        "training.precision": "fp8",
        "training.fp8_recipe": "tensorwise",
        "training.gradient_dtype": "bf16",
        "training.global_batch_size": 16,
        "plan.tensor_parallel": 2,
        "plan.sharding": "optimizer",
    }
    assert {path: found.get(path) for path in expected} == expected
    words = "\n".join(imported.unknown)
    assert "r.yaml:14: ConfigContainer.model.bias_dropout_fusion" in words
    assert "r.yaml:16: ConfigContainer.model.qk_clip" in words
    assert len(imported.unknown) == 2


def test_a_nemo_1_configuration() -> None:
    text = (
        "trainer: {devices: 8, num_nodes: 4, precision: bf16-mixed}\n"
        "model:\n  encoder_seq_length: 2048\n  max_position_embeddings: ${.encoder_seq_length}\n"
        "  num_layers: 4\n  hidden_size: 512\n  num_attention_heads: 8\n  bias: false\n"
        "  activation: fast-swiglu\n  normalization: rmsnorm\n  micro_batch_size: 2\n"
        "  activations_checkpoint_granularity: selective\n"
        "  optim: {name: distributed_fused_adam, lr: 1e-4}\n"
    )
    found = values(read_recipe("n.yaml", text))
    expected = {
        "cluster.num_gpus": 32,
        "training.precision": "bf16",
        "training.seq_length": 2048,
        "training.recompute": "selective",
        "model.gated_mlp": True,
        "model.activation": "silu",
        "model.linear_bias": "none",
        "plan.sharding": "optimizer",
    }
    assert {path: found.get(path) for path in expected} == expected


def test_arguments_that_are_keys_of_a_mapping() -> None:
    text = "MODEL_ARGS:\n  --num-layers: 4\n  --swiglu: true\n  --tie: false\n  --bf16: true\n"
    found = values(read_recipe("z.yaml", text))
    assert found["model.num_layers"] == 4
    assert found["model.gated_mlp"] is True


@pytest.mark.parametrize(
    "text",
    [
        "- a\n- b",
        "a: !!python/object/apply:os.system ['x']",
        "a: {b: [",
        "&a [*a]",
        "x: &x {y: *x}",
        "[" * 300,
    ],
)
def test_a_recipe_that_is_not_plain_is_one_error(text: str) -> None:
    with pytest.raises(CaseError, match=r"^r\.yaml"):
        read_recipe("r.yaml", text)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("--decoder-first-pipeline-num-layers 14 --decoder-last-pipeline-num-layers 14",
         "leaves 4 layers for 0 stages"),
        ("--decoder-first-pipeline-num-layers 33",
         "leaves -1 layers for 1 stages"),
    ],
)  # fmt: skip
def test_layers_that_the_first_and_last_stage_leave_must_fill_the_others(
    more: str, words: str
) -> None:
    with pytest.raises(CaseError, match=words):
        read_arguments("a.sh", f"{LLAMA} {more}")


def test_an_option_without_its_number_is_told_what_it_lacks() -> None:
    with pytest.raises(CaseError, match=r"a.sh:1: --hidden-size: needs a whole number behind it"):
        read_arguments("a.sh", "x --num-layers 2 --hidden-size --bf16")


def test_a_script_of_another_kind_of_model_is_refused() -> None:
    for script in ("pretrain_bert.py", "megatron/pretrain_t5.py", "pretrain_vision_classify.py"):
        with pytest.raises(CaseError, match=r"is not that of pretrain_gpt.py"):
            read_arguments("a.sh", LLAMA.replace("pretrain_gpt.py", script))


def test_a_mistyped_option_is_listed_with_the_right_one() -> None:
    mistyped = LLAMA.replace("--hidden-size", "--hiden-size")
    (words,) = read_arguments("a.sh", mistyped).unknown
    assert "is not understood (did you mean '--hidden-size'?)" in words
    with pytest.raises(CaseError, match=r"hidden_size is needed.*did you mean '--hidden-size'"):
        case_from_files(mistyped, fields={"cluster.gpu": "h100-sxm5-80gb"})


BRIDGE_LORA = """
model:
  num_layers: 32
peft:
  _target_: megatron.bridge.peft.lora.LoRA
  dim: 16
  alpha: 32
  dropout: 0.0
  lora_A_init_method: xavier
  target_modules: [linear_qkv]
"""
NEMO_1_LORA = """
model:
  peft:
    peft_scheme: lora
    ia3_tuning:
      layer_selection: null
    lora_tuning:
      adapter_dim: 8
      adapter_dropout: 0.1
      column_init_method: xavier
      target_modules: [attention, mlp_fc2]
"""
EVERY = ["linear_qkv", "linear_proj", "linear_fc1", "linear_fc2"]


@pytest.mark.parametrize(
    ("text", "rank", "modules"),
    [
        (BRIDGE_LORA, 16, ["linear_qkv"]),
        (NEMO_1_LORA, 8, ["linear_qkv", "linear_proj", "linear_fc2"]),
        ("peft:\n  _target_: nemo.collections.llm.peft.lora.LoRA\n", 32, EVERY),
        ("model:\n  peft:\n    peft_scheme: lora\n", 32, ["linear_qkv"]),
        (NEMO_1_LORA.replace("peft_scheme: lora", "peft_scheme: null"), None, None),
        ("peft: null\n", None, None),
    ],
)
def test_lora_of_a_recipe(text: str, rank: int | None, modules: list[str] | None) -> None:
    found = values(read_recipe("r.yaml", text))
    assert found.get("training.adapter_rank") == rank
    assert found.get("training.adapter_modules") == modules


def test_what_lora_leaves_out_is_listed() -> None:
    """A scale and initial values change nothing; dropout would."""
    assert read_recipe("r.yaml", BRIDGE_LORA).unknown == ()
    told = read_recipe("r.yaml", NEMO_1_LORA).unknown
    name = "model.peft.lora_tuning.adapter_dropout"
    assert told == (f"r.yaml:9: {name} = 0.1 is not modelled",)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("lora.LoRA", "dora.DoRA", "training.adapter_rank: .*DoRA is not modelled, LoRA is"),
        (
            "[linear_qkv]",
            "['*.0.*.linear_qkv']",
            "training.adapter_modules: .*known are linear_qkv",
        ),
        ("dim: 16", "dim: many", "must be a whole number"),
    ],
)
def test_other_adapters_are_not_taken_for_full_training(old: str, new: str, words: str) -> None:
    with pytest.raises(CaseError, match=words):
        values(read_recipe("r.yaml", BRIDGE_LORA.replace(old, new)))
