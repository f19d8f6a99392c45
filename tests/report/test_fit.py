"""The explanation of a fit."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from predictor.case import bench_results_folder
from predictor.errors import FitError, PredictorError
from predictor.report.fit import fit_text, read_fits
from predictor.report.fit_plot import plot_fit

if TYPE_CHECKING:
    from pathlib import Path

FIT = {
    "surface": {"regressors": ["tensor", "waves"], "coefficients": [[1.25, -0.5]]},
    "standard_errors": [[0.01, 0.02]],
    "points": 40,
    "held_out": {"median": 0.031, "p95": 0.12},
}
POINTS = {"m": "8 64", "n": "16 16", "k": "32 32", "seconds": "1e-06 2e-06", "error": "0.01 -0.5"}
MEASURED = [{"options": {"kind": "dgrad"}, "points": POINTS}]


FITS = {"fits": {"gemm/cold": FIT}, "measured": {"gemm/cold": MEASURED}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "toy"
    path.mkdir()
    (path / "fit.json").write_text(json.dumps(FITS), encoding="utf-8")
    return path


def test_coefficients_stand_beside_their_errors(folder: Path) -> None:
    text = fit_text(folder, "gemm")
    assert "toy gemm/cold" in text
    assert "40 measured shapes" in text
    assert "median 3.1 %, p95 12.0 %" in text
    assert any(line.split() == ["waves", "-0.5000", "0.0200"] for line in text.splitlines())


def test_a_rate_is_shown_as_a_share_of_the_datasheet(folder: Path) -> None:
    # 1 / 1.25 = 80 %, and 0.01 / 1.25² = 0.64 % of error
    assert "80.0 ± 0.6 % of tensor cores" in fit_text(folder, "gemm")


def test_what_a_training_is_made_of_has_errors_of_its_own(tmp_path: Path) -> None:
    # of 8 KiB, 64 KiB and 1 MiB the last two count: e^0.3 - 1 = 35 % and e^0.1 - 1 = 10.5 %
    fit = {**FIT, "surface": {"regressors": ["bytes"], "coefficients": [[2.0]]}}
    fit["standard_errors"] = [[0.1]]
    points = {
        "bytes": "8192 65536 1048576",
        "seconds": "1e-06 2e-06 3e-06",
        "error": "-2.0 -0.3 -0.1",
    }
    measured = [{"options": {"ranks": 2, "ranks_per_node": 2}, "points": points}]
    found = {"fits": {"all_gather/cold": fit}, "measured": {"all_gather/cold": measured}}
    (tmp_path / "fit.json").write_text(json.dumps(found), encoding="utf-8")
    text = fit_text(tmp_path, "all_gather")
    assert "of these 2 of 64 KiB and more: median 22.8 %, p90 32.5 %, p95 33.8 %" in text
    assert "50.0 ± 2.5 % of the link" in text


def test_kinds_that_are_fitted_apart_are_named() -> None:
    folder = bench_results_folder() / "h100-sxm5-80gb"
    fit = read_fits(folder, "optimizer")["optimizer/cold"]
    lines = fit_text(folder, "optimizer").splitlines()
    named = {line.split("  ")[0] for line in lines}
    assert {"adamw fp32 torch", "adamw tensors=1 bf16 native", "any other (medians)"} <= named
    kinds = [line for line in lines if line.startswith("adamw")]
    assert len(kinds) == len(fit["surface"]["groups"])
    launches = {f"{row[0]:.2f}" for row in fit["surface"]["coefficients"][:-1]}
    assert {line.split(" ± ")[0].split()[-1] for line in kinds} == launches


def test_domain_and_worst_shapes_are_named(folder: Path) -> None:
    text = fit_text(folder, "gemm")
    assert "domain: m 8 to 64" in text
    worst = text.split("worst held out:")[1].splitlines()[2]
    assert worst.split()[:2] == ["+64.9", "%"]
    assert worst.endswith("m=64 n=16 k=32 kind=dgrad")


def test_a_plot_is_written_as_the_suffix_says(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot_fit(folder, "gemm", tmp_path / "fit.svg")
    assert "<svg" in (tmp_path / "fit.svg").read_text(encoding="utf-8")
    with pytest.raises(PredictorError, match="picture"):
        plot_fit(folder, "gemm", tmp_path / "fit.nope")


def test_an_unknown_operator_names_the_nearest(folder: Path) -> None:
    with pytest.raises(FitError, match="did you mean 'gemm'"):
        fit_text(folder, "gem")


def test_a_missing_fit_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(FitError, match="run `predictor fit"):
        fit_text(tmp_path, "gemm")
