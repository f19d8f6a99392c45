"""Numbers of a file are refused where they are read, by name and with what they may be."""

import json
from pathlib import Path

import numpy as np
import pytest

from predictor.case import gpu_names
from predictor.case.gpus import FOLDER_VARIABLE
from predictor.costs import interference, levels, load_costs
from predictor.costs.design import chip_of
from predictor.costs.families import PRODUCT_LIMITS
from predictor.costs.limits import each_within, one_within, rising, within
from predictor.costs.points import read_tables
from predictor.costs.products import gemm_design
from predictor.costs.tile_table import FLAGS, NAMES
from predictor.errors import FitError
from predictor.operators import Gemm
from predictor.units import LARGEST_SIZE

SKU = "h100-sxm5-80gb"
TABLES = Path(__file__).parents[2] / "bench_results" / SKU


def test_a_number_outside_is_told_with_its_name_and_its_limits():
    limits = np.array([[0.0, -1.0], [2.0, 1.0]])
    assert within("x", [[1.0, 0.5], [2.0, -1.0]], *limits).tolist() == [[1.0, 0.5], [2.0, -1.0]]
    with pytest.raises(ValueError, match=r"x: 1\.5 lies outside of -1 to 1"):
        within("x", [[1.0, 0.5], [2.0, 1.5]], *limits)
    with pytest.raises(ValueError, match="x: nan lies outside of 0 to 2"):
        within("x", [[1.0, 0.5], [np.nan, 0.0]], *limits)


@pytest.mark.parametrize("value", [True, "1", None, [1.0], -0.1, 1e300, float("nan"), 10**400])
def test_what_is_no_number_or_outside_is_refused(value):
    with pytest.raises(ValueError, match=r"^heat\.watts: "):
        each_within("heat", {"watts": value}, {"watts": (0.0, 1e5)})


def test_numbers_on_the_limits_pass_and_a_missing_one_is_told():
    assert [one_within("x", each, (0.0, 2.0)) for each in (0, 2.0)] == [0, 2.0]
    with pytest.raises(ValueError, match=r"heat\.watts is missing"):
        each_within("heat", {}, {"watts": (0.0, 1e5)})


@pytest.mark.parametrize("values", [[2, 1], [1, 1], [1.5], [[1]], [2**70], "12", [True, "a"]])
def test_groups_are_whole_numbers_in_order(values):
    with pytest.raises((ValueError, OverflowError)):
        rising("groups", values)
    assert rising("groups", []).tolist() == []
    assert rising("groups", [0, 3, 9]).tolist() == [0, 3, 9]


def test_every_number_of_every_committed_file_lies_within_its_limits():
    levels.load_levels()
    interference.load_slowdowns()
    for sku in gpu_names():
        costs = load_costs(sku)
        for surface in costs.surfaces.values():
            assert all(len(each.weights) for each in surface.residuals.values())
        for classes in costs.measured.values():
            assert all(classes.values())


def test_products_stay_numbers_with_every_coefficient_at_its_limit():
    """The most that flags and tiles may add together overflows no exponential."""
    ends = np.array(list(PRODUCT_LIMITS.values()))
    costs = load_costs(SKU)
    surface = costs.surfaces["gemm/cold"]
    everything = [
        Gemm(m=77, n=300, k=1001, dtype=dtype, kind=kind, bias=True, accumulate=True)
        for dtype in ("fp16", "fp8", "tf32")
        for kind in ("dgrad", "wgrad")
    ]
    for column in ends.T:
        for chosen in (NAMES, FLAGS):
            numbers = surface.coefficients.copy()
            for name in chosen:
                numbers[:, NAMES.index(name)] = column[NAMES.index(name)]
            changed = surface.to_dict() | {"coefficients": numbers.tolist()}
            again = type(surface).from_dict(changed, PRODUCT_LIMITS)
            design = gemm_design(everything, chip_of(costs.gpu))
            assert np.isfinite(again.log_ratio(design)[0]).all()


BROKEN = {
    "a product's coefficient": ("fits/gemm/cold.surface.coefficients.0.1", 0.0, "gemm/cold: coeff"),
    "a flag": ("fits/gemm/cold.surface.coefficients.0.60", 300.0, "lies outside of -0.9 to 20"),
    "an order": ("fits/gemm/cold.surface.known", [3, 1], "known: must be whole numbers in order"),
    "a name": ("fits/gemm/cold.surface.regressors.0", "start", "regressors: must be launch, "),
    "a shape": ("fits/gemm/cold.surface.near", [0.1], "near: must be 4 numbers"),
    "a clock": ("heat.max_clock_hz", 0.0, "heat.max_clock_hz: 0.0 lies outside"),
    "a family's clock": ("heat.families.gemm.clock_hz", 1e-300, "gemm.clock_hz: 1e-300"),
    "idle watts": ("heat.idle_watts", 690.0, "idle_watts: 690 is more than under load"),
    "a host's seconds": ("host.0.4", -1.0, "host fixed: -1.0 lies outside of 0 to 1000"),
    "devices": ("devices.gemm.deviation", 1.0, "devices.deviation: 1.0 lies outside of 0 to 0.9"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_fit_with_a_number_that_nothing_can_be_is_refused_by_name(name, tmp_path, monkeypatch):
    path, value, told = BROKEN[name]
    raw = json.loads((TABLES / "fit.json").read_text(encoding="utf-8"))
    *keys, last = path.replace("fits/", "fits.").split(".")
    inner = raw
    for key in keys:
        inner = inner[int(key) if isinstance(inner, list) else key]
    inner[int(last) if isinstance(inner, list) else last] = value
    folder = tmp_path / SKU
    folder.mkdir()
    (folder / "gpu.toml").write_bytes((TABLES / "gpu.toml").read_bytes())
    (folder / "fit.json").write_text(json.dumps(raw), encoding="utf-8")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    with pytest.raises(FitError) as error:
        load_costs(SKU)
    assert told in str(error.value)
    assert f"run `predictor fit {SKU}`" in str(error.value)


def test_a_measured_size_that_no_operator_has_is_refused_when_it_is_asked_for():
    points = {"m": "1", "n": str(LARGEST_SIZE + 1), "k": "1"}
    points |= dict.fromkeys(("seconds", "seconds_low", "seconds_high"), "1e-3")
    (options,) = tables = read_tables("gemm", [{"options": {}, "points": points}])
    with pytest.raises(FitError, match="size that is not 1 to 1099511627776"):
        _ = tables[options]


@pytest.mark.parametrize(
    ("module", "constant", "change"),
    [
        (levels, "LEVELS_FILE", ('"link": ', '"link": 1e300, "was": ')),
        (interference, "SLOWDOWNS_FILE", ("1.195", "0.5")),
    ],
)
def test_packaged_numbers_are_checked_too(module, constant, change, tmp_path, monkeypatch):
    own = getattr(module, constant).read_text(encoding="utf-8")
    damaged = tmp_path / "damaged.json"
    damaged.write_text(own.replace(*change), encoding="utf-8")
    monkeypatch.setattr(module, constant, damaged)
    load = module.load_levels if module is levels else module.load_slowdowns
    load.cache_clear()
    try:
        with pytest.raises(FitError, match="lies outside of"):
            load()
    finally:
        load.cache_clear()
