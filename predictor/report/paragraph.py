"""A paragraph of an explanation: its words, and the numbers in them."""

from dataclasses import dataclass
from typing import Any

LEAST_SHARE = 0.005
"""Share of an iteration below which nothing is worth a sentence."""


@dataclass(frozen=True, slots=True)
class Paragraph:
    """One question and its answer.

    Attributes:
        title: The question, in a word or two.
        sentences: The answer.
        numbers: The numbers in it, by name, in SI units.
    """

    title: str
    sentences: tuple[str, ...]
    numbers: dict[str, Any]
