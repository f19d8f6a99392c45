"""``predictor import``: tables of a GPU from other people's measurements."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from predictor.commands.common import Group, say


@click.group(name="import", cls=Group)
def import_command() -> None:
    """Write tables of a GPU from other people's measurements, with their source."""


_SKU = click.option("--gpu", required=True, metavar="SKU", help="GPU that was measured.")
_OUT = click.option(
    "--out", metavar="DIR", type=click.Path(path_type=Path), help="Folder of the SKU's tables."
)


@import_command.command("nccl-tests")
@click.argument("logs", metavar="LOG...", nargs=-1, required=True, type=click.Path(path_type=Path))
@_SKU
@click.option("--source", required=True, help="Who measured, and where it was published.")
@click.option("--collective", help="Operator, for logs that do not say.")
@click.option("--ranks-per-node", type=click.INT, help="For logs whose hosts do not tell.")
@_OUT
def import_nccl_tests(
    logs: tuple[Path, ...],
    *,
    gpu: str,
    source: str,
    collective: str | None,
    ranks_per_node: int | None,
    out: Path | None,
) -> None:
    r"""Import what nccl-tests print, or write with -J: text and JSON of any version.

    \b
    predictor import nccl-tests LOG... --gpu h100-sxm5-80gb --source "who, where" --out my-tables
    """
    from predictor.case import load_gpu  # noqa: PLC0415
    from predictor.tables.importers import read_nccl_tests  # noqa: PLC0415

    imported = read_nccl_tests(
        logs,
        load_gpu(gpu),
        source=source,
        collective=collective,
        ranks_per_node=ranks_per_node,
    )
    _write_import(imported, gpu, out)


@import_command.command("aiconfigurator")
@click.option("--gpu", "system", required=True, metavar="SYSTEM", help="System, as a100_sxm.")
@click.option("--sku", metavar="SKU", help="Folder of bench_results; default: that of the system.")
@click.option("--folder", type=click.Path(path_type=Path), help="Unpacked wheel.")
@click.option("--operators", metavar="A,B,...", default="", help="Those alone.")
@_OUT
def import_aiconfigurator(
    *, system: str, sku: str | None, folder: Path | None, operators: str, out: Path | None
) -> None:
    r"""Import GEMM, attention and NCCL tables of aiconfigurator-core (PyPI, Apache-2.0).

    \b
    predictor import aiconfigurator --gpu a100_sxm --out my-tables
    """
    from predictor.case import load_gpu  # noqa: PLC0415
    from predictor.tables.importers import read_aiconfigurator  # noqa: PLC0415
    from predictor.tables.importers.aiconfigurator import sku_of  # noqa: PLC0415

    gpu = load_gpu(sku or sku_of(system))
    wanted = [name for name in operators.split(",") if name]
    imported = read_aiconfigurator(system, gpu, folder=folder, operators=wanted)
    _write_import(imported, gpu.sku, out)


def _write_import(imported: Any, sku: str, out: Path | None) -> None:  # noqa: ANN401
    from predictor.case import bench_results_folder  # noqa: PLC0415
    from predictor.tables.importers import write_import  # noqa: PLC0415

    folder = out or bench_results_folder() / sku
    for path in write_import(imported, folder):
        say(f"wrote {path}", err=True)
    say(f"{len(imported.rows)} rows of run {imported.run}; now {_next_step(folder, sku, out)}")


def _next_step(folder: Path, sku: str, out: Path | None) -> str:
    """What makes the written tables answer."""
    if out is None:
        return f"`predictor fit {sku}`"
    if folder.resolve().name != sku:
        return (
            f"move them to a folder called {sku}: `predictor fit` knows a SKU by its folder's name"
        )
    root = folder.resolve().parent
    return f"`PREDICTOR_BENCH_RESULTS={root} predictor fit {sku}`"
