"""What is too large is refused at once and in little memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from readers import READERS
from seeding import HERE, SEEDS

import predictor
from predictor.errors import CaseError

MOST_MEBIBYTES = 200
PROGRAM = """
import json, resource, signal, sys, tempfile
from pathlib import Path
sys.path[:0] = json.loads(sys.argv[1])
from readers import READERS, Sparse
from predictor.errors import PredictorError

for name, start in json.loads(sys.argv[3]).items():
    data = {
        "sparse": lambda: Sparse(start.encode()),
        "brackets": lambda: start.encode() + b"[" * 1_000_000,
        "braces": lambda: start.encode() + b'{"a":' * 160_000,
    }[sys.argv[2]]()
    with tempfile.TemporaryDirectory() as folder:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        signal.setitimer(signal.ITIMER_VIRTUAL, 5.0)  # its signal ends the process
        try:
            READERS[name].read(data, Path(folder))
            told = "read"
        except PredictorError as error:
            told = "refused"
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
        print(json.dumps([name, told, grown]), flush=True)
"""
STARTS = {"case": "{", "study": "{", "prices": "{", "nccl-tests": "{", "aiconfigurator": "PAR1"}
LINES = {"journal", "questions"}
"""Readers of lines: what is no record is passed over, what is no question gets its error."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "left_out"),
    [
        ("sparse", LINES | {"aiconfigurator"}),
        ("brackets", {"journal", "aiconfigurator"}),
        ("braces", {"journal", "aiconfigurator"}),
    ],
)
def test_a_gigabyte_and_a_million_brackets_are_refused_at_once(
    kind: str, left_out: set[str]
) -> None:
    asked = {name: STARTS.get(name, "") for name in READERS if name not in left_out}
    paths = json.dumps([str(Path(predictor.__file__).parents[1]), str(HERE)])
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, paths, kind, json.dumps(asked)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-200:] + ended.stderr[-2000:]
    told = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [name for name, _, _ in told] == list(asked)
    for name, answer, grown in told:
        assert answer == "refused" or name in LINES, name
        assert grown <= MOST_MEBIBYTES, name


def test_a_model_of_a_hundred_million_layers_is_refused(tmp_path: Path) -> None:
    seed = next(data for data in SEEDS["case"]() if b"num_layers = 4" in data)
    huge = seed.replace(b"num_layers = 4", b"num_layers = 100_000_000")
    with pytest.raises(CaseError, match="num_layers"):
        READERS["case"].read(huge, tmp_path)
