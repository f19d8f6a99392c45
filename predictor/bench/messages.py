"""What parent and worker tell each other."""

from dataclasses import dataclass
from typing import Any, Final

from predictor.tables import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a worker needs to begin.

    Attributes:
        device: ``cuda`` or ``mock``.
        index: Of the GPU.
        seed: Of the device's random data.
        native_module: Import name of the native extension.
    """

    device: str
    index: int = 0
    seed: int = 0
    native_module: str = "predictor._native"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """What the worker found.

    Attributes:
        properties: Of the device.
        libraries: Opened so far or openable.
        build: Of the native extension.
    """

    properties: dict[str, Any]
    libraries: dict[str, dict[str, str]]
    build: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """A request's result."""

    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A request that failed.

    Attributes:
        status: What becomes of the point.
        message: First line of the error.
        sticky: The device is lost and this process ends.
    """

    status: Status
    message: str
    sticky: bool


STATUS_OF_ERROR: Final[dict[str, tuple[Status, bool]]] = {
    "OutOfDeviceMemory": ("oom", False),
    "OutOfMemoryError": ("oom", False),
    "Unsupported": ("unsupported", False),
    "LibraryMissing": ("unsupported", False),
    "ModuleNotFoundError": ("unsupported", False),
    "NotImplementedError": ("unsupported", False),
    "DeviceFault": ("crash", True),
    "DeviceTimeout": ("timeout", True),
}
"""By the name of an error: what becomes of the point, and whether the device is lost."""


def describe(error: BaseException) -> str:
    """Kind and first line of an error."""
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first}"[:300]
