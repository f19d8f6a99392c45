"""What the host does while the GPU measures: plans of the next chunk, PyTorch's import."""

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from predictor.bench import chunks, worker
from predictor.bench.main import Outcome
from predictor.bench.messages import Start
from predictor.bench.points import Point
from predictor.bench.session import Session
from predictor.bench.worker import Bench
from predictor.operators import Gemm, MemoryBound

Told = list[tuple[str, object]]

NATIVE = Point(operator=Gemm(m=64, n=256, k=256))
TORCH = Point(operator=MemoryBound(kernel="add", rows=512, cols=64, impl="torch"))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """What a run asks of its session, in order; controls are left out."""
    seen: Told = []
    for name in ("foresee", "prepare", "sample"):
        original = getattr(Session, name)

        def call(
            self: Session, *arguments: object, name: str = name, original: object = original
        ) -> object:
            if arguments[0] not in {-1, -2} if isinstance(arguments[0], int) else True:
                seen.append((name, arguments[-1]))
            return original(self, *arguments)  # type: ignore[operator]

        monkeypatch.setattr(Session, name, call)
    return seen


def test_the_chunk_that_follows_is_begun_once_this_one_is_prepared(
    measure: Callable[..., Outcome], told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_POINTS", 2)
    points = [replace(NATIVE, operator=Gemm(m=m, n=256, k=256)) for m in (64, 128, 192)]
    assert measure(*points).left == 0
    names = [name for name, _ in told]
    assert names == (
        ["foresee", "prepare", "prepare", "foresee"] + 6 * ["sample"] + ["prepare"] + 3 * ["sample"]
    )
    assert [argument for name, argument in told if name == "foresee"] == [points[:2], points[2:]]


def test_native_points_of_a_chunk_are_prepared_before_those_that_wait_for_pytorch(
    measure: Callable[..., Outcome], told: Told
) -> None:
    measure(TORCH, NATIVE)
    assert [argument for name, argument in told if name == "prepare"] == [NATIVE, TORCH]


def test_a_worker_lost_while_it_looks_ahead_costs_no_point(
    measure: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Session.foresee

    def killing(self: Session, points: list[Point]) -> None:
        monkeypatch.setattr(Session, "foresee", original)
        self._worker.interrupt()  # type: ignore[attr-defined]
        original(self, points)

    monkeypatch.setattr(Session, "foresee", killing)
    outcome = measure(NATIVE, TORCH)
    assert {row.status for row in outcome.rows} == {"ok"}


def test_the_device_is_told_native_work_and_pytorch_is_imported_beside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(Start(device="mock", native_module="native_double"))
    threads: list[str] = []
    imported = threading.Event()

    def note() -> None:
        threads.append(threading.current_thread().name)
        imported.set()

    monkeypatch.setattr(worker, "_import_torch", note)
    bench.foresee([NATIVE, TORCH])
    assert bench._device.foreseen == [[("gemm", NATIVE.arguments)]]
    assert not threads, "the mock stands for PyTorch too"
    bench._kind = "cuda"
    for _ in range(2):
        bench.foresee([TORCH])
    assert imported.wait(10.0)
    assert len(threads) == 1
    assert threads[0] != threading.current_thread().name


def test_an_import_that_fails_beside_is_told_by_the_point_that_needs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing() -> None:
        raise ModuleNotFoundError("No module named 'torch'")

    bench = Bench(Start(device="mock", native_module="native_double"))
    bench._kind = "cuda"
    monkeypatch.setattr(worker, "_import_torch", missing)
    bench.foresee([TORCH])
    answer = bench.answer("prepare", (0, TORCH), {})
    assert (answer.status, answer.sticky) == ("unsupported", False)  # type: ignore[attr-defined]
