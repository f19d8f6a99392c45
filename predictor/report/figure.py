"""What the pictures of matplotlib share: the optional part itself, their look, their files."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from predictor.errors import PredictorError
from predictor.files import write_result

if TYPE_CHECKING:
    from pathlib import Path

COLOURS: Final = ("#2f6db5", "#c1553b", "#4d8a57", "#8a5fb0", "#b8862b", "#5c6773")
"""Told apart with red-green blindness too, and in print by their order."""

STYLE: Final = {
    "axes.edgecolor": "#8b95a1",
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "font.size": 9,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "svg.fonttype": "none",
}
WIDTH_INCHES: Final = 7.0
DOTS_PER_INCH: Final = 150


def new_figure(rows: int, row_inches: float) -> Any:  # noqa: ANN401 - matplotlib has no types
    """Return a figure of one column.

    Raises:
        PredictorError: Matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - an optional part
    except ImportError as error:
        raise PredictorError(
            "a picture needs matplotlib: pip install 'llm-iteration-predictor[plot]'"
        ) from error
    return Figure(figsize=(WIDTH_INCHES, row_inches * rows), layout="constrained")


def style() -> Any:  # noqa: ANN401
    """Return the context in which axes get the common look."""
    from matplotlib import rc_context  # noqa: PLC0415

    return rc_context(STYLE)


def save(figure: Any, path: Path) -> None:  # noqa: ANN401
    """Write a picture of the kind that the suffix names, whole or not at all.

    Raises:
        PredictorError: It cannot be written, or the suffix names no kind.
    """
    kind, known = path.suffix[1:].lower(), figure.canvas.get_supported_filetypes()
    if kind not in known:  # matplotlib would write to another name than the one that was asked for
        raise PredictorError(
            f"{path}: a picture is .svg, .png or .pdf, or of a kind in {', '.join(sorted(known))}"
        )
    content = BytesIO()
    figure.savefig(content, format=kind, dpi=DOTS_PER_INCH)
    write_result(path, content.getvalue(), PredictorError)
