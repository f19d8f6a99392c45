"""Nothing that a file holds is run, obeyed or followed."""

import ast
import json
import os
from pathlib import Path

import pytest

import predictor
from predictor.case import Case
from predictor.cli import run
from predictor.commands.common import json_text
from predictor.errors import CaseError
from predictor.files import inside, read_bytes
from predictor.printable import printable
from predictor.report.page.parts import words
from predictor.run_records import read_records
from predictor.search.study import read_study

SOURCES = sorted(Path(predictor.__file__).parent.rglob("*.py"))
RUNNERS = {
    "__import__", "compile", "eval", "exec", "literal_eval", "pickle", "cPickle", "dill", "marshal",
    "shelve", "joblib", "cloudpickle", "unsafe_load", "full_load", "read_pickle", "system", "popen",
}  # fmt: skip
OWN = {("values.py", "exec")}
"""``@frozen`` compiles an initialiser from the fields of our own classes."""

BASE = """
[model]
preset = "gpt2"
{model}
[training]
seq_length = 1024
global_batch_size = 8
[cluster]
gpu = "h100-sxm5-80gb"
num_gpus = 4
{cluster}
"""
OUTSIDE = {
    "hf_config": ('hf_config = "{there}/config.json"', ""),
    "histogram": ('[model.moe]\nimbalance = "histogram:{there}/tokens.txt"', ""),
    "links": ("", 'links = "{there}/links.csv"'),
    "links.file": ("", '[cluster.links]\nfile = "{there}/links.csv"'),
}


def called(tree: ast.AST) -> set[str]:
    """Names of everything that is imported or called."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                found |= {part for each in node.names for part in each.name.split(".")}
            case ast.ImportFrom():
                found |= {*(node.module or "").split("."), *(each.name for each in node.names)}
            case ast.Call(func=ast.Name(id=name)):
                found.add(name)
            case ast.Call(func=ast.Attribute(attr=name)) if name != "compile":  # re's and torch's
                found.add(name)
            case _:
                continue
    return found


def test_nothing_in_the_package_runs_or_unpickles_what_it_reads() -> None:
    assert len(SOURCES) > 200
    found = {
        (path.name, name)
        for path in SOURCES
        for name in called(ast.parse(path.read_bytes())) & RUNNERS
    }
    assert found == OWN


def test_numpy_and_yaml_are_told_to_load_plain_data() -> None:
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert "allow_pickle=True" not in text
        assert "yaml.load(" not in text
        assert "shell=True" not in text


@pytest.mark.parametrize("named", OUTSIDE)
@pytest.mark.parametrize("there", ["..", "/etc", "link"])
def test_a_case_file_reads_nothing_outside_of_its_folder(
    tmp_path: Path, named: str, there: str
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    model, cluster = (text.format(there=there) for text in OUTSIDE[named])
    path = folder / "case.toml"
    path.write_text(BASE.format(model=model, cluster=cluster), encoding="utf-8")
    with pytest.raises(CaseError, match="a file names files of its own folder alone"):
        Case.from_file(path)
    study = folder / "study.toml"
    study.write_text(f'[case.model]\nhf_config = ["{there}/config.json"]', encoding="utf-8")
    with pytest.raises(CaseError, match="a file names files of its own folder alone"):
        read_study(study)
    study.write_text(f'[study]\nprices = "{there}/p.toml"\n[case.model]\npreset = "gpt2"')
    with pytest.raises(CaseError, match="a file names files of its own folder alone"):
        read_study(study)
    record = {"id": "a", "source": "b", "measured": {"iteration_seconds": 1}}
    records = folder / "runs.jsonl"
    records.write_text(json.dumps(record | {"model": {"hf_config": f"{there}/config.json"}}))
    with pytest.raises(CaseError, match="a file names files of its own folder alone"):
        list(read_records(records))


def test_a_name_inside_of_the_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    assert inside(tmp_path, "in/../a.json", "x", CaseError) == tmp_path.resolve() / "a.json"
    assert inside(tmp_path, str(tmp_path / "b"), "x", CaseError) == tmp_path.resolve() / "b"


@pytest.mark.parametrize("sku", ["..", "../h100-sxm5-80gb", "/etc", ".", "", "a" * 300, "a\0b"])
def test_a_gpu_is_a_folder_of_bench_results_and_no_way_out(sku: str) -> None:
    mapping = {
        "model": {"preset": "gpt2"},
        "training": {"seq_length": 1024},
        "cluster": {"gpu": sku, "num_gpus": 1},
    }
    with pytest.raises(CaseError, match=r"cluster\.gpu"):
        Case.from_dict(mapping)


def test_a_pipe_that_nobody_writes_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("predictor.files.PIPE_SECONDS", 0.05)
    os.mkfifo(tmp_path / "case.toml")
    with pytest.raises(CaseError, match="nothing was written to it"):
        Case.from_file(tmp_path / "case.toml")


def test_a_pipe_is_read_to_its_end() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"x" * 100)
    os.close(writing)
    assert read_bytes(Path(f"/dev/fd/{reading}"), CaseError, 100) == b"x" * 100
    os.close(reading)


@pytest.mark.parametrize(
    "command",
    [("trace", "-o"), ("report", "-o"), ("case", "--force", "-o")],
    ids=lambda each: each[0],
)
def test_a_device_or_pipe_is_not_replaced_by_a_file(
    tmp_path: Path, command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "out")
    asked = ["llama3-8b", "--gpu", "h100-sxm5-80gb", "--num-gpus", "1"]
    assert run([command[0], *asked, *command[1:], str(tmp_path / "out")]) == 2
    assert (tmp_path / "out").is_fifo()
    assert "it is there and no file" in capsys.readouterr().err


EVIL = "a\x1b]0;owned\x07\x1b[2J\u202egnp.exe\u2066\x9b31m\ud800\U000e0041"


def test_a_terminal_is_told_nothing_by_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert printable("ü 中 \t\n") == "ü 中 \t\n"
    shown = printable(EVIL)
    assert shown.isprintable()
    assert shown.isascii()
    assert run(["estimate", EVIL, "--gpu", "h100-sxm5-80gb", "--num-gpus", "1"]) == 2
    error = capsys.readouterr().err
    assert error.strip().isprintable()
    assert len(error) < 3000


def test_json_on_a_terminal_is_as_harmless_and_the_same(tmp_path: Path) -> None:
    assert json_text({"name": EVIL[:-2]}, indent=None).isprintable()
    assert json.loads(json_text({"name": EVIL})) == {"name": EVIL}
    case = tmp_path / "case.json"
    fields = {"name": EVIL, "num_layers": 2, "hidden_size": 64, "num_attention_heads": 2}
    case.write_text(
        json.dumps(
            {
                "model": fields | {"vocab_size": 1000, "notes": []},
                "training": {"seq_length": 64, "global_batch_size": 1},
                "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 1},
            }
        )
    )
    assert Case.from_file(case).model.name == EVIL


def test_an_error_of_any_length_is_one_line_of_some(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["estimate", "x" * 100_000, "--gpu", "h100-sxm5-80gb", "--num-gpus", "1"]) == 2
    assert len(capsys.readouterr().err) < 3000


def test_labels_of_a_chart_are_escaped() -> None:
    assert words('<script>alert("1")</script>&') == '&lt;script&gt;alert("1")&lt;/script&gt;&amp;'
