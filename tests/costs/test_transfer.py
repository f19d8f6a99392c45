"""A SKU's gaps are filled from another: twins by hand, origins, intervals, the nearest by rule."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from predictor.case import bench_results_folder, load_gpu
from predictor.costs import Origin, load_costs
from predictor.costs.loading import FIT_FILE, borrowed_costs
from predictor.costs.prediction import Prediction
from predictor.costs.transfer import (
    ALONE_HALF_WIDTH,
    TWIN_HALF_WIDTH,
    Correction,
    forward_sizes,
    nearest_measured,
    transferred,
    twin,
)
from predictor.errors import FitError
from predictor.operators import Attention, Gemm, Memcpy, MemoryBound, Optimizer

if TYPE_CHECKING:
    from pathlib import Path

    from predictor.operators import Operator

A100 = "a100-sxm4-80gb"
ATTENTION = Attention(batch=2, num_heads=32, num_query_groups=32, seq_length=2048, head_dim=128)
FLASH = replace(ATTENTION, impl="flash")
GEMM = Gemm(m=4096, n=6144, k=2048)


def test_a_products_twin_has_its_output_and_its_depth() -> None:
    assert twin(replace(GEMM, kind="dgrad")) == Gemm(m=4096, n=2048, k=6144)
    assert twin(replace(GEMM, kind="wgrad", accumulate=True)) == Gemm(m=6144, n=2048, k=4096)
    # 4,001 tokens are 63 whole steps of 64, and no operand's rows are as long as they are many
    assert twin(replace(GEMM, m=4001, kind="wgrad")) == Gemm(m=6144, n=2048, k=4032)
    assert twin(replace(GEMM, bias=True)) == GEMM
    assert twin(replace(FLASH, kind="backward")) == FLASH
    assert twin(Optimizer(elements=10**6)) is None


def test_sizes_of_twins_are_the_same_one_by_one_and_as_arrays() -> None:
    kinds = np.array(["forward", "dgrad", "wgrad"])
    together = np.stack(forward_sizes(kinds, 2, 3, 5), axis=1)
    assert together.tolist() == [list(forward_sizes(str(kind), 2, 3, 5)) for kind in kinds]


def test_a_transfer_is_the_borrowed_time_by_the_twins_ratio() -> None:
    borrowed = Prediction(
        np.array([1.0, 1.0]), np.array([0.7, 0.7]), np.exp([0.3, 0.5]), np.array([4, 4])
    )
    # The borrowed half-widths, 0.3 and 0.5, hold ALONE_HALF_WIDTH = 0.3; a twin takes it away.
    correction = Correction(np.log([2.0, 1.0]), np.array([True, False]))
    result = transferred(borrowed, correction, Origin.TRANSFERRED)
    assert result.seconds == pytest.approx([2.0, 1.0])
    assert np.log(result.high / result.seconds) == pytest.approx(
        [TWIN_HALF_WIDTH, np.hypot(0.4, ALONE_HALF_WIDTH)]
    )
    assert result.origin.tolist() == [Origin.TRANSFERRED] * 2


@pytest.mark.parametrize(
    ("operator", "origin"),
    [
        (replace(GEMM, m=4000), Origin.FITTED),
        (replace(GEMM, kind="dgrad"), Origin.TRANSFERRED),
        (replace(GEMM, kind="wgrad", accumulate=True), Origin.TRANSFERRED),
        (replace(FLASH, kind="backward"), Origin.TRANSFERRED),
        (replace(ATTENTION, kind="backward"), Origin.TRANSFERRED),
        (MemoryBound(kernel="rms_norm", rows=16384, cols=4096), Origin.TRANSFERRED),
        (Optimizer(elements=10**9), Origin.TRANSFERRED),
    ],
)
@pytest.mark.parametrize("cache", ["cold", "warm"])
def test_a100_answers_for_every_family_within_its_datasheet(
    operator: Operator, origin: Origin, cache: str
) -> None:
    costs, gpu = load_costs(A100), load_gpu(A100)
    prediction = costs.predict([operator], cache=cache)
    seconds = float(prediction.seconds[0])
    assert prediction.origin[0] == origin
    assert 0 < prediction.low[0] < seconds < prediction.high[0]
    assert operator.flops / seconds < gpu.peak_flops_per_second["bf16"]
    assert operator.bytes / seconds < gpu.memory_bytes_per_second or cache == "warm"


def test_columns_of_products_are_transferred_as_operators_are() -> None:
    costs = load_costs(A100)
    kinds = ["forward", "dgrad", "wgrad"]
    sizes = {"m": np.array([4096, 512, 8192]), "n": 6144, "k": 2048}
    together = costs.predict_products(**sizes, kind=np.array(kinds))
    alone = costs.predict(
        [
            Gemm(m=int(m), n=6144, k=2048, kind=kind)  # type: ignore[arg-type]
            for m, kind in zip(sizes["m"], kinds, strict=True)  # type: ignore[arg-type]
        ]
    )
    assert together.seconds == pytest.approx(alone.seconds, rel=0.02)
    assert together.origin.tolist() == [Origin.FITTED, Origin.TRANSFERRED, Origin.TRANSFERRED]


@pytest.mark.parametrize(
    ("sku", "origin"),
    [
        ("a100-sxm4-40gb", Origin.TRANSFERRED),  # its table holds collectives alone
        ("h800-sxm5-80gb", Origin.DATASHEET),
        ("h100-sxm5-96gb", Origin.DATASHEET),
    ],
)
def test_a_sku_without_products_of_its_own_borrows_them(sku: str, origin: Origin) -> None:
    answers = load_costs(sku).predict([GEMM, replace(GEMM, kind="wgrad"), ATTENTION])
    assert set(answers.origin.tolist()) == {origin}


def test_the_nearest_sku_is_of_the_same_architecture_then_of_the_same_balance() -> None:
    folder = bench_results_folder()
    chosen = {
        sku: nearest_measured(load_gpu(sku), folder, fit_file=FIT_FILE, excluded=(sku,))
        for sku in ("a100-sxm4-40gb", "h800-sxm5-80gb", "h100-sxm5-80gb", A100, "b300-sxm")
    }
    assert chosen["a100-sxm4-40gb"] == A100
    assert chosen["h800-sxm5-80gb"] == "h100-sxm5-80gb"
    assert chosen["h100-sxm5-80gb"] is None  # lacks nothing
    assert chosen[A100] == "h200-sxm5-141gb"  # 153 flops a byte; H200 has 206, H100 295
    assert chosen["b300-sxm"] == "gb300"  # of its chip; B200 has its balance


def test_steady_rates_of_unknown_power_serve_their_own_sku() -> None:
    silent = load_costs("b200-sxm").heat.families["gemm"]
    for sku in ("gb200", "gb300", "b300-sxm"):
        assert load_costs(sku).heat.families["gemm"].clock_hz != silent.clock_hz


@pytest.mark.parametrize(
    ("sku", "nearest"), [("a100-sxm4-80gb", "h100-sxm5-80gb"), ("gb200", "h200-sxm5-141gb")]
)
def test_heat_comes_from_where_memory_takes_as_much_of_the_power(sku: str, nearest: str) -> None:
    """2.04 TB/s of 400 W and 3.35 of 700, 8 of 1,200 and 4.8 of 700: 5.1, 4.8, 6.7 and 6.9 GB/J."""
    found, known = load_costs(sku).heat, load_costs(nearest).heat
    for name, family in known.families.items():
        share = found.families[name].watts / found.cap_watts
        assert share == pytest.approx(family.watts / known.cap_watts, rel=1e-9)
        assert found.families[name].clock_hz == family.clock_hz


def test_a_measured_sku_needs_no_reference() -> None:
    assert load_costs("h100-sxm5-80gb").reference is None


def test_h200_from_h100_alone_is_within_a_few_percent() -> None:
    operators = [
        replace(GEMM, m=m, kind=kind) for m in (2048, 8192) for kind in ("forward", "wgrad")
    ]
    borrowed = borrowed_costs(load_gpu("h200-sxm5-141gb"), "h100-sxm5-80gb").predict(operators)
    own = load_costs("h200-sxm5-141gb").predict(operators)
    assert borrowed.seconds == pytest.approx(own.seconds, rel=0.06)


def test_tables_without_a_fit_name_the_command_that_makes_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = bench_results_folder() / "h100-sxm5-80gb"
    folder = tmp_path / "tables" / source.name
    folder.mkdir(parents=True)
    for name in ("gpu.toml", "gemm.csv", "attention.csv"):
        (folder / name).write_text((source / name).read_text())
    monkeypatch.setenv("PREDICTOR_BENCH_RESULTS", str(folder.parent))
    words = f"has tables and no fit.json; run `predictor fit {source.name}`"
    with pytest.raises(FitError, match=words):
        load_costs(source.name)


def test_a_datasheet_with_nobody_to_borrow_from_says_what_to_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / A100
    folder.mkdir()
    (folder / "gpu.toml").write_bytes((bench_results_folder() / A100 / "gpu.toml").read_bytes())
    monkeypatch.setenv("PREDICTOR_BENCH_RESULTS", str(tmp_path))
    with pytest.raises(
        FitError, match="no SKU is measured, from which a100-sxm4-80gb could borrow"
    ):
        load_costs(A100)


def test_copies_of_a_gpu_without_a_table_of_them_go_at_its_own_link() -> None:
    copy = Memcpy(direction="h2d", bytes=2**30)
    (seconds, low, high, origin) = load_costs(A100).predict([copy]).rows()[0]
    assert Origin(origin) is Origin.TRANSFERRED
    # 31e9 bytes a second, of which an H100's link of 63e9 gives 55e9, as shares
    (measured, *_) = load_costs("h100-sxm5-80gb").predict([copy]).rows()[0]
    assert seconds == pytest.approx(measured * 63 / 31, rel=0.01)
    assert low < 0.8 * seconds < 1.2 * seconds < high
