"""PyTorch launches become graphs: tensors on the CPU, stand-ins for graphs and streams."""

import contextlib
import gc
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from predictor.bench import torch_bench  # noqa: E402
from predictor.bench.host_rounds import Group  # noqa: E402
from predictor.bench.points import Point  # noqa: E402
from predictor.bench.torch_bench import TorchBench, buffer_sets, launches_of  # noqa: E402
from predictor.bench.torch_fill import Recipe  # noqa: E402
from predictor.bench.torch_small_steps import Phases, layer_quantities  # noqa: E402
from predictor.operators import Host, MemoryBound, Optimizer  # noqa: E402

L2_BYTES = 1e6


class Stream:
    """Synchronises nothing."""

    def __init__(self, handle: int) -> None:
        self.handle = handle

    def synchronize(self) -> None:
        """Nothing is pending."""


class Event:
    """Two of them lie a microsecond apart."""

    def __init__(self, *, enable_timing: bool) -> None:
        assert enable_timing

    def record(self, stream: Stream) -> None:
        """Nothing is pending."""

    def elapsed_time(self, _: "Event") -> float:
        return 1e-3


class Graph:
    """Counts captures and replays."""

    broken = False

    def __init__(self) -> None:
        self.captured = 0
        self.replays = 0

    def capture_begin(self, capture_error_mode: str) -> None:
        assert capture_error_mode == "thread_local"
        if Graph.broken:
            raise RuntimeError("capture is not possible")

    def capture_end(self) -> None:
        self.captured += 1

    def replay(self) -> None:
        self.replays += 1


@dataclass
class Device:
    """The native device as TorchBench sees it."""

    stream_handle: int = 7
    properties: dict[str, Any] = field(default_factory=lambda: {"l2_bytes": int(L2_BYTES)})
    prepared: list[dict[str, Any]] = field(default_factory=list)

    def prepare_callable(
        self, launch: Callable[[], None], *, launches_per_call: int, seconds_hint: float
    ) -> str:
        launch()
        self.prepared.append(
            {"launches": launches_per_call, "seconds": seconds_hint, "call": launch}
        )
        return "workload"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> TorchBench:
    monkeypatch.setattr(Graph, "broken", False)
    monkeypatch.setattr(torch.cuda, "ExternalStream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    return TorchBench(Device(), where="cpu")


def point(kernel: str, rows: int, *, cache: str = "cold", impl: str = "torch") -> Point:
    return Point(operator=MemoryBound(kernel=kernel, rows=rows, cols=256, impl=impl), cache=cache)


def test_cold_launches_rotate_past_five_caches_and_warm_ones_stay() -> None:
    small, large = point("add", 512), point("add", 1 << 20)
    assert buffer_sets(small, L2_BYTES) * small.operator.working_set_bytes > 5 * L2_BYTES
    assert buffer_sets(large, L2_BYTES) == 2
    assert buffer_sets(point("add", 512, cache="warm"), L2_BYTES) == 1
    whole = Point(operator=Optimizer(elements=1_000_000_000, impl="torch"))
    assert buffer_sets(whole, L2_BYTES) == 1


@pytest.mark.parametrize("rows", [8, 512, 1 << 14, 1 << 20])
@pytest.mark.parametrize("cache", ["cold", "warm"])
def test_a_graph_holds_whole_rotations(rows: int, cache: str) -> None:
    each = point("add", rows, cache=cache)
    sets = buffer_sets(each, L2_BYTES)
    launches = launches_of(each, sets)
    assert launches % sets == 0
    assert launches * each.expected_seconds >= 1e-3 or launches >= 1024 // sets * sets


def test_a_kernel_slower_than_its_bytes_is_launched_for_milliseconds_alone() -> None:
    """A running sum over rows takes 0.8 ms for 4 MB: a rotation of its sets would take 50 ms."""
    each = point("cumsum_int64", 2048)
    sets = buffer_sets(each, L2_BYTES)
    assert launches_of(each, sets, seconds=8e-4) == 6
    assert launches_of(each, sets, seconds=1.0) == 1
    assert launches_of(each, sets, seconds=each.expected_seconds) == launches_of(each, sets)


@pytest.mark.parametrize("kernel", ["add", "rope_add", "layer_norm_backward", "fill"])
@pytest.mark.parametrize("cache", ["cold", "warm"])
def test_a_kernel_is_captured_and_handed_over(bench: TorchBench, kernel: str, cache: str) -> None:
    each = point(kernel, 1 << 14, cache=cache)
    assert bench.prepare(each) == "workload"
    (prepared,) = bench._device.prepared
    sets = buffer_sets(each, L2_BYTES)
    assert prepared["launches"] == launches_of(each, sets)
    bench.release()


def test_what_a_recipe_reads_outlives_its_capture(
    bench: TorchBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph reads a recipe's own tensors, such as ends of documents, whenever it is replayed."""
    ends = torch.arange(8)
    owned = weakref.ref(ends)
    made = [Recipe(make=tuple, call=partial(ends.add, 1))]
    monkeypatch.setattr(torch_bench, "recipe_of", lambda *_: made.pop())
    bench.prepare(point("add", 512))
    del ends
    gc.collect()
    assert owned() is not None
    bench._device.prepared.clear()
    gc.collect()
    assert owned() is None


def test_a_failed_capture_is_reported_as_ill_health(
    bench: TorchBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bench.healthy()
    monkeypatch.setattr(Graph, "broken", True)
    with pytest.raises(RuntimeError, match="capture is not possible"):
        bench.prepare(point("add", 512))
    assert not bench.healthy()


def test_the_optimizer_is_captured_too(bench: TorchBench) -> None:
    operator = Optimizer(elements=1 << 20, tensors=4, dtype="fp32", impl="torch")
    assert bench.prepare(Point(operator=operator)) == "workload"


def phases(layers: int, *, waiting: float = 1e-4) -> Phases:
    """A layer costs 2 ms forward and 3 ms backward, a tensor 1 µs; fixed 1, 4 and 0.5 ms."""
    return Phases(
        layers=layers,
        tensors=9 * layers + 3,
        forward=1e-3 + 2e-3 * layers,
        backward=4e-3 + 3e-3 * layers,
        optimizer=5e-4 + 1e-6 * (9 * layers + 3),
        waiting=waiting,
    )


def test_slopes_and_intercepts_come_from_two_depths() -> None:
    values = layer_quantities([phases(4), phases(8)])
    assert values["forward", "layer"] == pytest.approx(2e-3)
    assert values["forward", "fixed"] == pytest.approx(1e-3)
    assert values["backward", "layer"] == pytest.approx(3e-3)
    assert values["backward", "fixed"] == pytest.approx(4e-3)
    assert values["optimizer", "tensor"] == pytest.approx(1e-6)
    assert values["optimizer", "fixed"] == pytest.approx(5e-4)


def test_a_step_that_waits_for_the_gpu_is_refused() -> None:
    with pytest.raises(RuntimeError, match="GPU is the slower one"):
        layer_quantities([phases(4), phases(8, waiting=1.0)])


def test_quantities_of_a_group_share_its_rounds() -> None:
    rounds = iter([{("forward", "layer"): 1.0, ("forward", "fixed"): -1.0}] * 2)
    group = Group(lambda: next(rounds), samples=1)
    assert group.result(0, ("forward", "layer")).seconds == 1.0
    assert group.result(0, ("forward", "fixed")).seconds == 1e-9, "an intercept may vanish"
    assert group.result(1, ("forward", "layer")).seconds == 1.0
    with pytest.raises(NotImplementedError, match="no host quantity"):
        group.result(1, ("forward", "none"))


def test_a_slope_lost_in_noise_is_refused() -> None:
    group = Group(lambda: {("forward", "layer"): -1e-6}, samples=1)
    with pytest.raises(RuntimeError, match="lost in noise"):
        group.result(0, ("forward", "layer"))


@pytest.mark.parametrize(("stack", "block"), [("hf-eager", "rwkv"), ("jax", "llama")])
def test_an_unknown_stack_or_block_is_unsupported(
    bench: TorchBench, stack: str, block: str
) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(NotImplementedError):
        bench.prepare(Point(operator=Host(stack=stack, block=block)))


@pytest.mark.slow
def test_a_small_model_takes_timed_steps_on_the_cpu() -> None:
    pytest.importorskip("transformers")
    from predictor.bench.torch_host import transformer  # noqa: PLC0415 - skips first
    from predictor.bench.torch_small_steps import Steps  # noqa: PLC0415

    measured = Steps(transformer("gpt2", 1, "cpu"), "cpu").measured()
    assert measured.layers == 1
    assert min(measured.forward, measured.backward, measured.optimizer) > 0


@pytest.mark.slow
def test_fsdp2_takes_timed_steps_among_ranks_that_do_not_exist() -> None:
    pytest.importorskip("transformers")
    from torch import distributed  # noqa: PLC0415 - skips first

    from predictor.bench.torch_host import transformer  # noqa: PLC0415
    from predictor.bench.torch_ranks_host import join_imagined_ranks  # noqa: PLC0415
    from predictor.bench.torch_small_steps import Steps  # noqa: PLC0415

    join_imagined_ranks()
    try:
        plain = Steps(transformer("llama", 2, "cpu"), "cpu")
        sharded = Steps(transformer("llama", 2, "cpu", sharded=True), "cpu")
        turns = [(plain.measured(), sharded.measured()) for _ in range(5)]
    finally:
        distributed.destroy_process_group()
    assert all(one.tensors == other.tensors for one, other in turns)
    least = [min(phases.forward for phases in each) for each in zip(*turns, strict=True)]
    assert least[1] > least[0], "gathers and hooks cost the host"
