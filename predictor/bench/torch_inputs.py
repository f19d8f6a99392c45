"""Inputs of PyTorch's eager kernels, a letter each.

b  bf16 [rows, cols]        f  fp32 [rows, cols]
w  bf16 [cols]              r  fp32 [rows, 1]
q  bf16 [1, heads, s, cols] as a transposed view, with rows = heads·s
x  bf16 [1, heads, s, cols], contiguous
c  bf16 [1, 1, s, cols], cosines
i  int64 [rows], ids below TABLE_ROWS
t  bf16 [TABLE_ROWS, cols]
m  bool [rows, cols]
p  int64 [rows], each row once, shuffled
n  int64 [rows, cols], columns
s  bf16 [rows, 1]
l  int64 [rows], columns
k  int64 [rows, cols], experts
g  list of 16 bf16 tensors, together [rows, cols]
"""

from typing import TYPE_CHECKING, Final

from predictor.bench.torch_fill import Fill, Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

TABLE_ROWS: Final = 8192
TENSORS: Final = 16
_HEADS: Final = 32
_EXPERTS: Final = 128


def inputs(fill: Fill, letters: str, rows: int, cols: int) -> tuple[Tensor, ...]:
    """One buffer set of a kernel, by its letters."""
    heads = heads_of(rows)
    makers: dict[str, Callable[[], Tensor]] = {
        "b": lambda: fill.bf16(rows, cols),
        "f": lambda: fill.fp32(rows, cols),
        "w": lambda: fill.bf16(cols),
        "r": lambda: fill.fp32(rows, 1),
        "q": lambda: fill.heads(1, rows // heads, heads, cols),
        "x": lambda: fill.bf16(1, heads, rows // heads, cols),
        "c": lambda: fill.bf16(1, 1, rows // heads, cols),
        "i": lambda: fill.indices(rows, TABLE_ROWS),
        "t": lambda: fill.bf16(TABLE_ROWS, cols),
        "m": lambda: fill.fp32(rows, cols) < 0.0,
        "p": lambda: fill.shuffled(rows),
        "n": lambda: fill.indices(rows * cols, cols).view(rows, cols),
        "s": lambda: fill.bf16(rows, 1),
        "l": lambda: fill.indices(rows, cols),
        "k": lambda: fill.indices(rows * cols, _EXPERTS).view(rows, cols),
    }
    if letters == "g":
        return tuple(part.clone() for part in fill.bf16(rows, cols).view(-1).chunk(TENSORS))
    return tuple(makers[letter]() for letter in letters)


def heads_of(rows: int) -> int:
    """Heads into which the rows of a rotary kernel divide."""
    return next(heads for heads in (_HEADS, 8, 1) if rows % heads == 0)
