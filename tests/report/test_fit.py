"""The explanation of a fit."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from predictor.errors import FitError
from predictor.report.fit import fit_text

if TYPE_CHECKING:
    from pathlib import Path

FIT = {
    "surface": {"regressors": ["one", "waves"], "coefficients": [[0.25, -0.5]]},
    "standard_errors": [[0.01, 0.02]],
    "points": 40,
    "held_out": {"median": 0.031, "p95": 0.12},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "toy"
    path.mkdir()
    (path / "fit.json").write_text(json.dumps({"fits": {"gemm/cold": FIT}}), encoding="utf-8")
    return path


def test_coefficients_stand_beside_their_errors(folder: Path) -> None:
    text = fit_text(folder, "gemm")
    assert "toy gemm/cold" in text
    assert "40 measured shapes" in text
    assert "median 3.1 %, p95 12.0 %" in text
    assert any(line.split() == ["0", "waves", "-0.5000", "0.0200"] for line in text.splitlines())


def test_an_unknown_operator_names_the_nearest(folder: Path) -> None:
    with pytest.raises(FitError, match="did you mean 'gemm'"):
        fit_text(folder, "gem")


def test_a_missing_fit_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(FitError, match="run `predictor fit"):
        fit_text(tmp_path, "gemm")
