"""Streams as a max-plus linear system: when each is free again after something has run.

The state is the time at which the host and every stream have done all that was queued. Whatever
runs makes later times of earlier ones by sums and maxima alone, so it is a matrix A with
``state'[i] = max over j of A[i, j] + state[j]`` (Baccelli, Cohen, Olsder, Quadrat: Synchronization
and Linearity, 1992, chapter 2): exact, composed by a product, repeated by a power.

Arrays of matrices have rows and columns on their last axes, and in memory the matrices side by
side: so one operation on all of them runs through long rows of numbers.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from predictor.costs.prediction import Floats, Ints
from predictor.values import frozen

HOST: Final = 0
COMPUTE: Final = 1
NEVER: Final = -np.inf
FEW: Final = 2**13
"""Numbers up to which one array of all paths is faster than one a place on the way."""


def identity(size: int) -> Floats:
    """Nothing runs."""
    matrix = np.full((size, size), NEVER)
    matrix.ravel()[:: size + 1] = 0.0
    return matrix


def then(first: Floats, second: Floats) -> Floats:
    """``first``, and after it ``second``: arrays of matrices, of the same shape."""
    before, behind = np.ascontiguousarray(first.T), np.ascontiguousarray(second.T)
    return _joined(before, behind, np.empty_like(before)).T


def _joined(before: Floats, behind: Floats, result: Floats) -> Floats:
    """Fill in a product of matrices by column, row and whatever else."""
    if before.size <= FEW:
        return np.maximum.reduce(before[:, :, None] + behind, axis=1, out=result)
    np.add(before[:, :1], behind[0], out=result)
    for between in range(1, len(behind)):
        np.maximum(result, before[:, between : between + 1] + behind[between], out=result)
    return result


def chain(matrices: Sequence[Floats]) -> Floats:
    """One matrix after another."""
    result = matrices[0]
    for matrix in matrices[1:]:
        result = then(result, matrix)
    return result


def power(matrix: Floats, times: int) -> Floats:
    """A matrix so many times in a row, by repeated squaring."""
    result, square = None, matrix
    while times:
        if times & 1:
            result = square if result is None else then(result, square)
        times >>= 1
        if times:
            square = then(square, square)
    if result is None:
        return np.broadcast_to(identity(matrix.shape[-1]), matrix.shape)
    return result


def after(matrices: Floats, state: Floats) -> Floats:
    """States behind what runs from other states, each of its own."""
    return np.asarray((matrices + state[..., None, :]).max(axis=-1))


@frozen(eq=False)
class Words:
    """Products of matrices in many sequences at once.

    A sequence is a word, a matrix a letter. Letters are joined in pairs, pairs in pairs, all those
    of a level in one operation; what stands in several places is found once. So a word of equal
    letters is a power by repeated squaring.

    Attributes:
        letters: How many there are.
        levels: First and second of the pairs of each level. Letters have the lowest numbers, then
            comes the empty word, then pair after pair.
        found: Number of each word.
    """

    letters: int
    levels: tuple[tuple[Ints, Ints], ...]
    found: Ints

    @classmethod
    def of(cls, words: Sequence[Sequence[int]], letters: int) -> "Words":
        """Join the letters of words; what stands first in a word runs first."""
        known: dict[tuple[int, int], int] = {}
        levels = []
        parts = [list(word) or [letters] for word in words]
        while any(len(each) > 1 for each in parts):
            begin = len(known)
            parts = [
                [
                    known.setdefault(pair, letters + 1 + len(known))
                    for pair in zip(each[::2], each[1::2], strict=False)
                ]
                + each[len(each) & ~1 :]
                for each in parts
            ]
            levels.append(np.array(list(known)[begin:], dtype=np.int64).reshape(-1, 2).T)
        found = np.array([number for (number,) in parts], dtype=np.int64)
        return cls(letters, tuple((first, second) for first, second in levels), found)

    def products(self, matrices: Floats) -> Floats:
        """Matrices of all words.

        Args:
            matrices: Of the letters: by letter, scenario, row and column.

        Returns:
            By word, scenario, row and column.
        """
        _, scenarios, size, _ = matrices.shape
        count = self.letters + 1 + sum(len(first) for first, _ in self.levels)
        table = np.empty((size, size, scenarios, count))
        table[..., : self.letters] = matrices.T
        table[..., self.letters] = identity(size)[..., None]
        end = self.letters + 1
        for first, second in self.levels:
            begin, end = end, end + len(first)
            _joined(table.take(first, -1), table.take(second, -1), table[..., begin:end])
        return table.take(self.found, axis=-1).T


def essential(matrices: Floats) -> Ints:
    """Places of a state that programs must be told apart by; leading axes are programs.

    A stream that every program leaves no later than the compute stream, and that no program minds
    more than the compute stream, is as good as free whenever that is: every launch on it waits for
    the compute stream anyway. Host and compute stream are always kept.
    """
    kept = [HOST, COMPUTE]
    for stream in range(2, matrices.shape[-1]):
        minds = matrices[..., :, stream] > matrices[..., :, COMPUTE]
        minds[..., stream] = False
        late = matrices[..., stream, :].copy()
        late[..., COMPUTE] = np.maximum(late[..., COMPUTE], late[..., stream])
        late[..., stream] = NEVER
        if minds.any() or (late > matrices[..., COMPUTE, :]).any():
            kept.append(stream)
    return np.array(kept)
