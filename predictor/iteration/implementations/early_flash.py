"""FlashAttention before its second version, which no table holds: in calls of FlashAttention-2."""

from predictor.iteration.launches import Tape
from predictor.iteration.stack import flash
from predictor.operators import Attention

FLASH_1 = 2
"""FlashAttention 1.0, in calls of FlashAttention-2 of the same sizes: "around 2x" on A100
(arXiv:2307.08691, abstract; 1.7 to 3 over its figures 4 to 6). Not set on any record."""


def flash_1(tape: Tape, call: Attention) -> None:
    """One call of FlashAttention 1.0."""
    for _ in range(FLASH_1):
        tape.run(flash(call), kernels=3 if call.kind == "backward" else 1)
