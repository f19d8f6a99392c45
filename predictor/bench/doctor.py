"""What a machine can measure, and what to do about what it cannot."""

import importlib
import importlib.util
from importlib import metadata
from typing import Any

from predictor.bench.worker import describe

Finding = dict[str, Any]


def examine() -> dict[str, Finding]:
    """Look at every part of the measuring machinery without touching a GPU's settings."""
    findings = {"native extension": _native()}
    if findings["native extension"]["ok"]:
        findings["GPU"] = _gpu()
        findings |= _libraries() if findings["GPU"]["ok"] else {}
    findings["telemetry"] = _telemetry()
    for package, why in (
        ("torch", "PyTorch's kernels and host costs are left out"),
        ("transformers", "host costs of Hugging Face models are left out"),
        ("triton", "compiled kernels are left out"),
        ("pyarrow", "--raw is not possible"),
    ):
        findings[package] = _package(package, why)
    return findings


def verdict(findings: dict[str, Finding]) -> str:
    """What can be run here, in a sentence."""
    if not findings["native extension"]["ok"]:
        return "nothing can be measured: the native extension is missing"
    if not findings["GPU"]["ok"]:
        return "only the mock can be measured: bench-run --device mock --out FOLDER"
    return "ready: bench-run --time-budget 8m"


def _native() -> Finding:
    try:
        native = importlib.import_module("predictor._native")
    except ImportError as error:
        return _missing(describe(error), "build it: pip install . with a C++ compiler")
    build = dict(native.build)
    return _found(f"version {build.get('version')}, CUDA {build.get('cuda')}")


def _gpu() -> Finding:
    native = importlib.import_module("predictor._native")
    if not native.build.get("cuda"):
        return _missing("the extension was built without CUDA", "rebuild with PREDICTOR_CUDA=1")
    count = native.cuda_device_count()
    if count == 0:
        return _missing("no CUDA device", "check the driver with nvidia-smi")
    return _found(f"{count} CUDA device(s)")


def _libraries() -> dict[str, Finding]:
    native = importlib.import_module("predictor._native")
    try:
        libraries = native.Device("cuda", 0).libraries
    except native.NativeError as error:
        return {"device": _missing(describe(error), "see whether another process holds the GPU")}
    return {
        name: _missing(library["error"], f"install a wheel or package that holds {name}")
        if library.get("error")
        else _found(library.get("version", ""))
        for name, library in libraries.items()
    }


def _telemetry() -> Finding:
    try:
        import pynvml  # noqa: PLC0415 - may be absent

        pynvml.nvmlInit()
        return _found(f"NVML, {pynvml.nvmlDeviceGetCount()} GPU(s)")
    except Exception as error:  # noqa: BLE001 - whatever it is, telemetry is not to be had
        return _missing(describe(error), "clock, power and energy columns stay empty")


def _package(package: str, why: str) -> Finding:
    if importlib.util.find_spec(package) is None:
        return _missing("not installed", why)
    try:
        return _found(metadata.version(package))
    except metadata.PackageNotFoundError:
        return _found("installed")


def _found(state: str) -> Finding:
    return {"ok": True, "state": state, "way_out": ""}


def _missing(state: str, way_out: str) -> Finding:
    return {"ok": False, "state": state, "way_out": way_out}
