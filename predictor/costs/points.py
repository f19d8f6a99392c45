"""Measured points in ``fit.json``: a table for each class of points, a line of text for a column.

Points whose options agree (:func:`~predictor.costs.ladder.option_names`: all fields but sizes) are
a class, so an option is written once for all of them; one at its field's default is left out:

    {"options": {"kind": "forward"}, "points": {"m": "64 128", "n": "64 64", "seconds": ...}}

A question needs few classes, so the numbers of a table are read when it is first asked for.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, Final

from predictor.costs.deferred import Deferred
from predictor.costs.ladder import (
    Classes,
    Options,
    Point,
    Sizes,
    option_names,
    options_of,
    size_names,
    sizes_of,
)
from predictor.operators import OPERATORS, Operator, column_fields
from predictor.units import CALL_SECONDS, LARGEST_SIZE

POINT_COLUMNS: Final = ("seconds", "seconds_low", "seconds_high")

PointTable = dict[str, dict[str, Any]]


def point_tables(
    family: str, operators: Sequence[Operator], columns: Mapping[str, Sequence[float]]
) -> list[PointTable]:
    """Sort operators of one family into tables.

    Args:
        family: Name of the operators.
        operators: Measured ones.
        columns: What else is kept of each of them, by name.
    """
    classes: dict[Options, list[int]] = {}
    for place, operator in enumerate(operators):
        classes.setdefault(options_of(operator), []).append(place)
    defaults = _defaults(family)
    tables = []
    for options, places in classes.items():
        named = zip(option_names(family), options, strict=True)
        sizes = zip(*(sizes_of(operators[place]) for place in places), strict=True)
        points = dict(zip(size_names(family), sizes, strict=True)) | {
            name: [column[place] for place in places] for name, column in columns.items()
        }
        tables.append(
            {
                "options": {name: value for name, value in named if value != defaults[name]},
                "points": {name: " ".join(map(repr, column)) for name, column in points.items()},
            }
        )
    return tables


def point_rows(family: str, tables: Iterable[PointTable]) -> list[dict[str, Any]]:
    """Points of all tables, each as its options, sizes and other numbers by name."""
    whole = size_names(family)
    rows: list[dict[str, Any]] = []
    for table in tables:
        columns = {
            name: map(int if name in whole else float, text.split())
            for name, text in table["points"].items()
        }
        points = zip(*columns.values(), strict=True)
        rows += (table["options"] | dict(zip(columns, point, strict=True)) for point in points)
    return rows


def read_tables(family: str, tables: Iterable[PointTable]) -> Classes:
    """What :func:`point_tables` wrote; options that are newer than a table have their defaults."""
    names, defaults = option_names(family), _defaults(family)
    options = itemgetter(*names)  # a tuple: every family has two options and more
    points = {options(defaults | table["options"]): table["points"] for table in tables}
    return Deferred(points, partial(_read_points, family))


def _read_points(family: str, points: Mapping[str, str]) -> dict[Sizes, Point]:
    sizes = [[*map(int, points[name].split())] for name in size_names(family)]
    seconds = [[*map(float, points[name].split())] for name in POINT_COLUMNS]
    if any(not 1 <= each <= LARGEST_SIZE for column in sizes for each in column):
        raise ValueError(f"a size that is not 1 to {LARGEST_SIZE}")
    least, most = CALL_SECONDS
    if not all(least <= each <= most for column in seconds for each in column):
        raise ValueError(f"seconds that are not {least:g} to {most:g}")
    rows = zip(*seconds, strict=True)
    return dict(zip(zip(*sizes, strict=True), rows, strict=True))


def _defaults(family: str) -> dict[str, Any]:
    return {field.name: field.default for field in column_fields(OPERATORS[family])}
