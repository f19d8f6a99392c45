"""What the numbers rest on: origin, defaults, notes, and the runs behind the tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from predictor.case import bench_results_folder
from predictor.report.page.parts import Section, Table
from predictor.report.quantities import count_text, percent_text
from predictor.tables import RUNS_FILE, read_runs

if TYPE_CHECKING:
    from predictor.iteration import Estimate

MEANING: Final = {
    "measured": "this very shape was measured",
    "fitted": "a regression inside the measured range",
    "extrapolated": "physics beyond it",
    "transferred": "by ratios from the nearest measured GPU",
    "datasheet": "nobody measured this GPU",
}


def foundations(estimate: Estimate) -> Section:
    """The last section of a case's page."""
    notes = [
        (name, f"{percent_text(share)}: {MEANING.get(name, '')}")
        for name, share in estimate.origin.items()
        if share > 0
    ]
    if estimate.defaults_taken:
        notes.append(("defaults taken", "; ".join(estimate.defaults_taken)))
    notes += [("note", note) for note in estimate.notes]
    sku = estimate.case.cluster.gpu
    table = runs_table(sku)
    lead = "Share of the seconds by where they come from, what was assumed, and what was measured."
    if table is None:
        lead += f" Nothing was measured on {sku}."
    return Section(
        name="foundations",
        title="What it rests on",
        lead=lead,
        notes=tuple(notes),
        table=table,
    )


def runs_table(sku: str) -> Table | None:
    """Provenance of a SKU's tables, one row a run; None where it has none."""
    path = bench_results_folder() / sku / RUNS_FILE
    if not path.is_file():
        return None
    rows = [
        (
            key,
            str(run.get("kind", "measured")),
            count_text(run["points"]) if isinstance(run.get("points"), int) else "",
            _by(run),
        )
        for key, run in read_runs(path).items()
    ]
    head = ("run", "kind", "points", "source")
    return Table(head=head, rows=tuple(rows), numeric=frozenset({2}))


def _by(run: dict[str, Any]) -> str:
    """Who says so: the source of an import, or the libraries of a run of our own."""
    if "source" in run:
        return str(run["source"])
    libraries = {**run.get("libraries", {}), "driver": run.get("device", {}).get("driver_version")}
    return ", ".join(f"{name} {version}" for name, version in libraries.items() if version)
