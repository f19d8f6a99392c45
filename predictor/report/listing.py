"""What there is: models and GPUs as rows, and rows as text."""

from __future__ import annotations

from textwrap import wrap
from typing import Any

from predictor.case import bench_results_folder, gpu_names, load_gpu, load_model, model_names
from predictor.case.models import model_source
from predictor.iteration.dimensions import parameters_of
from predictor.report.quantities import bytes_text, rate_text, short_count_text
from predictor.report.table import columns
from predictor.tables import RUNS_FILE, read_runs

_LAST_CELL = 68


def models_listing() -> list[dict[str, Any]]:
    """Return one row for each model preset; ``active_parameters`` are those that a token passes."""
    rows = []
    for name in model_names():
        model = load_model(name)
        counted = parameters_of(model, seq_length=model.max_position_embeddings or 0)
        rows.append(
            {
                "name": name,
                "parameters": counted.total,
                "active_parameters": counted.active,
                "layers": model.num_layers,
                "hidden": model.hidden_size,
                "heads": model.num_attention_heads,
                "groups": model.num_query_groups,
                "vocabulary": model.vocab_size,
                "experts": model.moe.num_experts if model.moe else 0,
                "source": model_source(name),
            }
        )
    return rows


def gpus_listing() -> list[dict[str, Any]]:
    """Return one row for each GPU; ``origin`` says whose measurements its costs rest on."""
    rows = []
    for sku in gpu_names():
        gpu = load_gpu(sku)
        price = gpu.usd_per_gpu_hour
        rows.append(
            {
                "name": sku,
                "architecture": gpu.architecture,
                "memory": bytes_text(gpu.memory_bytes),
                "bf16_dense": rate_text(gpu.peak_flops_per_second["bf16"]),
                "origin": _origin(sku),
                "usd_per_gpu_hour": price,
                "price_source": gpu.price_source,
                "price_date": gpu.price_date.split(" (")[0],
            }
        )
    return rows


def _origin(sku: str) -> str:
    """``measured`` here, ``imported`` from others, or ``datasheet`` alone."""
    folder = bench_results_folder() / sku
    if not any(folder.glob("*.csv")):
        return "datasheet"
    kinds = {str(run.get("kind", "measured")) for run in read_runs(folder / RUNS_FILE).values()}
    return " + ".join(sorted(kinds, reverse=True))


def listing_text(rows: list[dict[str, Any]]) -> str:
    """Return rows as aligned columns under their keys; a long last cell goes on below itself."""
    if not rows:
        return ""
    keys = [key for key in rows[0] if not key.endswith("source")]
    cells: list[list[str]] = []
    for row in rows:
        *before, last = (_cell(key, row[key]) for key in keys)
        first, *more = wrap(last, _LAST_CELL)
        cells += [[*before, first], *([*[""] * len(before), line] for line in more)]
    return "\n".join(columns([[key.replace("_", " ") for key in keys], *cells]))


def _cell(key: str, value: Any) -> str:  # noqa: ANN401 - whatever a row holds
    if key.endswith("parameters"):
        return short_count_text(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None or value == "" else str(value)
