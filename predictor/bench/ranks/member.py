"""A rank's side of measuring collectives: requests and answers are plain values, as in JSON."""

import importlib
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from math import isfinite
from typing import Any

from predictor.bench.messages import Start
from predictor.bench.provenance import hashed
from predictor.bench.ranks.choices import Choices
from predictor.bench.worker import Bench

WRONG_RESULT = 1.0
"""Relative error that stands for elements that are not exact."""


def gpu_index(start: Start) -> int:
    """Number of a rank's GPU: its local rank, but 0 where the launcher shows it one GPU alone."""
    native = importlib.import_module(start.native_module)
    return 0 if native.cuda_device_count() == 1 else start.index


class RankBench(Bench):
    """A worker's bench that can join groups of ranks."""

    def __init__(self, start: Start) -> None:
        """Open the device."""
        super().__init__(replace(start, index=gpu_index(start)))
        self._launches: dict[str, Any] = {}
        self._choices = Choices()

    def requests(self) -> dict[str, Callable[..., Any]]:
        """A single GPU's requests, and those of ranks."""
        return super().requests() | {
            "place": self.place,
            "new_group_id": self.new_group_id,
            "join": self.join,
            "leave": self.leave,
            "prepare_launch": self.prepare_launch,
            "probe": self.probe,
            "lockstep": self.lockstep,
            "beside": self.beside,
            "choice": self.choice,
            "check_launch": self.check_launch,
            "forget": self.forget,
        }

    def place(self) -> dict[str, Any]:
        """Where this rank is: a digest of its host, and its GPU."""
        properties = self._device.properties
        return {
            "host": hashed(socket.gethostname()),
            "gpu": str(properties.get("name", "")),
            "pid": os.getpid(),
        }

    def new_group_id(self) -> str:
        """Hexadecimal id of a new group."""
        return bytes(self._device.new_group_id()).hex()

    def join(self, name: str, group_id: str, ranks: int, rank: int, max_ctas: int) -> None:
        """Join a group; returns once all ranks have."""
        self._device.join(name, bytes.fromhex(group_id), ranks=ranks, rank=rank, max_ctas=max_ctas)

    def leave(self, name: str) -> None:
        """Leave a group."""
        self._device.leave(name)

    def prepare_launch(self, key: str, launch: dict[str, Any]) -> int:
        """Build a workload; the number of its buffer sets comes back."""
        workload = self._device.prepare(
            launch["operator"],
            launch["fields"],
            flops=launch["flops"],
            bytes=launch["bytes"],
            working_set_bytes=launch["working_set_bytes"],
            cache=launch["cache"],
        )
        self._launches[key] = workload
        return int(workload.buffer_sets)

    def probe(self, key: str, aligner: str, enqueues: int, timeout_seconds: float) -> float:
        """Seconds of one launch."""
        return float(
            self._device.probe(
                self._launches[key],
                self._launches[aligner],
                enqueues=enqueues,
                timeout_seconds=timeout_seconds,
            )
        )

    def lockstep(self, key: str, aligner: str, plan: dict[str, Any]) -> dict[str, Any]:
        """One round: samples in order, and when it ran."""
        found = self._device.sample_lockstep(self._launches[key], self._launches[aligner], **plan)
        return {
            "samples": list(found.samples_seconds),
            "launches": found.launches,
            "gate_expired": found.gate_expired,
            "begin": found.wall_begin_seconds,
            "end": found.wall_end_seconds,
        }

    def beside(
        self, compute: str, collective: str, aligner: str, plan: dict[str, Any]
    ) -> dict[str, Any]:
        """One round of two sides: seconds of each interval, and when it ran."""
        found = self._device.sample_beside(
            self._launches[compute], self._launches[collective], self._launches[aligner], **plan
        )
        return {
            "compute": list(found.compute_seconds),
            "collective": list(found.collective_seconds),
            "begin": found.wall_begin_seconds,
            "end": found.wall_end_seconds,
        }

    def choice(self) -> str:
        """How the library carried out the collective that was launched last."""
        return self._choices.latest()

    def check_launch(self, key: str, seed: int) -> float:
        """Relative error of a collective's result on this rank: 0 where it is exact."""
        error = float(self._device.check(self._launches[key], seed))
        return error if isfinite(error) else WRONG_RESULT

    def forget(self, keys: list[str]) -> None:
        """Forget workloads."""
        for key in keys:
            self._launches.pop(key, None)
