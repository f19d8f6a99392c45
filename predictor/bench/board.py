"""What NVML tells of GPUs beside their load: settings, links, and how they hang together.

Nothing is changed, and whatever the driver does not tell is left out.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import ModuleType
from typing import Any, Final

_MOST_LINKS: Final = 36
_PATHS: Final = {10: "PIX", 20: "PXB", 30: "PHB", 40: "NODE", 50: "SYS"}
"""What lies between two GPUs (nvml.h, nvmlGpuTopologyLevel_t) in the words of ``nvidia-smi topo``:
one PCIe switch, several, a host bridge, a NUMA node, the link between nodes."""
_SAME_BOARD: Final = "board"
_ITSELF: Final = "X"


def nvml_settings(pci_bus_id: str | bytes) -> dict[str, Any]:
    """Power cap, ECC, MIG, clocks and links as they are found; empty without NVML."""
    try:
        import pynvml  # noqa: PLC0415 - only where a GPU is measured

        pynvml.nvmlInit()
        raw = pci_bus_id if isinstance(pci_bus_id, bytes) else pci_bus_id.encode()
        handle = pynvml.nvmlDeviceGetHandleByPciBusId(raw)
    except Exception:  # noqa: BLE001 - no NVML, no settings
        return {}
    queries: dict[str, Callable[[], Any]] = {
        "power_cap_watts": lambda: 1e-3 * pynvml.nvmlDeviceGetEnforcedPowerLimit(handle),
        "ecc": lambda: bool(pynvml.nvmlDeviceGetEccMode(handle)[0]),
        "mig": lambda: bool(pynvml.nvmlDeviceGetMigMode(handle)[0]),
        "persistence": lambda: bool(pynvml.nvmlDeviceGetPersistenceMode(handle)),
        "vbios": lambda: _text(pynvml.nvmlDeviceGetVbiosVersion(handle)),
        "driver": lambda: _text(pynvml.nvmlSystemGetDriverVersion()),
        "max_sm_clock_hz": lambda: (
            1e6 * pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM)
        ),
        "memory_clock_hz": lambda: (
            1e6 * pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM)
        ),
        "nvlinks": lambda: _nvlinks(pynvml, handle),
        "temperature_celsius": lambda: pynvml.nvmlDeviceGetTemperature(
            handle, pynvml.NVML_TEMPERATURE_GPU
        ),
    }
    return _told(queries)


def _nvlinks(pynvml: ModuleType, handle: Any) -> int:  # noqa: ANN401
    """NVLinks that are up.

    Raises:
        LookupError: The driver knows of none.
    """
    states = []
    for link in range(_MOST_LINKS):
        with suppress(Exception):  # the board has no link of this number
            states.append(bool(pynvml.nvmlDeviceGetNvLinkState(handle, link)))
    if not states:
        raise LookupError("no NVLink")
    return sum(states)


def topology() -> dict[str, Any]:
    """How the GPUs of this host hang together; empty without NVML.

    Returns:
        ``gpus``, their number; ``numa_nodes``, one each; ``paths`` and ``nvlinks``, a row a GPU:
        the PCIe path to each GPU, and the NVLinks by which it reaches it, directly or by switches.
    """
    try:
        import pynvml  # noqa: PLC0415 - only where a GPU is measured

        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
    except Exception:  # noqa: BLE001 - no NVML, no topology
        return {}
    queries: dict[str, Callable[[], Any]] = {
        "gpus": lambda: count,
        "numa_nodes": lambda: [pynvml.nvmlDeviceGetNumaNodeId(each) for each in handles],
        "paths": lambda: _matrix(handles, lambda a, b: _path(pynvml, a, b)),
        "nvlinks": lambda: _matrix(handles, lambda a, b: _links_between(pynvml, a, b)),
    }
    return _told(queries)


def _told(queries: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """Answers by name; quantities that the driver does not report are left out."""
    told = {}
    for name, query in queries.items():
        with suppress(Exception):
            told[name] = query()
    return told


def _matrix(handles: Sequence[Any], between: Callable[[Any, Any], str]) -> list[str]:
    return [
        " ".join(_ITSELF if i == j else between(a, b) for j, b in enumerate(handles))
        for i, a in enumerate(handles)
    ]


def _path(pynvml: ModuleType, first: Any, second: Any) -> str:  # noqa: ANN401
    level = int(pynvml.nvmlDeviceGetTopologyCommonAncestor(first, second))
    return _PATHS.get(level, _SAME_BOARD)


def _links_between(pynvml: ModuleType, first: Any, second: Any) -> str:  # noqa: ANN401
    """NVLinks that end at the other GPU; all that are up where switches lie between."""
    status = pynvml.nvmlDeviceGetP2PStatus(first, second, pynvml.NVML_P2P_CAPS_INDEX_NVLINK)
    if status != pynvml.NVML_P2P_STATUS_OK:
        return "0"
    other = pynvml.nvmlDeviceGetPciInfo(second).busId
    direct = 0
    for link in range(_MOST_LINKS):
        with suppress(Exception):  # the board has no link of this number, or it is down
            end = pynvml.nvmlDeviceGetNvLinkRemotePciInfo(first, link).busId
            direct += end == other and bool(pynvml.nvmlDeviceGetNvLinkState(first, link))
    return str(direct or _nvlinks(pynvml, first))


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
