"""What a broken rule of a case says, and the rule that most of them are."""

from __future__ import annotations

from predictor.errors import CaseError


class RuleError(CaseError):
    """A rule between fields does not hold.

    Attributes:
        key: Dotted path of the field to change.
        value: What it is.
        rule: What it should be.
    """

    def __init__(self, key: str, value: object, rule: str) -> None:
        """Word the message; readers put the origin before it."""
        super().__init__(f"{key} = {value}: {rule}")
        self.key = key
        self.value = value
        self.rule = rule


def check_divides(key: str, divisor: int | None, *, of: str, dividend: int | None) -> None:
    """Hold that a number divides another, where both are there.

    Raises:
        RuleError: It does not; ``key`` is the divisor's.
    """
    if divisor and dividend and dividend % divisor:
        raise RuleError(key, divisor, f"must divide {of} ({dividend})")
