"""Training stacks: which kernels a layer really launches, and what they cost the host.

One file a stack, each with one :class:`~predictor.iteration.stack.Stack` named ``STACK``. Adding a
stack is one file and one line in ``STACKS``.
"""

import importlib
from typing import Final

from predictor.errors import NotPredictable, UnknownName, nearest
from predictor.iteration.stack import Stack

STACKS: Final[dict[str, str]] = {
    "hf-eager": "hf_eager",
    "hf-compile": "hf_compile",
    "megatron-core-te": "megatron_core_te",
    "megatron-core-local": "megatron_core_local",
    "nemo-automodel": "nemo_automodel",
    "megatron-lm-2021": "megatron_lm_2021",
    "megatron-lm-2022": "megatron_lm_2022",
    "megatron-deepspeed": "megatron_deepspeed",
    "zero-bubble": "zero_bubble",
    "bigscience-megatron-deepspeed": "bigscience_megatron_deepspeed",
    "hf-fsdp2": "hf_fsdp2",
    "nanotron": "nanotron_playbook",
    "nanotron-released": "nanotron",
    "llm-foundry": "llm_foundry",
    "torchtitan": "torchtitan",
    "fsdp-eager": "fsdp_eager",
    "fsdp-compile": "fsdp_compile",
    "jax-xla": "jax_xla",
    "internevo": "internevo",
    "deepspeed": "deepspeed",
}

REFUSED: Final[dict[str, str]] = {
    "megascale": "it changes the model (parallel attention and MLP, sliding windows)",
}
"""Stacks that cases may name and that are not estimated, and why."""


def load(name: str) -> Stack:
    """Import one stack by name.

    Raises:
        NotPredictable: The stack is known and refused.
        UnknownName: No such stack.
    """
    if name in STACKS:
        module = importlib.import_module(f"predictor.iteration.implementations.{STACKS[name]}")
        stack: Stack = module.STACK
        return stack
    have = ", ".join(STACKS)
    if name in REFUSED:
        raise NotPredictable(
            f"implementation {name!r} is refused: {REFUSED[name]}; supported: {have}"
        )
    hint = nearest(name, [*STACKS, *REFUSED])
    raise UnknownName(f"implementation {name!r} does not exist{hint}; supported: {have}")


def descriptions() -> dict[str, str]:
    """Name and one line about each supported stack."""
    return {name: load(name).description for name in STACKS}
