"""The command: exit codes, one line for what a user did, JSON alone on stdout, no traceback."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from predictor.case import bench_results_folder
from predictor.case.model_schema import Mla, Moe
from predictor.case.schema import SECTIONS
from predictor.case.section import kinds
from predictor.cli import run
from predictor.commands.case_options import case_flags

if TYPE_CHECKING:
    from pathlib import Path

LLAMA = ("estimate", "llama3-8b", "--gpu", "h100-sxm5-80gb", "--num-gpus", "8")
MEASURED = (bench_results_folder() / "h100-sxm5-80gb" / "fit.json").is_file()
needs_tables = pytest.mark.skipif(not MEASURED, reason="no fitted tables of the H100")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


def called(capsys: pytest.CaptureFixture[str], *arguments: str) -> Ended:
    code = run(list(arguments))
    captured = capsys.readouterr()
    return Ended(code, captured.out, captured.err)


BAD = {
    "unknown command": (("estimat",), "No such command 'estimat'"),
    "unknown model": (("estimate", "llama3-8c", *LLAMA[2:]), "did you mean 'llama3-8b'"),
    "unknown gpu": ((*LLAMA[:2], "--gpu", "h100", "--num-gpus", "8"), "'h100-sxm5-80gb'"),
    "gpu of nobody": (
        (*LLAMA[:2], "--gpu", "rtx4090", *LLAMA[4:]),
        "docs/adding_a_gpu.md adds one",
    ),
    "unknown flag": ((*LLAMA, "--tensor-paralel", "2"), "did you mean '--tensor-parallel'"),
    "initials of a flag": ((*LLAMA, "--tp", "2"), "did you mean '--tensor-parallel'"),
    "three initials": ((*LLAMA, "--gbs", "2"), "did you mean '--global-batch-size'"),
    "initials of a field": (
        ("what-if", *LLAMA[1:], "--set", "plan.pp=2"),
        "did you mean 'pipeline_parallel'",
    ),
    "no gpu": (("estimate", "llama3-8b", "--num-gpus", "8"), "or as --gpu"),
    "no model": (("estimate", *LLAMA[2:]), "a case file or a model is needed"),
    "case of nothing": (("case",), "a case file or a model is needed"),
    "folder of a plan": (
        ("search", *LLAMA[1:], "--global-batch-size", "8", "-o", "absent/best.toml"),
        "absent/best.toml: cannot be written (No such file or directory)",
    ),
    "half a model": (("estimate", "--num-layers", "3"), "as --hidden-size"),
    "word for number": ((*LLAMA[:4], "--num-gpus", "eight"), "'eight' is not a valid integer"),
    "fraction": ((*LLAMA, "--micro-batch-size", "1.5"), "'1.5' is not a valid integer"),
    "zero": ((*LLAMA, "--seq-length", "0"), "training.seq_length = 0: must be at least 1"),
    "negative": ((*LLAMA, "--micro-batch-size", "-1"), "must be at least 1"),
    "huge": ((*LLAMA[:4], "--num-gpus", "9" * 30), "must be at most 4194304"),
    "astronomic": ((*LLAMA[:4], "--num-gpus", "9" * 5000), "is not a valid integer"),
    "not a number": ((*LLAMA, "--inter-node-latency-seconds", "nan"), "finite number"),
    "indivisible": ((*LLAMA[:4], "--num-gpus", "9", "--tensor-parallel", "3"), "must divide"),
    "replicas": ((*LLAMA, "--data-parallel", "3"), "plan.data_parallel = 3"),
    "batch": ((*LLAMA, "--tensor-parallel", "1", "--global-batch-size", "12"), "multiple of"),
    "word": ((*LLAMA, "--precision", "bf15"), "did you mean 'bf16'"),
    "words": ((*LLAMA, "--recompute-modules", "mlp,layernrm"), "did you mean 'layernorm'"),
    "list": ((*LLAMA, "--layers-per-stage", "1,x"), "not a list of whole numbers"),
    "no file": (("estimate", "absent.toml"), "absent.toml: cannot be read"),
    "stack": ((*LLAMA, "--implementation", "megatron-core-t"), "did you mean 'megatron-core-te'"),
    "no runs": (("validate", "absent.jsonl"), "absent.jsonl: cannot be read"),
    "fit of nothing": (("fit", "h100"), "did you mean 'h100-sxm5-80gb'"),
    "two forms": (
        (
            "case",
            "--from",
            "a",
            "--from",
            "b",
            "--from",
            "c",
            "--from-format",
            "nemo",
            "--from-format",
            "megatron",
        ),
        "once for each --from",
    ),
    "set twice": (
        (
            "what-if",
            *LLAMA[1:],
            "--set",
            "plan.tensor_parallel=2",
            "--set",
            "plan.tensor_parallel=4",
        ),
        "is set twice",
    ),
    "long range": (
        ("search", *LLAMA[1:4], "--num-gpus", "1-4000000:1", "--global-batch-size", "8"),
        "more than 1000 counts",
    ),
    "plot of no gpu": (("plot", "gemm", "--gpu", ",", "-o", "a.svg"), "names no GPU"),
    "name too long": (("case", *LLAMA[1:], "-o", "a" * 300), "File name too long"),
    "tokens": (("run", *LLAMA[1:], "--tokens", "0"), "between 1 and 1e+18 tokens"),
    "operators of nothing": (("operators", "--jsonl", "--gpu", "h1"), "'h100-sxm5-80gb'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_exit_code_2_and_one_line(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    arguments, words = BAD[name]
    ended = called(capsys, *arguments)
    assert ended.code == 2
    assert ended.out == ""
    assert words in ended.err
    assert ended.err.startswith("predictor: ")
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    "content", ["[model", "model = 3", "[[model]]\n", "[cluster]\nnum_gpus = 8\n[plan]\nx = 1\n"]
)
def test_a_damaged_case_file_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: str
) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(content, encoding="utf-8")
    for flags in ((), ("--num-layers", "3", "--tensor-parallel", "2")):
        ended = called(capsys, "estimate", str(path), *flags)
        assert ended.code == 2
        assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", '{"model_type": "llama"}'),
        ("titan.toml", "[job]\n[model]\nname = 'llama3'\n"),
        ("train.sh", "torchrun pretrain_gpt.py --num-layers 2"),
    ],
)
def test_another_tools_file_in_a_cases_place_is_pointed_to_its_flag(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, content: str
) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    ended = called(capsys, "estimate", str(path), *LLAMA[2:])
    assert ended.code == 2
    assert f"--from {path}" in ended.err


@pytest.mark.parametrize("command", ["trace", "report", "case", "validate"])
def test_where_nothing_can_be_written_the_file_and_a_way_out_are_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str
) -> None:
    if command == "report":
        pytest.importorskip("plotly")
        pytest.importorskip("jinja2")
    path = tmp_path / "absent" / "out"
    asked = (*LLAMA[1:], "-o", str(path))
    if command == "validate":
        asked = ("examples/runs.jsonl", "--markdown", str(path))
    ended = called(capsys, command, *asked)
    assert ended.code == 2
    assert f"{path}: cannot be written (No such file or directory)" in ended.err
    assert "name a file in a folder that exists" in ended.err
    assert not path.parent.exists()


@pytest.mark.parametrize("name", ["gemm", "gemm.txt", "."])
def test_a_picture_is_written_under_the_name_that_was_asked_for_or_not_at_all(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    pytest.importorskip("matplotlib")
    ended = called(capsys, "plot", "gemm", "--gpu", LLAMA[3], "-o", str(tmp_path / name))
    assert ended.code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_gpu_measured_into_the_working_directory_is_pointed_to(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bench_results" / "my-gpu").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert "PREDICTOR_BENCH_RESULTS=bench_results" in called(capsys, "fit", "my-gpu").err
    monkeypatch.setenv("PREDICTOR_BENCH_RESULTS", str(tmp_path / "bench_results"))
    assert "my-gpu lacks a gpu.toml" in called(capsys, "fit", "my-gpu").err
    assert "holds no table" in called(capsys, "fit").err
    assert "no folder in it holds a gpu.toml" in called(capsys, "gpus").err
    assert "my-gpu lacks a gpu.toml" in called(capsys, *LLAMA[:3], "my-gpu", *LLAMA[4:]).err


@pytest.mark.parametrize("command", ["models", "gpus", "implementations"])
def test_lists_are_text_or_json(capsys: pytest.CaptureFixture[str], command: str) -> None:
    text, parsed = called(capsys, command), called(capsys, command, "--json")
    assert (text.code, parsed.code) == (0, 0)
    rows = json.loads(parsed.out)
    lines = text.out.splitlines()
    assert len([line for line in lines if not line.startswith(" ")]) == len(rows) + 1
    assert max(map(len, lines)) <= 120
    assert all(row["name"] in text.out for row in rows)
    words = " ".join(text.out.split())
    assert all(word in words for row in rows for word in row.get("description", "").split())


def test_every_field_of_a_case_is_a_flag() -> None:
    names = [
        name
        for section in (*SECTIONS.values(), Moe, Mla)
        for name in kinds(section)
        if name != "notes"
    ]
    assert len(names) == len(set(names))
    assert {*names, "hf_config", "links", "implementation"} == set(case_flags())


@needs_tables
def test_an_estimate_is_json_alone_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    ended = called(capsys, *LLAMA, "--json")
    assert (ended.code, ended.err) == (0, "")
    answer = json.loads(ended.out)
    low, high = answer["interval_seconds"]
    assert low < answer["iteration_seconds"] < high
    assert sum(answer["breakdown"].values()) == pytest.approx(answer["iteration_seconds"])
    assert sum(answer["origin"].values()) == pytest.approx(1)
    assert answer["fits"] is True


@needs_tables
def test_flags_win_over_the_case_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "case.toml"
    path.write_text(
        '[model]\npreset = "llama3-8b"\n[training]\nseq_length = 4096\n'
        '[cluster]\ngpu = "h100-sxm5-80gb"\nnum_gpus = 8\n',
        encoding="utf-8",
    )
    ended = called(capsys, "estimate", str(path), "--seq-length", "2048", "--json")
    assert json.loads(ended.out)["case"]["training"]["seq_length"] == 2048


@needs_tables
def test_strict_refuses_extrapolated_communication(capsys: pytest.CaptureFixture[str]) -> None:
    ended = called(capsys, *LLAMA, "--strict")
    assert ended.code == 2
    assert "--strict" in ended.err


def test_an_internal_error_is_one_line_and_a_traceback_only_on_request(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise ZeroDivisionError("half\nof it")

    monkeypatch.setattr("predictor.report.listing.models_listing", broken)
    ended = called(capsys, "models")
    assert ended.code == 1
    assert ended.err == (
        "predictor: internal error: ZeroDivisionError: half of it; please report it\n"
    )
    with pytest.raises(ZeroDivisionError):
        run(["--debug", "models"])


def test_an_interrupt_while_modules_are_imported_is_one_line() -> None:
    script = (
        "import builtins\n"
        "from predictor.__main__ import main\n"
        "def stopped(*_, **__): raise KeyboardInterrupt\n"
        "builtins.__import__ = stopped\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (1, "predictor: interrupted\n")


def test_a_closed_pipe_ends_quietly() -> None:
    script = "from predictor.__main__ import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", script, "models", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()


def test_a_full_disk_below_stdout_is_no_bug_of_ours(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("predictor.commands.listing.say", full)
    ended = called(capsys, "models")
    assert ended.code == 1
    assert ended.err == "predictor: the output cannot be written: No space left on device\n"


@pytest.mark.parametrize(("group", "word"), [((), "estimate"), (("import",), "nccl-tests")])
def test_a_group_without_its_command_shows_what_there_is(
    capsys: pytest.CaptureFixture[str], group: tuple[str, ...], word: str
) -> None:
    ended = called(capsys, *group)
    assert (ended.code, ended.out) == (2, "")
    assert f"\n  {word} " in ended.err


def test_the_command_loads_no_heavy_library() -> None:
    script = (
        "import sys; from predictor.cli import run; run(['models']); "
        "print([m for m in ('pandas', 'statsmodels', 'rich', 'typer') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
