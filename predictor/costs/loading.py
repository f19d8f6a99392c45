"""A SKU's cost functions from ``fit.json``, without statsmodels.

``fit.json`` holds plain numbers (:mod:`predictor.costs.fitting` writes it): a measured SKU is one
JSON file. A SKU without a fit of its own borrows the coefficients of the nearest measured one over
its own datasheet's bounds.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from math import log
from pathlib import Path
from typing import Any, Final

from predictor.case import Gpu, bench_results_folder, gpu_names, load_gpu
from predictor.costs.deferred import DAMAGE
from predictor.costs.devices import Difference
from predictor.costs.families import FAMILIES
from predictor.costs.limits import HOST_SECONDS, one_within
from predictor.costs.model import Costs
from predictor.costs.points import read_tables
from predictor.costs.power import Heat
from predictor.costs.surface import Surface
from predictor.costs.transfer import nearest_measured
from predictor.costs.two_rates import telling_pair
from predictor.errors import FitError
from predictor.files import MEBIBYTE, read_text
from predictor.operators import Host

FIT_FILE: Final = "fit.json"
STREAMS_FILE: Final = "memory_bound.csv"
"""What a SKU has measured whose watts are known under every kind of load."""

FIT_FORMAT: Final = 5
MAX_FIT_BYTES: Final = 16 * MEBIBYTE


def load_costs(sku: str) -> Costs:
    """Read the cost functions of a SKU.

    Raises:
        UnknownName: No such SKU.
        FitError: ``fit.json`` is damaged, or neither the SKU nor the reference has one.
    """
    return _load(bench_results_folder(), sku)


def borrowed_costs(gpu: Gpu, sku: str) -> Costs:
    """Cost functions of a SKU over another's datasheet, as for a GPU that nobody measured.

    Raises:
        FitError: The SKU has no fit, or a damaged one.
    """
    return _of_tables(bench_results_folder(), gpu, sku, excluded=gpu_names())


def changed_costs(gpu: Gpu, sku: str) -> Costs:
    """Cost functions of a SKU as if its datasheet were another: the same shares of other rates.

    What was measured is left aside, since it belongs to the datasheet as it is. Two changes of one
    SKU may be compared with each other, not with the SKU itself.

    Raises:
        FitError: Neither the SKU nor another one has a fit, or it is damaged.
    """
    folder = bench_results_folder()
    fitted = sku if (folder / sku / FIT_FILE).is_file() else None
    nearest = fitted or nearest_measured(gpu, folder, fit_file=FIT_FILE, excluded=(sku,))
    if nearest is None:
        raise FitError(_unfitted(folder, sku))
    return _of_tables(folder, gpu, nearest, excluded=(sku, nearest))


@cache
def _load(folder: Path, sku: str) -> Costs:
    gpu = load_gpu(sku)
    found = _own_or_nearest(folder, gpu)
    pair = telling_pair(gpu, folder, fit_file=FIT_FILE, excluded=(sku,))
    if pair is None:
        return found
    return replace(found, pair=(_load(folder, pair[0]), _load(folder, pair[1])))


def _own_or_nearest(folder: Path, gpu: Gpu) -> Costs:
    sku = gpu.sku
    if (folder / sku / FIT_FILE).is_file():
        return _of_tables(folder, gpu, sku, excluded=(sku,))
    nearest = nearest_measured(gpu, folder, fit_file=FIT_FILE, excluded=(sku,))
    if nearest is None:
        raise FitError(_unfitted(folder, sku))
    return _of_tables(folder, gpu, nearest, excluded=(sku, nearest))


def _unfitted(folder: Path, sku: str) -> str:
    """What to do where there is no cost function to borrow, or no need to borrow one."""
    if any((folder / sku).glob("*.csv")):
        return f"{folder / sku}: has tables and no {FIT_FILE}; run `predictor fit {sku}`"
    if any(folder.glob("*/*.csv")):
        return f"{folder}: no SKU is fitted; run `predictor fit`"
    return (
        f"{folder}: no SKU is measured, from which {sku} could borrow; copy the folder of one from "
        "the repository's bench_results"
    )


def _of_tables(folder: Path, gpu: Gpu, sku: str, *, excluded: tuple[str, ...]) -> Costs:
    """Costs of ``gpu`` by the fit of a SKU, and by that of others for what its tables lack."""
    source = load_gpu(sku)
    nearest = nearest_measured(source, folder, fit_file=FIT_FILE, excluded=excluded)
    reference = None
    if nearest is not None:
        reference = _of_tables(folder, gpu, nearest, excluded=(*excluded, nearest))
    path = folder / sku / FIT_FILE
    try:
        raw = _raw_fit(path)
        if raw["format"] != FIT_FORMAT:
            raise FitError(
                f"{path}: format {raw['format']} is not {FIT_FORMAT}; run `predictor fit {sku}`"
            )
        hot = _nearest_heat(folder, gpu, excluded)
        return _parse(gpu, raw, source=source, reference=reference, hot=hot)
    except DAMAGE as error:
        raise FitError(
            f"{path}: cannot be read as a fit ({error!r}); run `predictor fit {sku}`"
        ) from error


@cache
def _raw_fit(path: Path) -> Any:  # noqa: ANN401
    """What the file of a fit holds; a fit serves its own SKU and those that borrow of it."""
    return json.loads(read_text(path, FitError, MAX_FIT_BYTES))


def _nearest_heat(folder: Path, gpu: Gpu, excluded: tuple[str, ...]) -> Heat | None:
    """Heat of the measured SKU whose memory has most nearly as large a share of the power.

    What memory takes, the multiprocessors lack when all run; bandwidth over watts of the datasheets
    stands for it.
    """
    found = []
    for sku in gpu_names():
        measured = (folder / sku / STREAMS_FILE).is_file() and (folder / sku / FIT_FILE).is_file()
        if sku not in excluded and measured:
            found.append((abs(log(_bytes_a_joule(load_gpu(sku)) / _bytes_a_joule(gpu))), sku))
    if not found:
        return None
    nearest = load_gpu(min(found)[1])
    heat = Heat.from_dict(_raw_fit(folder / nearest.sku / FIT_FILE)["heat"])
    return heat.scaled_to(gpu.power_watts, same_chip=nearest.generation == gpu.generation)


def _bytes_a_joule(gpu: Gpu) -> float:
    return gpu.memory_bytes_per_second / gpu.power_watts


def _parse(
    gpu: Gpu, raw: Mapping[str, Any], *, source: Gpu, reference: Costs | None, hot: Heat | None
) -> Costs:
    borrowed = source.sku != gpu.sku
    heat = Heat.from_dict(raw["heat"])
    host = {
        Host(stack=stack, block=block, phase=phase, quantity=quantity): one_within(
            f"host {quantity}", seconds, HOST_SECONDS
        )
        for stack, block, phase, quantity, seconds in raw["host"]
    }
    if borrowed:
        same_chip = source.generation == gpu.generation
        heat = heat.scaled_to(gpu.power_watts, same_chip=same_chip)
    if reference is not None:
        host = {**reference.host, **host}
    if hot is not None:
        heat = heat.completed(hot) if heat.families else hot
    return Costs(
        gpu=gpu,
        surfaces={key: read_surface(key, entry["surface"]) for key, entry in raw["fits"].items()},
        measured={
            key: read_tables(key.partition("/")[0], tables)
            for key, tables in raw["measured"].items()
        },
        host=host,
        heat=heat,
        devices={family: Difference.from_dict(told) for family, told in raw["devices"].items()},
        borrowed=borrowed,
        reference=reference,
    )


def read_surface(key: str, raw: Mapping[str, Any]) -> Surface:
    """A family's cost function in a cache state, by the key that it has in the file.

    Raises:
        ValueError: A number lies where no fit has it, or one is missing.
    """
    try:
        return Surface.from_dict(raw, FAMILIES[key.partition("/")[0]].limits)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error
