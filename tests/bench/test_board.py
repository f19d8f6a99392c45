"""How the GPUs of a host hang together, as a double of NVML tells it."""

import sys
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from predictor.bench import doctor
from predictor.bench.board import topology

LINKS = 18
SWITCH = b"00000000:05:00.0"


def bus(gpu: int) -> bytes:
    return f"00000000:{gpu:02X}:00.0".encode()


def refused(*_: object) -> None:
    raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)


def host(monkeypatch: pytest.MonkeyPatch, *, gpus: int, nvlink: bool, far_end: Any = None) -> None:
    """Two GPUs a NUMA node, each behind a host bridge; ``far_end`` says where a link ends."""
    ok = pynvml.NVML_P2P_STATUS_OK
    answers: dict[str, Any] = {
        "nvmlInit": lambda: None,
        "nvmlSystemGetDriverVersion": lambda: "580.1",
        "nvmlDeviceGetCount": lambda: gpus,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetHandleByPciBusId": lambda _: 0,
        "nvmlDeviceGetName": lambda _: "NVIDIA Toy",
        "nvmlDeviceGetPciInfo": lambda gpu: SimpleNamespace(busId=bus(gpu)),
        "nvmlDeviceGetNumaNodeId": lambda gpu: gpu // 2,
        "nvmlDeviceGetTopologyCommonAncestor": lambda a, b: 40 if a // 2 == b // 2 else 50,
        "nvmlDeviceGetP2PStatus": lambda *_: ok if nvlink else ok + 1,
        "nvmlDeviceGetNvLinkState": lambda _, link: 1 if link < LINKS else refused(),
        "nvmlDeviceGetNvLinkRemotePciInfo": lambda gpu, link: SimpleNamespace(
            busId=far_end(gpu, link) if far_end else SWITCH
        ),
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)


def test_behind_switches_a_gpu_reaches_every_other_over_all_its_links(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host(monkeypatch, gpus=3, nvlink=True)
    assert topology() == {
        "gpus": 3,
        "numa_nodes": [0, 0, 1],
        "paths": ["X NODE SYS", "NODE X SYS", "SYS SYS X"],
        "nvlinks": ["X 18 18", "18 X 18", "18 18 X"],
    }


def test_links_that_end_at_a_gpu_are_counted_for_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    towards = {(0, 1): 12, (1, 2): 12, (2, 0): 12}  # of its links to the next GPU, the rest back
    host(
        monkeypatch,
        gpus=3,
        nvlink=True,
        far_end=lambda gpu, link: bus(
            next((b for (a, b), n in towards.items() if a == gpu and link < n), (gpu - 1) % 3)
        ),
    )
    assert topology()["nvlinks"] == ["X 12 6", "6 X 12", "12 6 X"]


def test_without_nvlink_there_is_a_path_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    host(monkeypatch, gpus=2, nvlink=False)
    seen = topology()
    assert (seen["nvlinks"], seen["paths"]) == (["X 0", "0 X"], ["X NODE", "NODE X"])


def test_what_the_driver_does_not_tell_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    host(monkeypatch, gpus=2, nvlink=True)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetNumaNodeId", refused)
    assert set(topology()) == {"gpus", "paths", "nvlinks"}
    monkeypatch.setattr(pynvml, "nvmlInit", refused)
    assert topology() == {}


def test_doctor_says_how_to_build_what_measures_and_that_predictions_need_it_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "predictor._native", None)
    findings = doctor.examine()
    found = findings["native extension"]
    assert (found["ok"], found["state"]) == (False, "not built")
    assert "pip install ." in found["way_out"]
    assert "predictions need none of it" in doctor.verdict(findings)
    assert "GPU" not in findings


def test_doctor_tells_how_several_gpus_hang_together(monkeypatch: pytest.MonkeyPatch) -> None:
    host(monkeypatch, gpus=2, nvlink=True)
    state = doctor.examine()["topology"]["state"]
    assert state == "NUMA nodes 0 0, paths X NODE; NODE X, NVLinks X 18; 18 X"
    host(monkeypatch, gpus=1, nvlink=True)
    assert "topology" not in doctor.examine()
