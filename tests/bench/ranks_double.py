"""A double of the native extension whose collectives wait for each other, as NCCL's do.

Ranks meet through files, which works across processes and network namespaces alike. Each rank is
a tenth of rank 0's time slower than the last. The last rank of a group fails on demand, by the
``bytes`` of a collective.
"""

import os
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from native_double import Device as SingleDevice
from native_double import (
    DeviceFault,
    NativeError,
    OutOfDeviceMemory,
    SamplingPolicy,
    Workload,
    build,
    cuda_device_count,
)

__all__ = [
    "Device",
    "DeviceFault",
    "NativeError",
    "OutOfDeviceMemory",
    "SamplingPolicy",
    "build",
    "cuda_device_count",
]

FAULTS = {"killed": 70_001, "hangs": 70_002, "sticky": 70_003, "wrong": 70_004, "crowded": 70_005}
FAULTS["slow"] = 70_006
SLOW_SECONDS = 0.2  # late to every meeting, not in its own clock
ENDLESS_SECONDS = 60.0
SLOWER = 0.1
BESIDE = {"compute": 1.1, "collective": 1.5}
SLOWED_BYTES, MOST_CALLS = 3 << 20, 3
"""Of more calls of such a collective, no interval ends while the other side runs."""


def toy_seconds(size: int, rank: int) -> float:
    """What is told: 5 µs and 1 TB/s, a tenth slower with every rank; the middle of 0.1 % steps."""
    return (5e-6 + size / 1e12) * (1 + SLOWER * rank)


@dataclass
class Group:
    """One rank's place in a group."""

    folder: Path
    ranks: int
    rank: int
    steps: int = 0

    def meet(self) -> None:
        """Wait for all ranks; for ever, where one does not come."""
        self.steps += 1
        (self.folder / f"{self.steps}-{self.rank}").touch()
        deadline = time.monotonic() + ENDLESS_SECONDS
        while len(list(self.folder.glob(f"{self.steps}-*"))) < self.ranks:
            time.sleep(0.002)
            if time.monotonic() > deadline:
                raise DeviceFault("the other ranks never came")


@dataclass
class Lockstep:
    """Samples of one rank."""

    samples_seconds: list[float]
    launches: int = 0
    gate_expired: bool = False
    wall_begin_seconds: float = 0.0
    wall_end_seconds: float = 0.01


@dataclass
class Beside:
    """Intervals of both sides."""

    compute_seconds: list[float] = field(default_factory=list)
    collective_seconds: list[float] = field(default_factory=list)
    wall_begin_seconds: float = 0.0
    wall_end_seconds: float = 0.01


class Device(SingleDevice):
    """A toy GPU with links."""

    def __init__(self, kind: str, index: int = 0, *, seed: int = 0) -> None:
        super().__init__(kind, index, seed=seed)
        self._index = index
        self._groups: dict[str, Group] = {}
        self.libraries["nccl"] = {"version": os.environ.get("DOUBLE_NCCL", "2.28.9")}

    def new_group_id(self) -> bytes:
        return tempfile.mkdtemp(prefix="group-", dir=os.environ.get("DOUBLE_FOLDER")).encode()

    def join(self, name: str, group_id: bytes, *, ranks: int, rank: int, max_ctas: int) -> None:
        assert max_ctas >= 0
        self._groups[name] = Group(Path(group_id.decode()), ranks, rank)
        self._groups[name].meet()

    def leave(self, name: str) -> None:
        del self._groups[name]

    def prepare(self, operator: str, fields: dict[str, Any], **work: Any) -> Workload:
        if "group" in fields and fields["group"] not in self._groups:
            raise NativeError("not joined")
        if self._last(fields) and fields["bytes"] == FAULTS["crowded"]:
            raise OutOfDeviceMemory("the last rank is full")
        workload = super().prepare(operator, fields, **work)
        workload.seconds *= 1 + SLOWER * self._index
        return workload

    def probe(
        self, workload: Workload, aligner: Workload, *, enqueues: int, timeout_seconds: float
    ) -> float:
        assert enqueues > 0 < timeout_seconds
        self._meet(aligner)
        return workload.seconds

    def sample_lockstep(self, workload: Workload, aligner: Workload, **plan: Any) -> Lockstep:
        self._break(workload)
        self._meet(aligner)
        samples = [workload.seconds * (1 + 0.001 * i) for i in range(plan["samples"])]
        return Lockstep(samples, plan["samples"] * plan["enqueues_per_sample"])

    def sample_beside(
        self, compute: Workload, collective: Workload, aligner: Workload, **plan: Any
    ) -> Beside:
        self._meet(aligner)
        together = plan["compute_calls"] > 0 < plan["collective_calls"]
        count = plan["intervals"]
        slowed = together and collective.fields["bytes"] == SLOWED_BYTES
        if slowed and plan["collective_calls"] > MOST_CALLS:
            return Beside([compute.seconds] * count, [-1.0] * count)
        return Beside(
            [compute.seconds * (BESIDE["compute"] if together else 1)] * count,
            # The window ends before the last interval of the communication stream does.
            [collective.seconds * (BESIDE["collective"] if together else 1)] * (count - 1) + [-1.0],
        )

    def check(self, workload: Workload, seed: int = 0) -> float:
        if "group" not in workload.fields:
            return super().check(workload, seed)
        self._meet(workload)
        wrong = workload.fields["bytes"] == FAULTS["wrong"] and self._last(workload.fields)
        return float("inf") if wrong else 0.0

    def _last(self, fields: dict[str, Any]) -> bool:
        group = self._groups.get(str(fields.get("group")))
        return group is not None and group.rank == group.ranks - 1

    def _meet(self, workload: Workload) -> None:
        self._groups[workload.fields["group"]].meet()

    def _break(self, workload: Workload) -> None:
        if not self._last(workload.fields):
            return
        if workload.fields["bytes"] == FAULTS["slow"]:
            time.sleep(SLOW_SECONDS)
        self._fail(
            {FAULTS[name]: single for name, single in _SINGLE.items()}.get(workload.fields["bytes"])
        )


_SINGLE = {"killed": 70001, "hangs": 70002, "sticky": 70003}
