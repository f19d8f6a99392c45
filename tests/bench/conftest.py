"""Runs on a double of the native extension, and on the mock where the extension is built."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from predictor.bench.main import Options, Outcome, run
from predictor.bench.points import Point
from predictor.operators import Gemm

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _double_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process and the workers it spawns import the double, and them nothing of pytest."""
    monkeypatch.syspath_prepend(str(HERE))
    for name in ("__spec__", "__file__"):  # of the main module, which a spawned process imports too
        monkeypatch.setattr(sys.modules["__main__"], name, None, raising=False)


@pytest.fixture
def measure(tmp_path: Path) -> Callable[..., Outcome]:
    """Measure points on the double into a folder of the test."""

    def measure(*points: Point, **options: Any) -> Outcome:
        values = {"device": "mock", "native_module": "native_double", "out": tmp_path / "out"}
        return run(Options(points=points, **values | options))

    return measure


def gemm(m: int, **fields: Any) -> Point:
    """A small point."""
    return Point(operator=Gemm(m=m, n=256, k=256), **fields)


@pytest.fixture
def point() -> Callable[..., Point]:
    """Make a GEMM point by its ``m``."""
    return gemm
