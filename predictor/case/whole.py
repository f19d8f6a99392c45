"""A whole case: what an estimate depends on, as one value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from predictor.case.kinds import KindError, Text
from predictor.case.plan_schema import Plan
from predictor.case.rule import RuleError
from predictor.case.rules import check
from predictor.case.section import optional, plain_items, shown
from predictor.case.training_schema import Training
from predictor.values import frozen

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from predictor.case.cluster_schema import Cluster
    from predictor.case.model_schema import Model

IMPLEMENTATION = Text(r"[a-z0-9][a-z0-9.-]*", longest=64)


@frozen(kw_only=True)
class Case:
    """All that an estimate depends on.

    Build one with :meth:`from_dict` or :meth:`from_file`, which read presets and word their errors
    for people. A case that exists has passed :func:`predictor.case.rules.check`.

    Attributes:
        model: What is trained.
        training: What one iteration computes.
        plan: How the work is laid out.
        cluster: Where it runs.
        implementation: Training stack; ``predictor implementations`` lists them.
    """

    model: Model
    training: Training = Training()
    plan: Plan = Plan()
    cluster: Cluster
    implementation: str = optional(IMPLEMENTATION, "Training stack.")

    def __post_init__(self) -> None:
        """Hold the rules between fields.

        Raises:
            RuleError: One of them is broken.
        """
        if self.implementation is not None:
            try:
                IMPLEMENTATION.read(self.implementation)
            except KindError as error:
                value = shown(self.implementation)
                raise RuleError("implementation", value, str(error)) from None
        check(self)

    @classmethod
    def from_dict(cls, mapping: Mapping[str, object], *, origin: str = "case") -> Case:
        """Read a case, or a run record (whose other keys are left aside).

        Raises:
            CaseError: Something is not legal; the message begins with ``origin``.
        """
        from predictor.case.reading import case_from_dict  # noqa: PLC0415

        return case_from_dict(mapping, origin=origin)

    @classmethod
    def from_file(cls, path: str | Path) -> Case:
        """Read a case from a ``.toml`` or ``.json`` file of at most one mebibyte.

        Raises:
            CaseError: The file is not there, not readable or not a legal case.
        """
        from predictor.case.reading import case_from_file  # noqa: PLC0415

        return case_from_file(path)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are set, as JSON types; :meth:`from_dict` reads them back."""
        return dict(plain_items(self))

    def replace(self, **sections: Mapping[str, object]) -> Case:
        """Return this case with fields of its sections changed: ``replace(plan={...})``.

        Raises:
            CaseError: The changed case breaks a rule.
        """
        from predictor.case.reading import case_from_sections  # noqa: PLC0415

        changed = self.to_dict()
        for name, values in sections.items():
            changed[name] = {**changed[name], **values}
        return case_from_sections(changed)
