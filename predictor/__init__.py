"""Predict the time, memory and money of one LLM training iteration, with an interval.

The names below are loaded when they are first used, so that ``import predictor`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from predictor.case import Case, Gpu, Model, load_gpu, load_model
    from predictor.case.importers import case_from_files
    from predictor.iteration import Estimate, estimate, estimate_many
    from predictor.iteration.what_if import WhatIf, what_if
    from predictor.search import SearchResult
    from predictor.search.finding import search
    from predictor.validate import ValidationReport, validate

__all__ = [
    "Case",
    "Estimate",
    "Gpu",
    "Model",
    "SearchResult",
    "ValidationReport",
    "WhatIf",
    "case_from_files",
    "estimate",
    "estimate_many",
    "load_gpu",
    "load_model",
    "search",
    "validate",
    "what_if",
]

_HOMES = {
    "Case": "predictor.case",
    "Estimate": "predictor.iteration",
    "Gpu": "predictor.case",
    "Model": "predictor.case",
    "SearchResult": "predictor.search",
    "ValidationReport": "predictor.validate",
    "WhatIf": "predictor.iteration.what_if",
    "case_from_files": "predictor.case.importers",
    "estimate": "predictor.iteration",
    "estimate_many": "predictor.iteration",
    "load_gpu": "predictor.case",
    "load_model": "predictor.case",
    "search": "predictor.search",
    "validate": "predictor.validate",
    "what_if": "predictor.iteration.what_if",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
