"""Where a run's numbers come from: code, device, libraries, settings, time.

Nothing identifies a machine or a person: host name and GPU UUID are hashed, paths are cut to their
last part, and of the environment only variables that change kernels are kept.
"""

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Container, Mapping
from datetime import UTC, datetime
from importlib import metadata
from itertools import chain, count
from pathlib import Path
from typing import Any, Final

from predictor.bench.board import nvml_settings, topology
from predictor.bench.messages import Hello

_ENVIRONMENT_PREFIXES: Final = (
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_MAX_CONNECTIONS",
    "CUDA_LAUNCH_BLOCKING",
    "CUDA_MODULE_LOADING",
    "CUBLAS_",
    "CUBLASLT_",
    "CUDNN_",
    "NCCL_",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_NUM_THREADS",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "TORCHINDUCTOR_",
    "TORCH_CUDNN_",
)
# Of those, what names a host, a user's folder, or a job.
_LEFT_OUT_PREFIXES: Final = ("NCCL_DEBUG", "NCCL_COMM_ID", "NCCL_HOSTID")
_LEFT_OUT_SUFFIXES: Final = ("_DIR", "_FILE", "_PATH")
_PACKAGES: Final = ("torch", "triton", "transformers", "numpy", "nvidia-ml-py")
_GIT_TIMEOUT_SECONDS: Final = 5.0


def run_key(sku: str, at: datetime, taken: Container[str] = ()) -> str:
    """A run's key in runs.toml; one that is taken, by a run of the same second, gets a number."""
    key = f"{sku}-{at:%Y%m%dT%H%M%SZ}"
    names = chain([key], (f"{key}-{number}" for number in count(2)))
    return next(name for name in names if name not in taken)


def identity(hello: Hello, sku: str) -> dict[str, Any]:
    """What must agree for measurements to be of one kind: the part of every resume key."""
    return {
        "harness": hello.build.get("version"),
        "sku": sku,
        "driver": str(hello.properties.get("driver_version", "")),
        "runtime": str(hello.properties.get("runtime_version", "")),
        "libraries": library_versions(hello.libraries) | package_versions(),
    } | _identity_of_ranks(hello)


def _identity_of_ranks(hello: Hello) -> dict[str, Any]:
    """What tells curves of collectives apart: how NCCL is told to work, on how many hosts."""
    if "gpus" not in hello.properties:
        return {}
    told = {name: text for name, text in environment().items() if name.startswith("NCCL_")}
    return {"nccl_environment": told, "nodes": hello.properties.get("nodes")}


def describe_run(
    hello: Hello, *, sku: str, at: datetime, arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """Provenance of one process's measurements, as runs.toml keeps it."""
    properties = dict(hello.properties)
    uuid = str(properties.pop("uuid", ""))
    return {
        "sku": sku,
        "began": at.isoformat(timespec="seconds"),
        "command": " ".join(_last_part(argument) for argument in sys.argv),
        "arguments": {name: str(value) for name, value in arguments.items()},
        "git": _git(),
        "harness": hello.build.get("version"),
        "harness_hash": harness_hash(hello.build.get("file")),
        "gpu_uuid_hash": hashed(uuid) if uuid else None,
        "device": {name: _plain(value) for name, value in properties.items()},
        "settings": nvml_settings(str(properties.get("pci_bus_id", ""))),
        "topology": topology(),
        "libraries": library_versions(hello.libraries),
        "library_files": {
            name: _last_part(library["path"])
            for name, library in hello.libraries.items()
            if library.get("path")
        },
        "packages": package_versions(),
        "host_hash": hashed(platform.node()),
        "host": {"cpu_count": os.cpu_count(), "python": platform.python_version()},
        "environment": environment(),
    }


def environment() -> dict[str, str]:
    """The variables that change kernels, by an allow-list; paths are cut to their last part."""
    return {
        name: _last_part(value)
        for name, value in sorted(os.environ.items())
        if name.startswith(_ENVIRONMENT_PREFIXES)
        and not name.startswith(_LEFT_OUT_PREFIXES)
        and not name.endswith(_LEFT_OUT_SUFFIXES)
    }


def library_versions(libraries: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Version of each library that opens, ``missing`` for the others."""
    return {name: str(library.get("version") or "missing") for name, library in libraries.items()}


def package_versions() -> dict[str, str]:
    """Versions of the installed Python packages that kernels or telemetry come from."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def hashed(text: str) -> str:
    """Short digest that tells machines apart without naming them."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def harness_hash(native_file: object) -> str:
    """Digest of what measures: the native extension and the sources of ``predictor.bench``."""
    root = Path(__file__).parent
    files = [*sorted(root.rglob("*.py")), *([Path(str(native_file))] if native_file else [])]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def now() -> datetime:
    """Coordinated universal time."""
    return datetime.now(UTC)


def _git() -> dict[str, Any] | None:
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    commit, changes = (
        _git_output(root, *args) for args in (("rev-parse", "HEAD"), ("status", "--porcelain"))
    )
    return {"commit": commit.strip(), "dirty": bool(changes.strip())} if commit else None


def _git_output(root: Path, *arguments: str) -> str:
    try:
        return subprocess.run(  # noqa: S603 - fixed arguments
            ["git", "-C", str(root), *arguments],  # noqa: S607 - the user's own git
            capture_output=True,
            text=True,
            timeout=_GIT_TIMEOUT_SECONDS,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _last_part(text: str) -> str:
    head, equals, tail = text.rpartition("=")
    return head + equals + (Path(tail).name if tail.startswith("/") else tail)


def _plain(value: object) -> object:
    return value if isinstance(value, int | float | bool) else str(value)
