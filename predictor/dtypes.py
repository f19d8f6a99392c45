"""Number formats and the bytes that one element of each takes."""

from typing import Final

ITEMSIZE_BYTES: Final[dict[str, int]] = {
    "fp32": 4,
    "tf32": 4,
    "bf16": 2,
    "fp16": 2,
    "fp8": 1,
    "fp8_block": 1,
}
FP32_BYTES: Final = ITEMSIZE_BYTES["fp32"]
BF16_BYTES: Final = ITEMSIZE_BYTES["bf16"]


def itemsize(dtype: str) -> int:
    """Bytes of one element.

    Raises:
        KeyError: ``dtype`` is not a format this package knows.
    """
    return ITEMSIZE_BYTES[dtype]
