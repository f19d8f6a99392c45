"""Scaling recipes: what Transformer Engine launches and sends around a product of small numbers.

Read in Transformer Engine 2.8: ``common/recipe/__init__.py``, ``pytorch/tensor/*.py``,
``pytorch/module/layernorm_linear.py`` and ``linear.py``, ``common/normalization``; Megatron-Core
0.12 to 0.19, ``fp8_utils.py``, ``fp4_utils.py``. The products of attention's projections and of the
feed-forward take small operands; embedding, head, router, attention's core, norms and activations
stay in bf16.

========== ============================================== ====================================
recipe     an operand costs                               beside it
========== ============================================== ====================================
delayed    one cast; the norm writes its own output small
current    a pass for the largest magnitude, a scale, a   the norm finds its own magnitude
           cast
blockwise  one quantisation, both directions              scales of 1 x 128
mxfp8      one quantisation, both directions              scales of 1 x 32, swizzled for use
nvfp4      as mxfp8, behind a pass for the largest        scales of 1 x 16 and one of the tensor
           magnitude, a norm's output too
========== ============================================== ====================================

Hopper multiplies only operands that lie along the summed index, so a gathered operand is turned
before its second product; Blackwell multiplies them as they are. Recipes with scales along one
index keep both directions instead, and gather gradients in both. Blackwell multiplies operands
of ``blockwise`` as it does those of mxfp8 (Transformer Engine 2.8, pull request 2157).
"""

from typing import Final

from predictor.case import Gpu, Training
from predictor.errors import NotPredictable
from predictor.operators.gemm import FP4_BYTES
from predictor.values import frozen

SMALL_FORMATS: Final = frozenset({"fp8", "mxfp8", "nvfp4"})

TURNING: Final = "Hopper"
"""Architecture whose 8-bit products take no operand across the summed index."""


@frozen(kw_only=True)
class Recipe:
    """How operands of a linear layer become small.

    Attributes:
        dtype: Format of the operands.
        wire_bytes: Bytes of an element, with its scales, when operands are gathered.
        seeks: A pass over the operand finds its largest magnitude before the cast.
        norm_casts: A norm writes its output in the small format.
        turns: A gathered operand is transposed before its second product.
        both: Both directions of an operand are kept, and both of a gradient gathered.
        rotates: A random Hadamard transform comes before the cast of what the weight gradient
            reads, so a pass of its own finds the largest magnitude behind norms too.
        swizzles: Scales are put in the order of the product by a kernel of their own.
        gathers_parameters: Ranks gather parameters in the small format after a step.
        expert_rows: Each expert's rows are filled up to a multiple of so many.
    """

    dtype: str
    wire_bytes: float = 1.0
    seeks: bool = False
    norm_casts: bool = False
    turns: bool = False
    both: bool = False
    rotates: bool = False
    swizzles: bool = False
    gathers_parameters: bool = False
    expert_rows: int = 16


def recipe_of(training: Training, gpu: Gpu) -> Recipe | None:
    """The recipe of a resolved case; None in 16-bit formats.

    Raises:
        NotPredictable: No recipe is known by the words of ``training.fp8_recipe``, or the GPU
            has no such products.
    """
    if training.precision not in SMALL_FORMATS:
        return None
    turns = gpu.architecture == TURNING
    known = {
        "nvfp4": Recipe(
            dtype="fp4",
            wire_bytes=FP4_BYTES,
            seeks=True,
            both=True,
            rotates=True,
            swizzles=True,
            expert_rows=128,
        ),
        "delayed": Recipe(dtype="fp8", norm_casts=True, turns=turns, gathers_parameters=True),
        "current": Recipe(dtype="fp8", seeks=True, turns=turns, gathers_parameters=True),
        "tensorwise": Recipe(dtype="fp8", seeks=True, turns=turns, gathers_parameters=True),
        "block": Recipe(dtype="fp8_block" if turns else "fp8", wire_bytes=1 + 4 / 128, both=True),
        "mx": Recipe(dtype="fp8", wire_bytes=1 + 1 / 32, both=True, swizzles=True, expert_rows=32),
    }
    words = (training.fp8_recipe or "").lower()
    for name, recipe in known.items():
        if name in words:
            if name == "mx" and gpu.architecture == TURNING:
                raise NotPredictable(
                    f"8-bit recipe {words!r}: {TURNING} has no products with scales of 1 x 32, "
                    "Blackwell has; delayed, current and blockwise run on both"
                )
            return recipe
    raise NotPredictable(
        f"training.fp8_recipe {training.fp8_recipe!r} is not known; "
        "delayed, current, blockwise, mxfp8 and nvfp4 are"
    )
