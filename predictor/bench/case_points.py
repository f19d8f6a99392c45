"""What a case needs: the operators of its step, each measured as it is launched.

The launches are named by ``predictor.iteration``, a station above this one. It is asked for them by
name, only when a user hands a case to ``bench-run --for``; nothing here depends on it otherwise.
"""

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from predictor.bench.points import Point
from predictor.bench.sweep import points_for
from predictor.bench.sweep.host import bare_launches
from predictor.case import Case, resolve
from predictor.errors import BenchError
from predictor.operators import Host


def points_of_case(path: Path, names: Iterable[str] = ()) -> list[Point]:
    """Points for every operator of a case's step, those that carry the most time first.

    Args:
        path: Of the case file.
        names: Operators to keep; none keeps all.

    Raises:
        PredictorError: The case is not legal, or its step cannot be named.
        BenchError: Nothing is left to measure.
    """
    case = resolve(Case.from_file(path)).case
    counts = import_module("predictor.iteration.estimate").operators_of(case)
    wanted = set(names) or {operator.name for operator in counts} | {Host.name}
    # What the timeline takes between kernels, and of launches that no activity stands for.
    needed = [*counts, *(point.operator for point in bare_launches())]
    points = points_for(operator for operator in needed if operator.name in wanted)
    if not points:
        raise BenchError(f"{path} launches none of {', '.join(sorted(wanted))}")
    return sorted(points, key=lambda p: -counts[p.operator] * p.expected_seconds)
