"""What a user may ask of a run of ``bench-run``, and what follows: its ranks, points and folder."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from predictor.bench.points import Point
from predictor.bench.ranks import World, gpus_of, nvls_of
from predictor.bench.sweep import MANY_GPUS, Ranks, default_points, plan
from predictor.errors import BenchError

DATA_FOLDER = "bench_results"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a user may ask of a run.

    Attributes:
        device: ``cuda`` or ``mock``.
        index: Of the GPU.
        sku: ``auto`` or a SKU's name.
        operators: Names to measure; empty is all.
        points: Points to measure in place of the default sweep.
        time_budget_seconds: Wall seconds from the start of the process.
        resume: Go on with the journal in the folder.
        new: Only what the folder's tables do not hold yet.
        out: Folder of the tables; None is ``bench_results/<sku>`` of the checkout.
        raw: Also keep every sample, in a side file.
        seed: Of designs, data and the order of rounds.
        gpus: GPUs that run collectives together; None is all there are, where any is measured.
        nvls: Let NCCL use NVLink SHARP.
        native_module: Import name of the native extension.
    """

    device: str = "cuda"
    index: int = 0
    sku: str = "auto"
    operators: tuple[str, ...] = ()
    points: tuple[Point, ...] = field(default=(), repr=False)
    time_budget_seconds: float = 480.0
    resume: bool = False
    new: bool = False
    out: Path | None = None
    raw: bool = True
    seed: int = 0
    gpus: int | None = None
    nvls: bool = False
    native_module: str = "predictor._native"


def ranks_of(options: Options, world: World | None) -> Ranks | None:
    """GPUs of a run; None for one alone.

    Raises:
        BenchError: More are wanted than there are, or one does not suffice.
    """
    named = {point.operator.name for point in options.points} or set(options.operators)
    together = named & MANY_GPUS
    if world is None and options.gpus is None and named and not together:
        return None
    gpus = gpus_of(
        world, wanted=options.gpus, device=options.device, native_module=options.native_module
    )
    if gpus == 1 and together:
        raise BenchError(
            f"{', '.join(sorted(together))} needs two GPUs or more, this run has one: name them "
            "by --gpus, or leave the operator out"
        )
    per_node = world.local_size if world is not None else gpus
    if gpus == 1:
        return None
    return Ranks(gpus=gpus, gpus_per_node=per_node, nvls=nvls_of(wanted=options.nvls))


def planned_points(options: Options, ranks: Ranks | None = None) -> list[Point]:
    """The points of a run, in order; those beyond the budget follow in case time is left.

    Raises:
        UnknownName: An operator does not exist.
    """
    points = list(options.points) or default_points(
        options.operators, seed=options.seed, ranks=ranks
    )
    return list(plan(points, budget_seconds=options.time_budget_seconds).all_points)


def folder_of(options: Options, sku: str) -> Path:
    """Where the tables of a run go.

    Raises:
        BenchError: The mock's numbers would lie among measured ones.
    """
    if options.device == "mock":
        folder = (options.out or Path("bench-mock")).resolve()
        if DATA_FOLDER in folder.parts:
            msg = (
                f"--out {folder}: the mock's numbers must not go to {DATA_FOLDER}; choose another "
                "folder"
            )
            raise BenchError(msg)
        return folder
    return options.out or _checkout_data_folder() / sku


def _checkout_data_folder() -> Path:
    checkout = Path(__file__).resolve().parents[2] / DATA_FOLDER
    return checkout if checkout.is_dir() else Path(DATA_FOLDER)


def arguments(options: Options) -> dict[str, Any]:
    """What of the options belongs to a run's provenance."""
    kept = asdict(options) | {"points": len(options.points) or None}
    return {name: value for name, value in kept.items() if name not in {"out", "native_module"}}
