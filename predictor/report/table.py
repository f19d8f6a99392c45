"""Rows as aligned columns, for a terminal or for Markdown."""

from __future__ import annotations

import re
from textwrap import wrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH = 100
"""Columns that every text keeps to."""

_GAP = "  "
_HELD = "\x00"
_UNIT = re.compile(r"(\d) (%|s|ms|us|min|GiB|MiB|MHz|TFLOP/s|USD)(?![\w/])")


def columns(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> list[str]:
    """Align rows in columns; those whose index is in ``right`` end flush."""
    if not rows:
        return []
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        _GAP.join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a Markdown table."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return lines + [f"| {' | '.join(row)} |" for row in rows]


def paragraph(text: str, width: int) -> list[str]:
    """Wrap a paragraph, its further lines indented; a number stays with its unit."""
    held = _UNIT.sub(rf"\1{_HELD}\2", text)
    lines = wrap(held, width, subsequent_indent="  ", break_on_hyphens=False)
    return [line.replace(_HELD, " ") for line in lines]


def shortened(text: str, width: int) -> str:
    """Cut a text to ``width`` characters, with an ellipsis in place of the rest."""
    return text if len(text) <= width else f"{text[: width - 3]}..."
