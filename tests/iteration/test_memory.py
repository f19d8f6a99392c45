"""Peak memory against measured peaks of PyTorch's allocator.

The peaks were measured on one H100 (transformers 5.17, torch 2.11); each row is a step's
max_memory_allocated.
"""

import pytest

from predictor.case import Case, resolve
from predictor.iteration.hf_memory import compiled_memory, eager_memory
from predictor.iteration.memory import finished
from predictor.iteration.shape import stages_of, step_shape
from predictor.units import GIB, MIB

LLAMA_1B = {"preset": "llama3.2-1b"}
LLAMA_8B_8_LAYERS = {
    "num_layers": 8,
    "hidden_size": 4096,
    "ffn_hidden_size": 14336,
    "num_attention_heads": 32,
    "num_query_groups": 8,
    "head_dim": 128,
    "vocab_size": 128256,
    "gated_mlp": True,
    "tied_embeddings": False,
    "normalization": "rmsnorm",
    "position_embedding": "rope",
}
GPT2 = {
    "num_layers": 12,
    "hidden_size": 768,
    "ffn_hidden_size": 3072,
    "num_attention_heads": 12,
    "num_query_groups": 12,
    "head_dim": 64,
    "vocab_size": 50304,
    "gated_mlp": False,
    "tied_embeddings": True,
    "normalization": "layernorm",
    "position_embedding": "learned",
}


def stage(model, seq_length, batch, recompute="none"):
    case = Case.from_dict(
        {
            "model": model,
            "training": {
                "seq_length": seq_length,
                "micro_batch_size": batch,
                "global_batch_size": batch,
                "recompute": recompute,
            },
            "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 1},
            "implementation": "hf-eager",
        }
    )
    case = resolve(case).case
    (only,) = stages_of(case, step_shape(case))
    return only


@pytest.mark.parametrize(
    ("model", "seq_length", "batch", "recompute", "peak_bytes"),
    [
        (LLAMA_1B, 4096, 1, "none", 20_978_884_096),
        (LLAMA_1B, 4096, 4, "full", 34_043_780_608),
        (LLAMA_8B_8_LAYERS, 2048, 4, "none", 42_880_507_904),
        (GPT2, 1024, 4, "none", 5_425_306_112),
    ],
)
def test_eager_peaks_within_half_a_percent(model, seq_length, batch, recompute, peak_bytes):
    memory = eager_memory(stage(model, seq_length, batch, recompute))
    assert memory.allocated_bytes == pytest.approx(peak_bytes, rel=0.005)


def test_compiled_peak_within_three_percent():
    memory = compiled_memory(stage(LLAMA_1B, 4096, 4))
    assert memory.allocated_bytes == pytest.approx(41_872_171_520, rel=0.03)


def test_recompute_never_raises_the_peak():
    plain = eager_memory(stage(LLAMA_1B, 4096, 4))
    replayed = eager_memory(stage(LLAMA_1B, 4096, 4, "full"))
    assert replayed.allocated_bytes < plain.allocated_bytes


def test_reserved_memory_exceeds_the_allocators_peak():
    memory = eager_memory(stage(GPT2, 1024, 4))
    assert memory.reserved_bytes > memory.allocated_bytes == sum(memory.parts.values())


def test_reserved_adds_a_twentieth_the_context_and_on_several_gpus_nccls_buffers():
    parts = {"parameters": 60 * GIB, "gradients": 40 * GIB}
    alone = finished(parts, distributed=False)
    assert alone.allocated_bytes == 100 * GIB
    assert alone.reserved_bytes == pytest.approx(105 * GIB + 780 * MIB)
    together = finished(parts, distributed=True)
    assert together.reserved_bytes - alone.reserved_bytes == pytest.approx(1 * GIB)


MIXTRAL = {
    "num_layers": 1,
    "hidden_size": 4096,
    "ffn_hidden_size": 14336,
    "num_attention_heads": 32,
    "num_query_groups": 8,
    "vocab_size": 32000,
    "gated_mlp": True,
    "tied_embeddings": False,
    "moe": {"num_experts": 8, "top_k": 2, "expert_ffn_hidden_size": 14336},
}


@pytest.mark.parametrize(
    ("layers", "seq_length", "peak_bytes"), [(1, 8192, 16_620_291_584), (2, 4096, 26_032_595_968)]
)
def test_experts_peak_at_the_loss_or_at_the_first_layers_gradients(layers, seq_length, peak_bytes):
    peak = eager_memory(stage(MIXTRAL | {"num_layers": layers}, seq_length, 1))
    assert peak.allocated_bytes == pytest.approx(peak_bytes, rel=0.003)
    assert (peak.parts["logits and loss"] > 0) == (layers == 1)
    experts = 2 * 3 * 8 * 4096 * 14336
    attention = 2 * (2 * 4096 * (4096 + 1024) + 8 * 4096 + 2 * 4096)
    # The head's gradient, the second layer's, and those of the first layer's experts.
    expected = 0 if layers == 1 else 2 * 32000 * 4096 + 2 * experts + attention
    assert peak.parts["gradients"] == pytest.approx(expected, rel=1e-3)
