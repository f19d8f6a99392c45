"""Copies, collectives and grouped products: known times come back, questions are answered."""

import json
from itertools import product

import numpy as np
import pytest
from toy import TOY, stream_sample

from predictor.case import load_gpu
from predictor.costs import Costs, load_costs
from predictor.costs.fitting import fit_folder
from predictor.costs.grouped import grouped_design
from predictor.costs.ladder import options_of
from predictor.costs.messages import collective_design, memcpy_design
from predictor.costs.physics import check_physics, physics_fault
from predictor.costs.prediction import Origin
from predictor.costs.questions import answer
from predictor.costs.regression import fit_surface
from predictor.errors import FitError, TableError
from predictor.operators import (
    OPERATORS,
    AllGather,
    AllReduce,
    Gemm,
    GroupedGemm,
    Interference,
    Memcpy,
    MemoryBound,
)
from predictor.tables import Row, read_folder, write_runs, write_table

SKU = "h100-sxm5-80gb"
BYTES = [2**power for power in range(10, 31, 2)]
LINKED = TOY.__class__(
    **{name: getattr(TOY, name) for name in TOY.__slots__}
    | {
        "link_bytes_per_second": 1e9,
        "host_bytes_per_second": 1e8,
    }
)


def test_copies_are_bound_by_what_they_cross():
    copies = [Memcpy(direction=way, bytes=10**8) for way in ("h2d", "d2d", "peer")]
    bound = memcpy_design(copies, LINKED).bound - 2e-6
    assert bound == pytest.approx([1.0, 2e8 / 1e10, 0.1])


def test_pageable_copies_pay_for_the_hosts_own_copy():
    sizes = [10**6, 10**7, 10**8, 10**9]
    ways = ("h2d", "d2h")
    copies = [
        Memcpy(direction=way, bytes=n, pinned=pinned)
        for way, pinned, n in product(ways, (True, False), sizes)
    ]
    beyond = [max(op.bytes - 2**24, 0) for op in copies]
    staged = [4 * op.bytes + 2 * far for op, far in zip(copies, beyond, strict=True)]
    seconds = np.array(
        [
            2e-6 + (op.bytes + (0 if op.pinned else more)) / 1e10
            for op, more in zip(copies, staged, strict=True)
        ]
    )
    surface, _ = fit_surface(stream_sample(copies, seconds), "toy")
    asked = [Memcpy(direction=way, bytes=3 * 10**7, pinned=False) for way in ways]
    design = memcpy_design(asked, TOY)
    found = design.bound * np.exp(surface.log_ratio(design)[0])
    expected = (5 * 3e7 + 2 * (3e7 - 2**24)) / 1e10
    assert found == pytest.approx([expected, expected], rel=0.1)


def test_a_measured_group_is_one_of_this_sku():
    costs = load_costs("h200-sxm5-141gb")
    pair = AllReduce(bytes=2**26, ranks=2, ranks_per_node=2, in_place=True)
    six = AllReduce(bytes=2**26, ranks=6, ranks_per_node=6)
    assert costs.measured_groups([six, pair]).tolist() == [False, True]
    assert not load_costs("h800-sxm5-80gb").measured_groups([pair]).any()
    assert costs.predict([pair]).seconds[0] == pytest.approx(0.25e-3, rel=0.1)


def test_an_all_reduce_is_bound_by_the_bytes_that_a_rank_sends():
    design = collective_design([AllReduce(bytes=8 * 10**8, ranks=4, ranks_per_node=4)], LINKED)
    assert design.bound[0] == pytest.approx(2e-6 + 1.5 * 8e8 / 1e9)


def test_curves_of_different_keys_are_never_mixed():
    calls = [
        AllReduce(bytes=size, ranks=8, ranks_per_node=8, nvls=nvls)
        for nvls in (False, True)
        for size in BYTES
    ]
    alone = [AllReduce(bytes=2**21, ranks=8, ranks_per_node=8, nvls=nvls) for nvls in (False, True)]
    seconds = np.array([1e-5 + (1.0 if op.nvls else 2.0) * op.bytes / 1e9 for op in calls])
    sample = stream_sample(calls, seconds)
    surface, report = fit_surface(sample, "toy")
    assert report["held_out"]["median"] < 0.06
    design = collective_design(alone, TOY)
    ring, switch = design.bound * np.exp(surface.log_ratio(design)[0])
    assert ring == pytest.approx(1e-5 + 2 * 2**21 / 1e9, rel=0.1)
    assert switch == pytest.approx(1e-5 + 2**21 / 1e9, rel=0.1)


def test_even_experts_in_one_kernel_take_the_waves_of_all_their_tiles():
    one = GroupedGemm(tokens=8192, experts=8, n=1280, k=4096, impl="torch")
    dense = Gemm(m=8192, n=1280, k=4096)
    design = grouped_design([one], TOY)
    work = float((design.columns["shared"] * design.bound)[0])
    assert work == pytest.approx(1.2 * dense.flops / 1e12, rel=0.1)


def test_experts_one_after_the_other_pay_a_launch_each():
    looped = GroupedGemm(tokens=64, experts=8, n=64, k=64)
    together = GroupedGemm(tokens=64, experts=8, n=64, k=64, impl="torch")
    design = grouped_design([looped, together], TOY)
    launch = design.columns["launch"] * design.bound
    assert launch == pytest.approx([8 * 2e-6, 2e-6])
    assert (design.columns["work"] * design.bound)[0] > (design.columns["work"] * design.bound)[1]


def test_grouped_products_without_a_table_say_how_to_measure_them():
    with pytest.raises(FitError, match="bench-run --operators grouped_gemm"):
        load_costs(SKU)._own.surface("grouped_gemm/nowhere")


def test_a_collective_over_an_unmeasured_group_is_extrapolated_by_the_levels():
    costs = load_costs(SKU)
    far = AllReduce(bytes=2**26, ranks=512, ranks_per_node=8)
    near = AllReduce(bytes=2**26, ranks=4, ranks_per_node=4, nvls=True)
    prediction = costs.predict([far, near])
    assert prediction.origin[0] == Origin.EXTRAPOLATED
    assert prediction.seconds[0] > prediction.seconds[1] > 0


QUESTIONS = {
    "gemm": {"m": 512, "n": 512, "k": 512},
    "grouped_gemm": {"tokens": 512, "experts": 8, "n": 512, "k": 512},
    "attention": {
        "batch": 1,
        "num_heads": 8,
        "num_query_groups": 8,
        "seq_length": 1024,
        "head_dim": 128,
    },
    "memory_bound": {"kernel": "copy", "rows": 512, "cols": 512},
    "optimizer": {"elements": 10**6},
    "memcpy": {"direction": "h2d", "bytes": 2**20},
    "host": {"stack": "cuda", "quantity": "nothing"},
    "interference": {
        "compute": "gemm",
        "shape": "m=8 n=8 k=8",
        "collective": "all_reduce",
        "bytes": 1024,
        "ranks": 2,
        "ranks_per_node": 2,
    },
}


@pytest.mark.parametrize("operator", sorted(OPERATORS))
def test_every_operator_has_an_answer_or_an_error_that_names_it(operator):
    fields = QUESTIONS.get(operator, {"bytes": 2**20, "ranks": 2, "ranks_per_node": 2})
    (reply,) = answer([json.dumps({"operator": operator, **fields})], sku=SKU)
    assert operator in reply["error"] if "error" in reply else reply["seconds"] > 0


def costs_of(folder, rows):
    return fit_folder(written(folder, rows))


def written(folder, rows):
    path = folder / SKU
    path.mkdir()
    write_table(path / f"{rows[0].operator.name}.csv", rows)
    write_runs(path / "runs.toml", {"r": {"when": "now"}})
    return path


def row(operator, seconds, **more):
    timed = {"seconds": seconds, "seconds_low": seconds, "seconds_high": seconds}
    return Row(operator=operator, **timed, rounds=3, samples=9, run="r", **more)


def test_a_row_faster_than_the_tensor_cores_is_refused_with_its_line(tmp_path):
    rows = [row(Gemm(m=64 * i, n=4096, k=4096), 1e-3) for i in range(1, 9)]
    rows.append(row(Gemm(m=65536, n=8192, k=8192), 1e-3))
    with pytest.raises(TableError, match=r"gemm.csv:\d+: seconds=0.001 is faster than the tensor"):
        costs_of(tmp_path, rows)


def test_a_cold_row_faster_than_memory_is_refused_and_a_warm_one_is_not():
    copy = MemoryBound(kernel="copy", rows=10**6, cols=1000)
    assert "faster than memory" in physics_fault(row(copy, 1e-2), TOY)
    assert not physics_fault(row(copy, 1e-2, cache="warm"), TOY)


def test_host_seconds_of_another_machine_are_less_sure_than_those_of_a_device():
    asked = {"operator": "host", "stack": "cuda", "quantity": "event_record"}
    (told,) = answer([json.dumps(asked)], sku=SKU)
    assert told["origin"] == "measured"
    # nine of ten of 87 host costs are within a factor of exp(0.54) on two machines
    assert told["high"] / told["seconds"] == pytest.approx(1.716, abs=1e-3)
    assert told["seconds"] / told["low"] == pytest.approx(1.716, abs=1e-3)


@pytest.mark.parametrize(
    ("operator", "seconds"),
    [
        # 2 us and 2 x 1024^3 flops at 1e12 a second: 2.1 ms, and no product takes 100 of them
        (Gemm(m=1024, n=1024, k=1024), 0.2),
        # 2e7 bytes at 1e10 a second: 2 ms, and no kernel takes 3,000 of them
        (MemoryBound(kernel="copy", rows=1000, cols=5000), 4.0),
        # 100 products of 2 us each and 8e8 bytes at 1e10 a second: 80 ms
        (GroupedGemm(tokens=100, experts=100, n=2000, k=2000, impl="torch"), 5.0),
    ],
)
def test_a_row_in_milliseconds_is_refused_and_a_slow_one_is_not(operator, seconds):
    assert not physics_fault(row(operator, seconds), TOY)
    assert "is it in another unit?" in physics_fault(row(operator, 1e3 * seconds), TOY)


def test_a_collective_is_no_faster_than_its_link():
    # of 1e9 bytes each of 4 ranks sends 0.75 s, to a switch that adds no less
    gather = AllGather(bytes=10**9, ranks=4, ranks_per_node=4)
    reduce = AllReduce(bytes=10**9, ranks=4, ranks_per_node=4, nvls=True)
    for operator in (gather, reduce):
        assert "faster than the link" in physics_fault(row(operator, 0.6, cache="warm"), LINKED)
        assert not physics_fault(row(operator, 0.7, cache="warm"), LINKED)
        assert not physics_fault(row(operator, 0.6, cache="warm"), TOY)  # whose link nobody knows


def test_networks_may_be_slow_and_scale_up_domains_may_not():
    inside, between = (AllGather(bytes=64, ranks=8, ranks_per_node=each) for each in (8, 1))
    assert "is it in another unit?" in physics_fault(row(inside, 0.03, cache="warm"), LINKED)
    assert not physics_fault(row(between, 0.03, cache="warm"), LINKED)


def test_rows_of_another_sku_are_refused(tmp_path):
    folder = tmp_path / SKU
    write_table(folder / "gemm.csv", [row(Gemm(m=64, n=64, k=64), 1e-4)])
    write_runs(folder / "runs.toml", {"r": {"sku": "h200-sxm5-141gb"}})
    with pytest.raises(TableError, match=r"gemm.csv:2: run='r' was measured on h200-sxm5-141gb"):
        check_physics(read_folder(folder), TOY)


def test_too_few_rows_are_refused_with_the_family(tmp_path):
    rows = [row(Gemm(m=64 * i, n=4096, k=4096), 1e-3) for i in range(1, 4)]
    with pytest.raises(FitError, match=f"{SKU}/gemm/cold: 3 measured points"):
        costs_of(tmp_path, rows)


def test_a_sweep_of_one_shape_is_refused(tmp_path):
    rows = [
        row(Gemm(m=4096, n=4096, k=4096, kind=kind, api=api), 1e-3)
        for kind in ("forward", "dgrad", "wgrad")
        for api in ("cublas", "cublaslt")
    ]
    rows += [row(Gemm(m=4096, n=4096, k=4096, algorithm="best"), 1e-3)]
    with pytest.raises(FitError, match="too little"):
        costs_of(tmp_path, rows)


def test_runs_that_disagree_meet_in_the_middle_and_one_run_may_not_disagree_with_itself(tmp_path):
    gemm = Gemm(m=64, n=4096, k=4096)
    with pytest.raises(TableError, match="repeats"):
        fit_folder(written(tmp_path, [row(gemm, 1e-3), row(gemm, 2e-3)]))


def test_interference_is_answered_where_it_was_measured_alone():
    pair = Interference(
        compute="gemm",
        shape="m=8 n=8 k=8",
        collective="all_reduce",
        bytes=8,
        ranks=2,
        ranks_per_node=2,
    )
    known = load_costs(SKU)
    costs = Costs(
        gpu=load_gpu(SKU),
        surfaces=known.surfaces,
        host=known.host,
        heat=known.heat,
        devices=known.devices,
        measured={"interference/cold": {options_of(pair): {(8,): (2.0, 1.0, 3.0)}}},
    )
    assert costs.predict([pair]).rows() == [(2.0, 1.0, 3.0, Origin.MEASURED)]


def test_columns_and_objects_get_the_same_answer():
    costs = load_costs(SKU)
    m, n, k = np.array([64, 2048, 4096, 777]), np.array([64, 2048, 4096, 888]), 1024
    kinds = np.array(["forward", "wgrad", "dgrad", "forward"])
    columns = costs.predict_products(m=m, n=n, k=k, kind=kinds)
    objects = costs.predict(
        [
            Gemm(m=a, n=b, k=k, kind=kind)
            for a, b, kind in zip(m.tolist(), n.tolist(), kinds.tolist(), strict=True)
        ]
    )
    assert columns.seconds == pytest.approx(objects.seconds)
