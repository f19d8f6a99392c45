"""Errors a person can act on: what, the value, the rule, the way out.

Every error that reaches a user is a :class:`PredictorError`; the commands print its message alone
and exit with code 2. Anything else is a bug of ours and exits with code 1.
"""

from collections.abc import Iterable


class PredictorError(Exception):
    """Base of every error that a user can cause and mend."""


class CaseError(PredictorError):
    """A case, or a flag that stands for a part of one, is not legal."""


class UnknownName(PredictorError):
    """A preset, GPU, implementation or operator that does not exist."""


class TableError(PredictorError):
    """A measured table, its run file or a gpu.toml is damaged or contradicts itself."""


class FitError(PredictorError):
    """A cost function cannot be fitted from a table, or fit.json has drifted from it."""


class NotPredictable(PredictorError):
    """A legal case that this version refuses to estimate, for a stated reason."""


class StudyError(PredictorError):
    """A study cannot begin, go on or end; what it has done stays."""


class BenchError(PredictorError):
    """A benchmark run cannot start or go on."""


class NativeMissing(BenchError):
    """The native extension, or a library that it opens at run time, is not there."""


def nearest(name: str, candidates: Iterable[str], *, likeness: float = 0.5) -> str:
    """Return `` (did you mean 'x'?)`` for the closest candidate if it is alike, else nothing.

    Initials name what they are of: ``tp`` stands for ``tensor_parallel``. Of those that are alike,
    one with the same first word comes first: ``b200-sxm-180gb`` is closer to ``b200-sxm`` than to
    ``h800-sxm5-80gb``.
    """
    from difflib import get_close_matches  # noqa: PLC0415 - for errors alone

    known = {candidate.lower(): candidate for candidate in sorted(candidates, reverse=True)}
    asked = name.lower()
    alike = [each for each in known if _initials(each) == asked.strip("-")]
    alike = alike or get_close_matches(asked, known, n=5, cutoff=likeness)
    if not alike:
        return ""
    first, _, _ = asked.partition("-")
    closest = max(alike, key=lambda each: each.partition("-")[0] == first)
    return f" (did you mean {known[closest]!r}?)"


def _initials(name: str) -> str:
    """First letters of two words or more, as people shorten ``--tensor-parallel`` to ``--tp``."""
    words = name.replace("_", "-").strip("-").split("-")
    return "".join(word[:1] for word in words) if len(words) > 1 else ""
