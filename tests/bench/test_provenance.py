"""Which SKU a device is, and what a run says of where it was measured."""

from datetime import UTC, datetime

import pytest

from predictor.bench.messages import Hello
from predictor.bench.provenance import describe_run, harness_hash, hashed, run_key
from predictor.bench.sku import sku_of
from predictor.errors import BenchError


@pytest.mark.parametrize(
    ("name", "sku"),
    [
        ("NVIDIA H100 80GB HBM3", "h100-sxm5-80gb"),
        ("NVIDIA H200", "h200-sxm5-141gb"),
        ("NVIDIA A100-SXM4-80GB", "a100-sxm4-80gb"),
        ("NVIDIA L40S", "l40s"),
    ],
)
def test_a_sku_is_known_by_what_the_driver_reports(name: str, sku: str) -> None:
    assert sku_of({"name": name}, "auto") == sku


def test_a_wanted_sku_must_be_a_folders_name() -> None:
    assert sku_of({"name": "x"}, "my-gpu") == "my-gpu"
    with pytest.raises(BenchError, match="lower-case"):
        sku_of({"name": "x"}, "../../etc")


def test_provenance_tells_code_board_libraries_and_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    board = {"power_cap_watts": 700.0, "ecc": True, "mig": False, "driver": "580", "vbios": "96"}
    monkeypatch.setattr("predictor.bench.provenance.nvml_settings", lambda _: board)
    hanging = {"gpus": 2, "nvlinks": ["X 18", "18 X"]}
    monkeypatch.setattr("predictor.bench.provenance.topology", lambda: hanging)
    monkeypatch.setattr("sys.argv", ["bench-run", "--operators", "gemm"])
    hello = Hello(
        properties={"uuid": "GPU-1234", "name": "Toy", "pci_bus_id": "0000:1B:00.0"},
        libraries={"cublas": {"version": "13.1", "path": "/lib/libcublas.so.13"}, "nccl": {}},
        build={"version": 3},
    )
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    run = describe_run(hello, sku="toy", at=at, arguments={"operators": "gemm"})
    assert run["command"] == "bench-run --operators gemm"
    assert (run["sku"], run["harness"], run["began"]) == ("toy", 3, "2026-01-02T03:04:05+00:00")
    assert run["device"] == {"name": "Toy", "pci_bus_id": "0000:1B:00.0"}
    assert (run["settings"], run["topology"]) == (board, hanging)
    assert run["harness_hash"] == harness_hash(None) != harness_hash(__file__)
    assert run["libraries"] == {"cublas": "13.1", "nccl": "missing"}
    assert run["library_files"] == {"cublas": "libcublas.so.13"}
    assert len(run["host_hash"]) == len(run["gpu_uuid_hash"]) == 16
    assert run["git"] is None or set(run["git"]) == {"commit", "dirty"}


def test_provenance_names_no_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    for name in ("SECRET_TOKEN", "PREDICTOR_BENCH_SECRET", "NCCL_COMM_ID", "NCCL_HOSTID"):
        monkeypatch.setenv(name, "hunter2")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/tmp/torchinductor_someone")  # noqa: S108
    monkeypatch.setenv("NCCL_NET_PLUGIN", "/home/someone/libnccl-net.so")
    monkeypatch.setattr("platform.node", lambda: "secret-host")
    monkeypatch.setattr("sys.argv", ["/home/someone/bin/bench-run", "--out", "/home/someone/x"])
    hello = Hello(
        properties={"uuid": "GPU-1234", "name": "Toy", "l2_bytes": 5},
        libraries={"cublas": {"version": "13", "path": "/home/someone/lib/libcublas.so.13"}},
        build={"version": 3},
    )
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    text = str(run := describe_run(hello, sku="toy", at=at, arguments={}))
    for secret in ("someone", "secret-host", "GPU-1234", "hunter2"):
        assert secret not in text
    assert run["environment"]["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert run["environment"]["NCCL_NET_PLUGIN"] == "libnccl-net.so"
    assert run["library_files"] == {"cublas": "libcublas.so.13"}
    assert run["gpu_uuid_hash"] == hashed("GPU-1234")
    assert run_key("toy", at) == "toy-20260102T030405Z"
    assert run_key("toy", at, {"toy-20260102T030405Z"}) == "toy-20260102T030405Z-2"
