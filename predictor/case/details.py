"""What a record says in its source's own words and the case's fields do not.

``plan.overlap_detail`` and its kin are free text. Some of its words name things that a field of the
plan stands for; where that field is absent, they fill it.
"""

from __future__ import annotations

import re
from typing import Any

_WORDS: tuple[tuple[str, str, object], ...] = (
    (r"\b(deepep|hybridep)\b", "moe_dispatcher", "deepep"),
    (r"\balltoall dispatcher\b", "moe_dispatcher", "alltoall"),
    (r"\ballgather dispatcher\b", "moe_dispatcher", "allgather"),
    (r"\bno (ep|a2a) overlap\b|\b(ep|a2a) overlap off\b", "moe_overlap", False),
    (r"\b(ep|a2a) overlap\b", "moe_overlap", True),
    (r"\bcuda graphs off\b", "cuda_graph", "none"),
    (r"\bcuda graphs? moe_router\b", "cuda_graph", "router"),
    (r"\bcuda graphs?\b", "cuda_graph", "attention"),
)
_DETAIL = "_detail"


def plan_from_details(plan: dict[str, Any]) -> dict[str, Any]:
    """Return a plan's fields with those that its free text tells and that are absent."""
    text = " ".join(str(v) for k, v in plan.items() if str(k).endswith(_DETAIL) and v).lower()
    filled = dict(plan)
    if not text:
        return filled
    for pattern, key, value in _WORDS:
        if filled.get(key) is None and re.search(pattern, text):
            filled[key] = value
    return filled
