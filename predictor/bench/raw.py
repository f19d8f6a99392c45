"""Every sample of a run in a side file, on request."""

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from predictor.bench.points import Point
from predictor.errors import BenchError


class RawSamples:
    """Collects samples in memory and writes them as one Parquet file."""

    def __init__(self, path: Path) -> None:
        """Take the file's path.

        Raises:
            BenchError: pyarrow is not installed.
        """
        if find_spec("pyarrow") is None:
            raise BenchError("--raw needs pyarrow, which is not installed: pip install pyarrow")
        self._path = path
        self._points: list[str] = []
        self._rounds: list[int] = []
        self._seconds: list[float] = []
        self._seen: dict[str, int] = {}

    def add(self, point: Point, seconds: Sequence[float]) -> None:
        """Keep the samples of one round."""
        name = f"{point.operator}, {point.regime}, {point.cache}"
        number = self._seen.get(name, 0)
        self._seen[name] = number + 1
        self._points += [name] * len(seconds)
        self._rounds += [number] * len(seconds)
        self._seconds += seconds

    def write(self) -> None:
        """Write the file, whole or not at all."""
        pa, parquet = (import_module(name) for name in ("pyarrow", "pyarrow.parquet"))

        columns = {"point": self._points, "round": self._rounds, "seconds": self._seconds}
        part = self._path.with_suffix(".part")
        parquet.write_table(pa.table(columns), part, compression="zstd")
        part.replace(self._path)
