"""Prices of GPU-hours: what each SKU costs, who says so, and when.

A table is a TOML file. Those of a few providers ship with the package; anybody's own has the same
form, with a source and a date of its own::

    source = "our contract"
    date = "2026-10-01"

    [usd_per_gpu_hour]
    h100-sxm5-80gb = 2.10

Without a table, a GPU costs what its datasheet in ``bench_results`` says.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from predictor.case import gpu_names, load_gpu
from predictor.case.gpus import has_gpu
from predictor.case.presets import closest, preset_names, read_preset
from predictor.case.reading import read_mapping
from predictor.case.section import shown
from predictor.errors import CaseError

if TYPE_CHECKING:
    from collections.abc import Mapping

DATASHEET: Final = "datasheet"
MAX_USD_PER_GPU_HOUR: Final = 1e4
_KEYS: Final = ("source", "date", "usd_per_gpu_hour")


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What an hour of one GPU costs.

    Attributes:
        usd_per_gpu_hour: The price.
        source: Who asks for it.
        date: When they did, in the source's words.
    """

    usd_per_gpu_hour: float
    source: str
    date: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceTable:
    """Prices of SKUs.

    Attributes:
        name: Of the shipped table, or the file's path.
        prices: By SKU.
    """

    name: str
    prices: Mapping[str, Price]

    def price(self, sku: str) -> Price:
        """The price of a SKU.

        Raises:
            CaseError: The table has none.
        """
        if sku not in self.prices:
            known = ", ".join(sorted(self.prices))
            raise CaseError(f"prices {self.name}: no price of {sku}; it has {known}")
        return self.prices[sku]


def price_names() -> tuple[str, ...]:
    """Names of the tables that ship with the package, and ``datasheet``."""
    return (DATASHEET, *preset_names("prices"))


def load_prices(name: str | Path = DATASHEET) -> PriceTable:
    """Read a price table: a shipped one by its name, or a ``.toml`` or ``.json`` file.

    Raises:
        CaseError: No such table or file, or a value in it is not legal.
    """
    if str(name) == DATASHEET:
        return _datasheets()
    if Path(name).suffix in {".toml", ".json"}:
        return _parsed(str(name), read_mapping(Path(name)))
    if name not in preset_names("prices"):
        hint = closest(str(name), price_names())
        raise CaseError(
            f"prices = {shown(str(name))}: no table has this name{hint}; known: "
            f"{', '.join(price_names())}, or a .toml file of your own"
        )
    return _parsed(str(name), read_preset("prices", str(name)))


def _datasheets() -> PriceTable:
    gpus = [load_gpu(sku) for sku in gpu_names()]
    return PriceTable(
        name=DATASHEET,
        prices={
            gpu.sku: Price(
                usd_per_gpu_hour=gpu.usd_per_gpu_hour, source=gpu.price_source, date=gpu.price_date
            )
            for gpu in gpus
            if gpu.usd_per_gpu_hour is not None
        },
    )


def _parsed(origin: str, raw: Mapping[str, Any]) -> PriceTable:
    for key in raw:
        if key not in _KEYS:
            raise CaseError(f"{origin}: {key}: unknown key{closest(key, _KEYS)}")
    for key, kinds in (("source", str), ("date", (str, date))):
        value = raw.get(key)
        if not str(value or "").strip():
            raise CaseError(f"{origin}: {key} is needed: a price without it cannot be judged")
        if not isinstance(value, kinds):
            raise CaseError(f"{origin}: {key} = {shown(value)}: must be words")
    entries = raw.get("usd_per_gpu_hour")
    if not isinstance(entries, dict) or not entries:
        raise CaseError(f"{origin}: [usd_per_gpu_hour] is needed: one line for each SKU")
    source, when = str(raw["source"]), str(raw["date"])
    return PriceTable(
        name=origin,
        prices={
            sku: Price(usd_per_gpu_hour=_usd(origin, sku, usd), source=source, date=when)
            for sku, usd in entries.items()
        },
    )


def _usd(origin: str, sku: str, usd: object) -> float:
    where = f"{origin}: usd_per_gpu_hour.{sku}"
    if not has_gpu(sku):
        hint = closest(sku, gpu_names())
        raise CaseError(f"{where}: no GPU is called {sku!r}{hint}; `predictor gpus` lists them")
    number = isinstance(usd, int | float) and not isinstance(usd, bool)
    if (
        not number
        or not isfinite(float(str(usd)))
        or not 0 < float(str(usd)) <= MAX_USD_PER_GPU_HOUR
    ):
        rule = f"must be a number above 0 and at most {MAX_USD_PER_GPU_HOUR:g}"
        raise CaseError(f"{where} = {shown(usd)}: {rule}")
    return float(str(usd))
