"""What a release of NVIDIA's trainers chose in its scripts and a case's fields do not say.

A record's ``source``, ``framework`` and ``notes`` name releases in the source's words. Where
NVIDIA's public recipes of that release turn something on or off that a field of the plan stands
for, and the field is absent, it is filled. So are the adapters of their recipes for LoRA, where a
record says that it is LoRA.
"""

from __future__ import annotations

import re
from typing import Any

from predictor.values import frozen


@frozen(kw_only=True)
class Recipe:
    """Choices of some recipes: patterns of their release and model, GPUs and formats.

    Attributes:
        release: In the words for the framework.
        model: At the beginning of the model's name.
        gpus: Names of GPUs; empty: all.
        precision: Of the training; empty: any.
        plan: Fields of the plan, or of the training where adapters are meant.
    """

    release: str
    model: str = ""
    gpus: frozenset[str] = frozenset()
    precision: str = ""
    plan: dict[str, object]

    def fits(self, words: str, case: dict[str, dict[str, Any]]) -> bool:
        """Whether a case ran by this recipe."""
        gpu, precision = case["cluster"].get("gpu"), case["training"].get("precision")
        name = str(case["model"].get("name") or case["model"].get("preset") or "")
        return bool(
            re.search(self.release, words)
            and re.match(self.model, name.lower())
            and (not self.gpus or gpu in self.gpus)
            and self.precision in {"", precision}
        )


# ``NVTE_FUSED_ATTN=0``: NeMo-Framework-Launcher 01d07738 ``launcher_scripts/conf/config.yaml`` of
# the containers 24.01 to 24.05 ("Disable cudnn FA until we've tested it more"; still so in a fork
# with Llama 3.1, of 24.07), and NVIDIA/dgxc-benchmarking 143b90dd and 35a9aecc
# ``{grok1,nemo_megatron,nemotron}/configure.sh``; Llama 3.1 and Nemotron-4 15B keep it on there.
_FLASH: dict[str, object] = {"attention_backend": "flash"}

# Megatron-Bridge 007282ea to 134e903a ``src/megatron/bridge/perf_recipes/{qwen,deepseek,gpt_oss}``:
# ``_enable_hybridep_full_iteration_mxfp8`` and its like of the containers 26.06 to 26.08.
_FULL_ITERATION: dict[str, object] = {
    "moe_experts": "fused",
    "moe_dispatcher": "deepep",
    "moe_overlap": True,
    "cuda_graph": "iteration",
}
# The same repository 4054233a ``scripts/performance/configs/qwen3/qwen3_30b_a3b_llm_pretrain.py``,
# of 2025-10: tokens dropped and padded, so that a graph may hold the whole iteration.
_PADDED: dict[str, object] = {"cuda_graph": "iteration"}
# mlcommons/training_results_v3.1 f33f9444 ``NVIDIA/benchmarks/gpt3/implementations/pytorch/conf/
# custom.yaml``: ``virtual_pipeline_model_parallel_size: ${oc.env:INTERLEAVED_PIPELINE,12}``, which
# none of its ``config_DGXH100_*.sh`` sets.
_MLPERF_CHUNKS: dict[str, object] = {"virtual_pipeline": 12}
_RELEASES_2026 = r"\bcontainer 26\.0[678]"
_CHUNKS_ELSEWHERE = r"\binterleaving in conf yaml\b"
"""By these words of a record the one chunk that it gives was not read anywhere."""
_RACKS = frozenset({"gb200", "gb300"})

RECIPES = (
    Recipe(release=r"\bnemo ?24\.0[1-7]\b", plan=_FLASH),
    Recipe(release=r"\bnemo 1\.", model=r"grok|gpt-?3|nemotron-?4-340b", plan=_FLASH),
    Recipe(
        release=_RELEASES_2026 + r"(?!.*cudnn-frontend #256)",  # where the fused kernel was broken
        model=r"deepseek-v3|qwen3|gpt-oss",
        gpus=_RACKS,
        precision="mxfp8",
        plan=_FULL_ITERATION,
    ),
    Recipe(
        release=_RELEASES_2026,
        model=r"qwen3-30b",
        gpus=frozenset({"b300-sxm"}),
        precision="mxfp8",
        plan=_FULL_ITERATION,
    ),
    Recipe(
        release=_RELEASES_2026,
        model=r"gpt-oss",
        gpus=_RACKS,
        precision="mxfp8",
        plan={**_FULL_ITERATION, "moe_experts": "grouped"},
    ),
    Recipe(
        release=r"\bcontainer 25\.09\b",
        model=r"qwen3-30b",
        gpus=frozenset({"b200-sxm", "gb200"}),
        plan=_PADDED,
    ),
    Recipe(release=r"\bmlperf training v3\.1\b", model=r"gpt-?3", plan=_MLPERF_CHUNKS),
)

# NVIDIA-NeMo/Automodel 9892fa9c ``examples/llm_benchmark``: ``peft.target_modules: '*_proj'``.
# NeMo-Framework-Launcher 04c921b4 ``conf/peft/llama/squad.yaml``: rank 32, on ``attention_qkv``.
# NeMo 24.12 ``recipes/llama3_{8b,70b}.py`` in performance mode, which dgxc-benchmarking 25.02 runs,
# and Megatron-Bridge 71eaba6f ``perf_recipes/llama``: on ``linear_qkv``, rank 8 for 8B, else 16.
_LORA = r".*\b(task=lora\b|lora fine-?tun)"
_ON_QKV = ["linear_qkv"]

ADAPTERS = (
    Recipe(release=r"\bnemo automodel\b" + _LORA, plan={"adapter_rank": 16}),
    Recipe(
        release=r"\bnemo ?24\.0[1-7]\b" + _LORA,
        plan={"adapter_rank": 32, "adapter_modules": _ON_QKV},
    ),
    Recipe(
        release=r"\b(nemo|megatron)\b" + _LORA,
        model=r"llama3(\.\d)?-8b",
        plan={"adapter_rank": 8, "adapter_modules": _ON_QKV},
    ),
    Recipe(
        release=r"\b(nemo|megatron)\b" + _LORA,
        plan={"adapter_rank": 16, "adapter_modules": _ON_QKV},
    ),
)


def training_of_release(words: str, case: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return a case's training with the adapters of its release's recipe, if its words say LoRA.

    Args:
        words: What its record says of framework and release.
        case: Its ``model``, ``training``, ``plan`` and ``cluster``.
    """
    training = case["training"]
    if training.get("adapter_rank") is not None:
        return training
    chosen = next((each.plan for each in ADAPTERS if each.fits(words.lower(), case)), {})
    return {**chosen, **{key: value for key, value in training.items() if value is not None}}


def plan_of_release(
    words: str, case: dict[str, dict[str, Any]], recipes: tuple[Recipe, ...] = RECIPES
) -> dict[str, Any]:
    """Return a case's plan with the absent fields that its release's recipe decides.

    Args:
        words: What its record says of framework and release.
        case: Its ``model``, ``training``, ``plan`` and ``cluster``.
        recipes: The first that fits counts.
    """
    plan, words = case["plan"], words.lower()
    told = {key for key, value in plan.items() if value is not None}
    if plan.get("virtual_pipeline") == 1 and re.search(_CHUNKS_ELSEWHERE, words):
        told.discard("virtual_pipeline")
    chosen = next((each.plan for each in recipes if each.fits(words, case)), {})
    return plan | {key: value for key, value in chosen.items() if key not in told}
