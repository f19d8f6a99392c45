"""The same question has the same answer, bit for bit, wherever and in whatever order it is put."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from predictor import Case, estimate, estimate_many
from predictor.case import bench_results_folder
from predictor.costs import fitting
from predictor.costs.fitting import check_fit, fit_folder, write_fit
from predictor.errors import FitError

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "llama3_8b_one_node.toml"
SKU = "h100-sxm5-80gb"
PROGRAM = "import sys; from predictor.cli import run; sys.exit(run(sys.argv[1:]))"
PLACES = (
    {"LC_ALL": "C", "TZ": "UTC", "PYTHONHASHSEED": "1"},
    {"LC_ALL": "tr_TR.UTF-8", "LANG": "de_DE.UTF-8", "TZ": "Asia/Kolkata", "PYTHONHASHSEED": "2"},
)


def told(*arguments: str, place: dict[str, str]) -> bytes:
    """What the command prints in an environment of its own."""
    paths = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    environment = os.environ | {"PYTHONPATH": paths} | place
    command = [sys.executable, "-c", PROGRAM, *arguments]
    return subprocess.run(command, capture_output=True, check=True, env=environment).stdout


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
def test_locale_time_zone_and_order_of_hashes_change_nothing(form: tuple[str, ...]) -> None:
    here, there = (told("estimate", str(EXAMPLE), *form, place=place) for place in PLACES)
    assert here == there


def test_a_fit_does_not_depend_on_the_order_of_files(tmp_path: Path) -> None:
    source = bench_results_folder() / SKU
    names = ["gpu.toml", "runs.toml", "memcpy.csv", "optimizer.csv", "all_gather.csv"]
    fits = []
    for order in (names, names[::-1]):
        folder = tmp_path / str(len(fits)) / SKU
        folder.mkdir(parents=True)
        for name in order:
            shutil.copyfile(source / name, folder / name)
        fits.append(fit_folder(folder))
    assert fits[0] == fits[1]


@pytest.mark.parametrize(("moved", "drifts"), [(0.0, 0), (0.1, 0), (2.0, 1)])
def test_a_fit_drifts_by_its_standard_errors(tmp_path: Path, moved: float, drifts: int) -> None:
    folder = tmp_path / SKU
    folder.mkdir()
    for name in ("gpu.toml", "runs.toml", "optimizer.csv"):
        shutil.copyfile(bench_results_folder() / SKU / name, folder / name)
    write_fit(folder)
    kept = json.loads((folder / "fit.json").read_text(encoding="utf-8"))
    fit = kept["fits"]["optimizer/cold"]
    fit["surface"]["coefficients"][0][0] += moved * fit["standard_errors"][0][0]
    (folder / "fit.json").write_text(json.dumps(kept), encoding="utf-8")
    found = check_fit(folder)
    assert len(found) == drifts
    assert all("optimizer/cold drifted" in line for line in found)


def test_a_fit_that_no_command_could_read_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / SKU
    folder.mkdir()
    for name in ("gpu.toml", "runs.toml", "optimizer.csv"):
        shutil.copyfile(bench_results_folder() / SKU / name, folder / name)
    before = write_fit(folder).read_bytes()
    content = fit_folder(folder)
    content["fits"]["optimizer/cold"]["surface"]["coefficients"][0][0] = 1e6
    monkeypatch.setattr(fitting, "fit_folder", lambda _: content)
    with pytest.raises(FitError, match=r"optimizer/cold: .*--operators optimizer"):
        write_fit(folder)
    assert (folder / "fit.json").read_bytes() == before


def test_many_cases_are_estimated_in_order_as_one_by_one() -> None:
    case = Case.from_file(EXAMPLE)
    fields = case.to_dict()
    cases = [
        Case.from_dict(fields | {"training": fields["training"] | {"global_batch_size": size}})
        for size in (64, 16, 64, 128)
    ]
    answers = estimate_many(iter(cases))
    assert [answer.to_dict() for answer in answers] == [estimate(c).to_dict() for c in cases]
    assert estimate_many([]) == []


@pytest.mark.parametrize(
    ("implementation", "stages"),
    [("megatron-core-te", 1), ("megatron-core-te", 2), ("hf-fsdp2", 1), ("torchtitan", 2)],
)
def test_cases_that_share_launches_get_the_numbers_of_their_own(
    implementation: str, stages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cases of other batches left behind changes nothing: three micro-batches and more."""
    cases = [
        Case.from_dict(
            {
                "implementation": implementation,
                "model": {"preset": "llama3-8b", "num_layers": 4},
                "training": {"seq_length": 2048, "global_batch_size": 8 * batches},
                "plan": {"tensor_parallel": 1, "pipeline_parallel": stages},
                "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 8 * stages},
            }
        )
        for batches in (1, 2, 3, 8)
    ]
    shared = [estimate(case).to_dict() for case in cases]
    own = sys.modules["predictor.iteration.built"]
    monkeypatch.setattr(own, "FEW_MICRO_BATCHES", 10**9)  # each builds its own
    assert [estimate(case).to_dict() for case in cases] == shared
