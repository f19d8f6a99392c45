"""Bad input: one message that says what, where, the rule and the nearest right name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from predictor.case import Case, resolve
from predictor.case.reading import MAX_FILE_BYTES
from predictor.errors import CaseError

if TYPE_CHECKING:
    from pathlib import Path


def llama(**changes: Any) -> dict[str, Any]:
    """Return a legal case; ``plan__tensor_parallel=3`` sets a field of a section."""
    case: dict[str, Any] = {
        "model": {"preset": "llama3-8b"},
        "training": {"seq_length": 4096, "micro_batch_size": 1, "global_batch_size": 64},
        "plan": {"tensor_parallel": 2},
        "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 8},
    }
    for path, value in changes.items():
        *sections, name = path.split("__")
        inner = case
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[name] = value
    return case


def test_a_preset_gives_its_dimensions_and_a_field_beside_it_wins() -> None:
    case = Case.from_dict(llama(model__num_layers=4))
    assert (case.model.name, case.model.num_layers, case.model.hidden_size) == (
        "llama3-8b",
        4,
        4096,
    )


def test_keys_of_a_record_details_and_nulls_are_left_aside() -> None:
    record = llama(
        id="x",
        source="y",
        measured={"iteration_seconds": 1.0},
        notes="z",
        plan__overlap_detail="the source's words",
        plan__schedule=None,
    )
    assert Case.from_dict(record) == Case.from_dict(llama())


BAD = {
    "unknown preset": (llama(model={"preset": "llama3-8c"}), "model.preset", "'llama3-8b'"),
    "unknown gpu": (llama(cluster__gpu="h100-sxm5-80g"), "cluster.gpu", "'h100-sxm5-80gb'"),
    "beginning of a gpu": (llama(cluster__gpu="h200"), "cluster.gpu", "'h200-sxm5-141gb'"),
    "unknown network": (llama(cluster__network="dgx-h100"), "cluster.network", "'dgx-h100-ndr'"),
    "unknown key": (llama(plan__tensor_paralel=2), "plan.tensor_paralel", "'tensor_parallel'"),
    "unknown section": (llama(modle={}), "modle", "'model'"),
    "key of another section": (llama(model__seq_length=1), "model.seq_length", "[training]"),
    "unknown word": (llama(training__precision="bf61"), "training.precision", "'bf16'"),
    "zero": (llama(training__seq_length=0), "training.seq_length = 0", "at least 1"),
    "negative": (llama(cluster__num_gpus=-8), "cluster.num_gpus = -8", "at least 1"),
    "fraction": (llama(training__micro_batch_size=1.5), "micro_batch_size = 1.5", "whole number"),
    "whole fraction": (llama(plan__tensor_parallel=2.0), "tensor_parallel = 2.0", "whole number"),
    "string": (llama(cluster__num_gpus="8"), "cluster.num_gpus = '8'", "whole number"),
    "boolean": (llama(cluster__num_gpus=True), "cluster.num_gpus = True", "whole number"),
    "huge": (llama(model__num_layers=10**9), "model.num_layers = 1000000000", "at most 10000"),
    "astronomic": (llama(cluster__num_gpus=10**400), "cluster.num_gpus = 1000", "at most 4194304"),
    "not a number": (
        llama(cluster__inter_node_latency_seconds=float("nan")),
        "inter_node_latency_seconds",
        "finite",
    ),
    "infinite": (
        llama(cluster__inter_node_bytes_per_second_per_gpu=float("inf")),
        "inter_node_bytes_per_second_per_gpu",
        "finite",
    ),
    "not a flag": (llama(plan__sequence_parallel=1), "plan.sequence_parallel = 1", "true or false"),
    "not a table": (llama(plan=[2]), "plan = [2]", "table"),
    "nested not a table": (llama(model__moe=8), "model.moe = 8", "table"),
    "missing width": (llama(model={"num_layers": 2}), "model.hidden_size", "needed"),
    "null sequence": (llama(training__seq_length=None), "training.seq_length", "is null"),
    "missing gpu": (llama(cluster={"num_gpus": 8}), "cluster.gpu", "needed"),
    "implementation": (llama(implementation="Megatron Core"), "implementation", "must match"),
    "two models": (llama(model__hf_config="config.json"), "model.preset", "hf_config"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_that_names_key_and_rule(name: str) -> None:
    mapping, where, way_out = BAD[name]
    with pytest.raises(CaseError) as caught:
        Case.from_dict(mapping, origin="my.toml")
    message = str(caught.value)
    assert message.startswith("my.toml: ")
    assert where in message
    assert way_out in message
    assert "\n" not in message
    assert len(message) < 500


def test_a_sequence_is_needed_where_no_preset_tells_its_longest() -> None:
    model = {"num_layers": 2, "hidden_size": 64, "num_attention_heads": 4}
    with pytest.raises(CaseError, match=r"training\.seq_length is needed"):
        Case.from_dict({"model": model, "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 1}})


def test_toml_and_json_read_the_same(tmp_path: Path) -> None:
    toml, jason = tmp_path / "a.toml", tmp_path / "a.json"
    toml.write_text(
        '[model]\npreset = "gpt2"\n[cluster]\ngpu = "h100-sxm5-80gb"\nnum_gpus = 1\n',
        encoding="utf-8",
    )
    sections = {"model": {"preset": "gpt2"}, "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 1}}
    jason.write_text(json.dumps(sections), encoding="utf-8")
    assert Case.from_file(toml) == Case.from_file(jason)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.yaml", b"", "ends in .toml or .json"),
        ("a.toml", b"[model", "is not TOML"),
        ("a.json", b'{"model":', "is not JSON"),
        ("a.json", b"[1]", "must hold a table of names and values, not .1."),
        ("a.json", b"[" * 100_000, "nested deeper than 64"),
        ("a.json", b'{"cluster": {"num_gpus": ' + b"9" * 5000 + b"}}", "more than 200 digits"),
        ("a.toml", b"\xff\xfe", "is not text in UTF-8"),
        ("a.toml", b" " * (MAX_FILE_BYTES + 1), "is larger than"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CaseError, match=words) as caught:
        Case.from_file(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="cannot be read: No such file"):
        Case.from_file(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("CUDA graphs off; moe_permute_fusion=false", False),
        ("moe_permute_fusion", True),
        ("CUDA graphs off", None),
    ],
)
def test_a_detail_may_say_whether_permutation_is_fused(words: str, told: object) -> None:
    record = {
        "model": {"preset": "mixtral-8x7b"},
        "plan": {"expert_parallel": 8, "overlap_detail": words},
        "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 8},
    }
    assert Case.from_dict(record).plan.moe_permute_fusion is told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("HybridEP; EP overlap off; TE CUDA graph moe_router", ("deepep", False, "router")),
        ("alltoall dispatcher; EP overlap + delay_wgrad_compute", ("alltoall", True, None)),
        ("alltoall dispatcher; no EP overlap; CUDA graphs off", ("alltoall", False, "none")),
        ("DeepEP; a2a overlap ON; CUDA graphs OFF", ("deepep", True, "none")),
        ("HybridEP; CUDA graphs attn,moe_router", ("deepep", None, "attention")),
        ("overlap_grad_sync, overlap_param_sync", (None, None, None)),
    ],
)
def test_words_of_a_detail_fill_fields_that_are_absent(
    words: str, told: tuple[str | None, bool | None, str | None]
) -> None:
    record = {
        "model": {"preset": "mixtral-8x7b"},
        "plan": {"expert_parallel": 8, "overlap_detail": words},
        "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 8},
    }
    plan = Case.from_dict(record).plan
    assert (plan.moe_dispatcher, plan.moe_overlap, plan.cuda_graph) == told
    record["plan"] |= {"moe_dispatcher": "allgather", "moe_overlap": True}
    plan = Case.from_dict(record).plan
    assert (plan.moe_dispatcher, plan.moe_overlap) == ("allgather", True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("overlap_grad_reduce; tp_comm_overlap (userbuffers) when TP>1", True),
        ("TP_COMM_OVERLAP=True; MICRO_BATCH_SIZE=1", True),
        ("TP_COMM_OVERLAP=False; MICRO_BATCH_SIZE=1", False),
        ("overlap_grad_reduce", None),
    ],
)
def test_words_of_a_detail_tell_whether_tensor_parallel_transfers_overlap(
    words: str, *, told: bool | None
) -> None:
    record = {
        "model": {"preset": "llama3-8b"},
        "plan": {"tensor_parallel": 2, "overlap_detail": words},
        "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 8},
    }
    assert Case.from_dict(record).plan.tp_overlap is told


@pytest.mark.parametrize(
    ("kind", "words", "told"),
    [
        ("custom", "custom remat policy: save dots except MLP wi", "core_attn layernorm mlp"),
        ("custom", "checkpoint policy SAVE_QKV_OUT_PROJ", "core_attn layernorm mlp"),
        ("custom", "checkpoint policy SAVE_DOT_ONLY", "core_attn layernorm"),
        ("selective", "selective mlp,core_attn", "mlp core_attn"),
        ("selective", "selective up_proj,mlp", "mlp"),  # without latent attention
        ("selective", "selective AC (op-level default)", ""),
        ("full", "full, mlp", ""),
    ],
)
def test_words_of_recomputation_name_its_modules(kind: str, words: str, told: str) -> None:
    record = {
        "model": {"preset": "llama3-8b"},
        "training": {"recompute": kind, "recompute_detail": words},
        "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 8},
    }
    training = Case.from_dict(record).training
    assert training.recompute_modules == (tuple(told.split()) or None)
    assert training.recompute == ("selective" if told else kind)
    record["training"] |= {"recompute": "selective", "recompute_modules": ["layernorm"]}
    assert Case.from_dict(record).training.recompute_modules == ("layernorm",)


def test_words_may_name_what_the_models_name_tells() -> None:
    public = Case.from_dict(
        {"model": {"preset": "deepseek-v3"}, "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 8}}
    ).to_dict()["model"]
    record = {
        "model": {key: value for key, value in public.items() if key != "mla"},
        "training": {"recompute": "selective", "recompute_detail": "selective up_proj,mlp"},
        "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 8},
    }
    case = Case.from_dict(record)
    assert case.training.recompute_modules == ("mla_up_proj", "mlp")
    assert resolve(case).case.model.mla is not None


def test_a_policy_that_is_not_known_stays_open() -> None:
    record = {
        "model": {"preset": "llama3-8b"},
        "training": {"recompute": "custom", "recompute_detail": "our own"},
        "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 8},
    }
    assert Case.from_dict(record).training.recompute == "custom"


def test_words_of_sharding_name_its_group() -> None:
    record = {
        "model": {"preset": "llama3-8b"},
        "plan": {"sharding": "parameters", "sharding_detail": "FSDP 128 x DP 4"},
        "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 512},
    }
    assert Case.from_dict(record).plan.sharding_group == 128
    for words, group in (
        ("FSDP 256", None),
        ("ZeRO-1 (shard group 8)", 8),
        ("ZeRO-1 (zero1=4)", 4),
        ("ZeRO-1 (zero1=-1)", None),
    ):
        record["plan"] |= {"sharding_detail": words}
        assert Case.from_dict(record).plan.sharding_group == group


def test_hsdp_shards_inside_a_node_where_whole_nodes_hold_replicas() -> None:
    def group(replicas: int, **plan: int) -> int | None:
        told = {"sharding": "parameters", "sharding_detail": "HSDP", "data_parallel": replicas}
        gpus = replicas * plan.get("tensor_parallel", 1)
        cluster = {"gpu": "h100-sxm5-80gb", "num_gpus": gpus, "gpus_per_node": 8}
        record = {"model": {"preset": "llama3-8b"}, "plan": told | plan, "cluster": cluster}
        return Case.from_dict(record).plan.sharding_group

    assert group(128) == 8
    assert group(4) is None
    assert group(128, tensor_parallel=2) is None
    assert group(128, sharding_group=32) == 32


def test_fields_of_experts_go_over_those_of_a_preset_one_by_one() -> None:
    record = {
        "model": {"preset": "mixtral-8x7b", "moe": {"top_k": 1}},
        "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 8},
    }
    moe = Case.from_dict(record).model.moe
    assert moe is not None
    assert (moe.num_experts, moe.top_k) == (8, 1)


def test_a_config_without_its_family_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(CaseError, match="model_type is needed; known: gpt2, llama"):
        Case.from_dict({"model": {"hf_config": str(tmp_path / "config.json")}})
