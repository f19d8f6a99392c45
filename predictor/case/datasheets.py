"""A GPU as its datasheet has it: ``bench_results/<sku>/gpu.toml``.

A value is written as ``{ value, source }``, where ``source`` is a key of the file's ``[sources]``;
each source says where it was read, when, and of what kind it is.
"""

from __future__ import annotations

import re
from typing import Any

from predictor.case.presets import closest, preset_names
from predictor.errors import nearest
from predictor.values import frozen

REDUCING_SWITCHES = frozenset({"Hopper", "Blackwell", "Blackwell Ultra"})
"""Architectures whose NVLink switches can reduce (NVLS); NCCL lets them unless told not to."""

FIRST_WITH_CLUSTERS = 9
"""Generation from which on products run in clusters of blocks: Hopper."""

LIMITS = {
    "peak_flops_per_second": (1e9, 1e19),
    "memory_bytes": (2**24, 2**50),
    "memory_bytes_per_second": (1e8, 1e17),
    "l2_bytes": (2**10, 2**40),
    "sm_count": (1, 2**20),
    "boost_clock_hz": (1e7, 1e12),
    "power_watts": (1, 1e6),
    "scaleup_bytes_per_second": (1e6, 1e17),
    "pcie_bytes_per_second": (1e6, 1e17),
    "scaleup_gpus": (1, 2**20),
    "usd_per_gpu_hour": (1e-3, 1e6),
}
"""Least and most of each number of a datasheet: some powers of ten around any GPU there is."""

WHOLE = {"memory_bytes", "l2_bytes", "sm_count", "scaleup_gpus"}


@frozen(kw_only=True)
class Gpu:
    """A GPU as its datasheet has it. A value that nobody published is None.

    Attributes:
        sku: Name of its folder.
        name: As the driver reports it.
        architecture: For example ``Hopper``.
        compute_capability: For example ``9.0``.
        sm_count: Streaming multiprocessors.
        peak_flops_per_second: Dense rate of each number format.
        memory_bytes: As the device reports it where that is known, else the label.
        memory_bytes_per_second: Rate of the device memory.
        l2_bytes: Second-level cache.
        boost_clock_hz: Clock that the peak rates stand for.
        power_watts: Power limit.
        scaleup_bytes_per_second: One way, per GPU, over all links inside the scale-up domain.
        pcie_bytes_per_second: One way, to the host.
        scaleup_gpus: GPUs of the scale-up domain (NVLink) of the usual machine.
        network: Preset of the network of the usual machine.
        usd_per_gpu_hour: Dated list price.
        price_source: Who lists it, for what.
        price_date: When it was read.
        sources: Source of each value, in words.
    """

    sku: str
    name: str
    architecture: str
    compute_capability: str
    sm_count: int | None = None
    peak_flops_per_second: dict[str, float]
    memory_bytes: int
    memory_bytes_per_second: float
    l2_bytes: int | None = None
    boost_clock_hz: float | None = None
    power_watts: float
    scaleup_bytes_per_second: float
    pcie_bytes_per_second: float
    scaleup_gpus: int
    network: str
    usd_per_gpu_hour: float | None = None
    price_source: str = ""
    price_date: str = ""
    sources: dict[str, str]

    @property
    def switches_reduce(self) -> bool:
        """The NVLink switches of its usual machine can reduce."""
        return self.architecture in REDUCING_SWITCHES

    @property
    def generation(self) -> int:
        """Major number of the compute capability: GPUs of one generation run the same kernels."""
        return int(self.compute_capability.partition(".")[0])

    @property
    def runs_clusters(self) -> bool:
        """Products run in clusters of blocks, over several SMs at a time."""
        return self.generation >= FIRST_WITH_CLUSTERS


def parse_datasheet(sku: str, raw: dict[str, Any]) -> Gpu:
    """Read a datasheet's tables, of which nothing is left over.

    Raises:
        KeyError: A key is missing.
        TypeError: A key or a value is not legal.
        ValueError: The same.
        AttributeError: A table is no table.
    """
    notes = raw.pop("sources")
    peaks = raw.pop("peak_flops_per_second")
    price = raw.pop("usd_per_gpu_hour", None)
    entries = {key: raw.pop(key) for key in list(raw) if isinstance(raw[key], dict)}
    sources = {key: notes[entry["source"]] for key, entry in entries.items()}
    sources |= {f"peak_flops_per_second.{key}": notes[e["source"]] for key, e in peaks.items()}
    _check_numbers(raw, entries, peaks)
    _check_words(raw)
    if "bf16" not in peaks:
        raise KeyError("peak_flops_per_second.bf16")
    return Gpu(
        sku=sku,
        **raw,
        **{key: entry["value"] for key, entry in entries.items()},
        peak_flops_per_second={key: entry["value"] for key, entry in peaks.items()},
        sources={key: _words(source) for key, source in sources.items()},
        **({} if price is None else _price(price, notes)),
    )


def _check_numbers(
    raw: dict[str, Any], entries: dict[str, Any], peaks: dict[str, dict[str, Any]]
) -> None:
    """Every number lies in its limits, and all but the count of GPUs have a source."""
    for key, entry in entries.items():
        _check_number(key, entry["value"])
    for entry in peaks.values():
        _check_number("peak_flops_per_second", entry["value"])
    for key in LIMITS.keys() & raw.keys() - {"scaleup_gpus"}:
        raise TypeError(f"{key} = {raw[key]!r}: must be {{ value, source }}")
    _check_number("scaleup_gpus", raw["scaleup_gpus"])


def _check_words(raw: dict[str, Any]) -> None:
    """Words are words, and those that name something name what there is."""
    for key in ("name", "architecture", "compute_capability", "network"):
        if not isinstance(raw[key], str):
            raise TypeError(f"{key} = {raw[key]!r}: must be a string")
    if raw["network"] not in (known := preset_names("networks")):
        rule = f"unknown name{closest(raw['network'], known)}; known: {', '.join(known)}"
        raise TypeError(f"network = {raw['network']!r}: {rule}")
    if not re.fullmatch(r"[1-9][0-9]?[.][0-9]", raw["compute_capability"]):
        raise TypeError(f"compute_capability = {raw['compute_capability']!r}: must be as 9.0")


def _check_number(key: str, value: object) -> None:
    if key not in LIMITS:
        raise TypeError(f"{key}: is no number of a datasheet{nearest(key, LIMITS)}")
    least, most = LIMITS[key]
    kind = int if key in WHOLE else int | float
    if not isinstance(value, kind) or isinstance(value, bool) or not least <= value <= most:
        word = "whole number" if key in WHOLE else "number"
        raise TypeError(f"{key} = {value!r}: must be a {word} from {least:g} to {most:g}")


def _words(source: dict[str, Any]) -> str:
    return f"{source['text']} ({source['kind']}, {source['date']})"


def _price(price: dict[str, Any], notes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    source = notes[price["source"]]
    _check_number("usd_per_gpu_hour", price["value"])
    return {
        "usd_per_gpu_hour": price["value"],
        "price_source": f"{source['text']} ({source['kind']})",
        "price_date": source["date"],
    }
