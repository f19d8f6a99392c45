"""No input brings more than the one error: what ``benchmarks/fuzz.py`` once found, and new ones.

``found/<reader>/`` holds the inputs, named by what they broke.
"""

import importlib.util
import random
import shutil
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutation import changed, renumbered
from readers import READERS
from seeding import HERE

from predictor.errors import PredictorError

FOUND = sorted((HERE / "found").glob("*/*"))
EXAMPLES = 25


@pytest.fixture(autouse=True)
def _extras(request: pytest.FixtureRequest) -> None:
    """Tables of aiconfigurator are Parquet."""
    named = request.node.callspec.params.get("name") or request.node.callspec.params["path"]
    if "aiconfigurator" in str(named) and importlib.util.find_spec("pyarrow") is None:
        pytest.skip("needs pyarrow")


def read(name: str, data: bytes, folder: Path) -> bool:
    """Whether an input is legal; anything but our own error goes on to the test."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        READERS[name].read(data, folder)
    except PredictorError as error:
        assert str(error).strip()  # noqa: PT017 - legal or refused, either way is right
        return False
    return True


@pytest.mark.parametrize("name", READERS)
def test_what_the_fuzzer_begins_with_is_legal(name: str, tmp_path: Path) -> None:
    for seed in READERS[name].seeds():
        assert read(name, seed, tmp_path / "in"), seed


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_was_once_found_stays_mended(path: Path, tmp_path: Path) -> None:
    read(path.parent.name, path.read_bytes(), tmp_path / "in")


@pytest.mark.parametrize("name", READERS)
@settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
)
@given(chance=st.randoms(), changes=st.integers(1, 4))
def test_a_damaged_input_brings_no_more_than_the_one_error(
    name: str, tmp_path: Path, chance: random.Random, changes: int
) -> None:
    data = chance.choice(list(READERS[name].seeds()))
    for _ in range(changes):
        data = changed(data, chance)
    read(name, data, tmp_path / "in")


@pytest.mark.parametrize("name", READERS)
def test_other_numbers_bring_no_more_than_the_one_error(name: str, tmp_path: Path) -> None:
    seeds = list(READERS[name].seeds())
    for data in islice(renumbered(seeds, random.Random(name)), EXAMPLES):  # noqa: S311
        read(name, data, tmp_path / "in")
