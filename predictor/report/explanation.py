"""An estimate in plain words with numbers: what bounds it, what it loses, and how sure it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from predictor.iteration.account import account_of
from predictor.iteration.sensitivity import sensitivities
from predictor.report import explained_rest, explained_time
from predictor.report.table import WIDTH, paragraph

if TYPE_CHECKING:
    from predictor.case import Case
    from predictor.report.paragraph import Paragraph


@dataclass(frozen=True, slots=True)
class Explanation:
    """An estimate explained.

    Attributes:
        paragraphs: In the order in which one would ask.
    """

    paragraphs: tuple[Paragraph, ...]

    def to_dict(self) -> dict[str, Any]:
        """As ``explain --json`` prints it."""
        return {
            each.title: {"sentences": list(each.sentences), **each.numbers}
            for each in self.paragraphs
        }


def explanation_of(case: Case) -> Explanation:
    """Estimate a case and explain it.

    Raises:
        CaseError: As an estimate.
        NotPredictable: As an estimate.
    """
    account = account_of(case)
    paragraphs = (
        explained_time.result(account),
        explained_time.bound(account),
        explained_time.mfu(account),
        explained_time.communication(account),
        explained_time.bubble(account),
        explained_rest.memory(account),
        explained_rest.certainty(account),
        explained_rest.changes(sensitivities(account.estimate.case)),
    )
    return Explanation(tuple(each for each in paragraphs if each is not None))


def explanation_text(explanation: Explanation) -> str:
    """Return the paragraphs, at most 100 columns wide."""
    blocks = [
        "\n".join(paragraph(f"{each.title}: {' '.join(each.sentences)}", WIDTH))
        for each in explanation.paragraphs
    ]
    return "\n\n".join(blocks)
