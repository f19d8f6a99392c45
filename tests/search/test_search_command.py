"""`predictor search`: exit codes, one line for what a user did, a table of at most 100 columns."""

import json

import pytest

from predictor.cli import run

ASKED = (
    "search",
    "gpt3-1.3b",
    "--gpu",
    "h100-sxm5-80gb",
    "--num-gpus",
    "8",
    "--global-batch-size",
    "16",
    "--seq-length",
    "2048",
    "--recompute",
    "none",
    "--tensor-parallel",
    "1,2",
)


def test_the_table_fits_a_terminal(capsys):
    assert run([*ASKED, "--top", "4"]) == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 100
    assert "plans in" in printed
    assert "±" in printed


def test_json_alone_is_on_stdout(capsys):
    assert run([*ASKED, "--top", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {"plans_evaluated", "search_seconds", "plans", "rejected"} <= set(told)
    assert len(told["plans"]) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*ASKED, "--num-gpus", "8-"), "num_gpus = '8-'"),
        ((*ASKED, "--gpu", "h100"), "did you mean"),
        ((*ASKED, "--tensor-parallel", "1,x"), "plan.tensor_parallel = '1,x'"),
        ((*ASKED, "--tensor-parallel", "3"), "tensor_parallel = 3 rules out"),
        ((*ASKED, "--schedule", "1f2b"), "did you mean '1f1b'"),
        ((*ASKED, "--objective", "tim"), "did you mean 'time'"),
        ((*ASKED, "--pareto", "time,speed"), "pareto = 'speed'"),
        ((*ASKED, "--top", "0"), "top = 0"),
        ((*ASKED, "--global-batch-size", "0"), "global_batch_size = 0: must be at least 1"),
        (ASKED[:4], "--num-gpus is needed"),
        (("search", "absent.toml"), "absent.toml: cannot be read"),
        (("search", "gpt3-1.4b", *ASKED[2:]), "did you mean"),
    ],
)
def test_what_a_user_did_is_one_line(capsys, arguments, words):
    assert run(list(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert words in captured.err
    assert captured.err.count("\n") == 1
