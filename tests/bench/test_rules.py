"""Rules of measuring that no single part holds: see docs/measuring.md."""

import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from predictor.bench import doctor
from predictor.bench.board import nvml_settings
from predictor.bench.journal import read_records
from predictor.bench.main import Outcome
from predictor.bench.points import IDLE_SECONDS, Point
from predictor.bench.raw import RAW_FILE
from predictor.bench.recorder import Recorder
from predictor.bench.rounds import RoundResult
from predictor.bench.session import CONTROL_EVERY_ROUNDS, Session
from predictor.bench.telemetry import Reading
from predictor.tables import read_folder

Measure = Callable[..., Outcome]
MakePoint = Callable[..., Point]
ROOT = Path(__file__).parents[2]


def records_of(outcome: Outcome, kind: str) -> list[dict[str, Any]]:
    records = read_records(outcome.folder / "journal.jsonl")
    return [record for record in records if record["record"] == kind]


def test_rounds_of_a_point_are_apart_and_each_pass_has_its_own_order(
    measure: Measure, point: MakePoint
) -> None:
    outcome = measure(*(point(m) for m in range(64, 80)))
    keys = [record["key"] for record in records_of(outcome, "round")]
    passes = [keys[i : i + 16] for i in (0, 16, 32)]
    assert all(len(set(each)) == 16 for each in passes), "each point once a pass"
    assert passes[0] != passes[1] != passes[2]


def test_each_round_keeps_why_it_stopped_and_how_its_samples_lay(
    measure: Measure, point: MakePoint
) -> None:
    for record in records_of(measure(point(64)), "round"):
        kept = record["round"]
        assert kept["stop_reason"] == "converged"
        assert kept["timer"] == "graph"
        assert kept["p10_seconds"] <= kept["seconds"] <= kept["p90_seconds"]
        assert {"mad_seconds", "lag1_autocorrelation", "drift", "samples"} <= set(kept)


def test_raw_samples_lie_in_a_side_file_and_a_resumed_run_adds_its_own(
    measure: Measure, point: MakePoint
) -> None:
    outcome = measure(point(64))
    path = outcome.folder / RAW_FILE
    lines = path.read_text().splitlines()
    assert len(lines) == len(records_of(outcome, "round")) + len(records_of(outcome, "control"))
    assert all(line.count(",") >= 20 for line in lines)
    measure(point(64), point(65), resume=True)
    assert path.read_text().splitlines()[: len(lines)] == lines
    assert len(path.read_text().splitlines()) > len(lines)


def test_raw_samples_that_cannot_be_kept_cost_no_measurement(
    measure: Measure, point: MakePoint, tmp_path: Path
) -> None:
    (tmp_path / "out" / RAW_FILE).mkdir(parents=True)
    outcome = measure(point(64), resume=True)
    assert (outcome.exit_code, len(outcome.rows)) == (0, 1)


def test_controls_come_every_so_many_rounds_and_their_drift_is_told(
    measure: Measure, point: MakePoint
) -> None:
    outcome = measure(*(point(m) for m in range(64, 64 + CONTROL_EVERY_ROUNDS)))
    controls = Counter(record["operator"] for record in records_of(outcome, "control"))
    assert controls == {"gemm": 3, "memory_bound": 3}
    told = read_folder(outcome.folder).runs[outcome.run]["controls"]
    assert abs(told["gemm"]["drift"]) < 0.03


def test_medians_of_rounds_cover_the_truth_where_one_rounds_interval_does_not() -> None:
    """With a 1 % offset a round: 5 rounds × 40 samples against 200 samples of one round."""
    draws = random.Random(1)  # noqa: S311 - noise
    within, between, trials = 0, 0, 400
    for _ in range(trials):
        rounds = [1 + draws.gauss(0, 0.01) for _ in range(5)]
        one = sorted(rounds[0] + draws.gauss(0, 0.005) for _ in range(200))
        within += one[85] <= 1 <= one[114]  # 95 % interval of the median, by its ranks
        medians = [median(offset + draws.gauss(0, 0.005) for _ in range(40)) for offset in rounds]
        between += min(medians) <= 1 <= max(medians)
    assert within / trials < 0.15
    assert between / trials > 0.90  # both extremes on one side: 2 / 2⁵ = 6 %


class FakeWorker:
    """Answers with rounds on a host clock of its own."""

    def __init__(self, load_seconds: float) -> None:
        self.load_seconds, self.now = load_seconds, 100.0
        self.asked: list[tuple[str, tuple[Any, ...]]] = []

    def ask(self, request: str, *arguments: Any, **_: Any) -> Any:
        self.asked.append((request, arguments))
        begin, self.now = self.now, self.now + self.load_seconds
        return (
            RoundResult(
                seconds=1e-4,
                seconds_low=1e-4,
                seconds_high=1e-4,
                samples=20,
                begin_seconds=begin,
                end_seconds=self.now,
            ),
            [],
        )


class FakeTelemetry:
    def window(self, begin: float, _end: float) -> Reading:
        return Reading(at_seconds=begin, sm_clock_hz=1.5e9, watts=500.0, event_reasons=4)


@pytest.mark.parametrize(("load_seconds", "idle"), [(0.03, IDLE_SECONDS), (0.005, None)])
def test_a_round_carries_its_clock_and_power_and_waits_after_a_load(
    point: MakePoint, load_seconds: float, idle: float | None
) -> None:
    worker = FakeWorker(load_seconds)
    session = Session(
        lambda: worker,  # type: ignore[arg-type,return-value]
        recorder=SimpleNamespace(),  # type: ignore[arg-type]
        telemetry=FakeTelemetry(),  # type: ignore[arg-type]
        say=print,
    )
    first = session.sample(0, point(64))
    assert (first.sm_clock_hz, first.watts, first.event_reasons) == (1.5e9, 500.0, 4)
    session.sample(0, point(64))
    not_before = worker.asked[1][1][2]
    assert not_before == (0.0 if idle is None else pytest.approx(first.end_seconds + idle))
    assert session.loaded_seconds == pytest.approx(2 * load_seconds)
    worker.now -= load_seconds  # another quantity of the same round
    session.sample(1, point(64))
    assert session.loaded_seconds == pytest.approx(2 * load_seconds)


def test_a_throttled_point_is_measured_again_once_and_kept_as_such(
    measure: Measure, point: MakePoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Session.sample

    def throttled(self: Session, key: int, each: Point) -> RoundResult:
        result = original(self, key, each)
        return result.observed(sm_clock_hz=1e9, watts=300.0, event_reasons=0x40)

    monkeypatch.setattr(Session, "sample", throttled)
    outcome = measure(point(64))
    assert [(row.status, row.rounds) for row in outcome.rows] == [("throttled", 3)]
    looks = Counter(record["look"] for record in records_of(outcome, "round"))
    assert looks == {0: 3, 1: 3}
    assert records_of(outcome, "point")[0]["note"] == "measured twice"
    energy = outcome.rows[0].energy_joules
    assert energy == pytest.approx(300.0 * (outcome.rows[0].seconds or 0))


def test_a_second_look_that_was_cut_short_does_not_mix_with_the_first(
    measure: Measure, point: MakePoint
) -> None:
    outcome = measure(point(64))
    records = read_records(outcome.folder / "journal.jsonl")
    key = records_of(outcome, "point")[0]["key"]
    rounds = [record for record in records if record["record"] == "round"]
    cut = [*rounds, rounds[0] | {"look": 1}]
    journal = SimpleNamespace(records=cut, done_keys=set)
    begun = Recorder(journal, identity=records[0]["identity"], run="r").begin(point(64), 0)  # type: ignore[arg-type]
    assert rounds[0]["key"] == key
    assert (begun.look, len(begun.rounds)) == (1, 1)


def test_nothing_in_the_project_sets_a_clock_a_limit_or_a_mode_of_a_gpu() -> None:
    setting = re.compile(r"nvmlDevice(Set|Reset|Clear)|nvidia-smi\s+-[a-z]*(pl|lgc|pm|mig|ac)\b")
    sources = [*ROOT.glob("predictor/**/*.py"), *ROOT.glob("csrc/**/*.*")]
    assert not [path for path in sources if setting.search(path.read_text(encoding="utf-8"))]


def fake_nvml(monkeypatch: pytest.MonkeyPatch, *, mig: bool) -> None:
    """A board of one GPU with 18 links."""
    answers: dict[str, Any] = {
        "nvmlInit": None,
        "nvmlSystemGetDriverVersion": "580.1",
        "nvmlDeviceGetCount": 1,
        "nvmlDeviceGetHandleByIndex": "handle",
        "nvmlDeviceGetHandleByPciBusId": "handle",
        "nvmlDeviceGetPciInfo": SimpleNamespace(busId=b"0000:00:00.0"),
        "nvmlDeviceGetName": "NVIDIA Toy",
        "nvmlDeviceGetEnforcedPowerLimit": 700_000,
        "nvmlDeviceGetMigMode": (int(mig), int(mig)),
        "nvmlDeviceGetPersistenceMode": 1,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, lambda *_, answer=answer: answer)

    def link(_handle: str, number: int) -> int:
        if number >= 18:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        return 1

    monkeypatch.setattr(pynvml, "nvmlDeviceGetNvLinkState", link)


def test_settings_of_a_run_hold_cap_mig_and_links_and_nothing_that_the_driver_does_not_tell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_nvml(monkeypatch, mig=False)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetEccMode", refused)
    settings = nvml_settings("0000:00:00.0")
    assert settings["power_cap_watts"] == 700
    assert (settings["mig"], settings["nvlinks"], settings["driver"]) == (False, 18, "580.1")
    assert "ecc" not in settings
    monkeypatch.setattr(pynvml, "nvmlDeviceGetNvLinkState", refused)
    assert "nvlinks" not in nvml_settings("0000:00:00.0"), "a board without links"


def refused(*_: object) -> None:
    raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)


def test_doctor_tells_links_cap_mig_and_persistence(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvml(monkeypatch, mig=False)
    found = doctor.examine()
    assert found["driver"]["state"] == "580.1"
    state = found["GPU 0"]["state"]
    assert state == "NVIDIA Toy, 18 NVLinks, power cap 700 W, persistence on, MIG off"
    fake_nvml(monkeypatch, mig=True)
    assert "a slice, not the SKU" in doctor.examine()["GPU 0"]["way_out"]


@pytest.mark.native
def test_doctor_names_a_library_with_path_and_version_or_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("predictor._native")
    monkeypatch.setenv("PREDICTOR_NCCL", "/nowhere/libnccl.so.2")
    finding = doctor.examine()["NCCL"]
    assert not finding["ok"]
    assert "pip install nvidia-nccl-cu13, or set PREDICTOR_NCCL" in finding["way_out"]
