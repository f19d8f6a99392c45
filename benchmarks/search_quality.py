"""How good the plan is that a ranking puts first, on plans that people have measured.

python benchmarks/search_quality.py RUNS.jsonl [--source WORD] [--most N]

Run records are grouped by model, sequence length, batch, GPU and GPU count; a group's plans are
ranked by their predicted iteration. Regret is the measured time of the plan ranked first over the
measured best, less one; Spearman's rank correlation is of predicted and measured times.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

LEAST_PLANS = 5


@dataclass(frozen=True, slots=True)
class Ranked:
    """One group of plans.

    Attributes:
        name: Source, model, batch and GPUs.
        plans: How many were measured and predicted.
        regret: Measured time of the plan ranked first over the best, less one.
        spearman: Rank correlation.
    """

    name: str
    plans: int
    regret: float
    spearman: float


def ranked(name: str, measured: list[float], predicted: list[float]) -> Ranked:
    """Rank a group's plans by prediction."""
    times, guesses = np.array(measured), np.array(predicted)
    regret = float(times[np.argmin(guesses)] / times.min() - 1)
    ranks = [np.argsort(np.argsort(each, kind="stable")) for each in (times, guesses)]
    return Ranked(name, len(times), regret, float(np.corrcoef(*ranks)[0, 1]))


def group_of(record: dict[str, Any]) -> str:
    """Name what plans of one group have in common."""
    model, training, cluster = record["model"], record.get("training", {}), record["cluster"]
    shape = [model.get(key) for key in ("num_layers", "hidden_size", "num_attention_heads")]
    batch = [training.get(key) for key in ("seq_length", "global_batch_size")]
    return " ".join(
        map(str, [record.get("source"), *shape, *batch, cluster["gpu"], cluster["num_gpus"]])
    )


def groups(path: Path, source: str, most: int) -> list[Ranked]:
    """Predict every record of a file whose source has a word, and rank its groups."""
    from predictor import Case, estimate
    from predictor.errors import PredictorError

    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if source.lower() in str(record.get("source", "")).lower():
            found[group_of(record)].append(record)
    wide = [name for name, records in found.items() if len(records) >= LEAST_PLANS]
    done = []
    for name in wide[:: max(1, len(wide) // most)][:most]:
        measured, predicted = [], []
        for record in found[name]:
            try:
                seconds = estimate(Case.from_dict(record)).iteration_seconds
            except PredictorError:
                continue
            measured.append(record["measured"]["iteration_seconds"])
            predicted.append(seconds)
        if len(measured) >= LEAST_PLANS:
            done.append(ranked(name, measured, predicted))
    return done


def main() -> None:
    """Print a line a group, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("--source", default="", help="records whose source has this word")
    parser.add_argument("--most", type=int, default=10_000, help="groups, an even sample of all")
    asked = parser.parse_args()
    done = groups(asked.runs, asked.source, asked.most)
    for group in done:
        print(
            f"{group.name}: {group.plans} plans, regret {100 * group.regret:.1f} %, "
            f"Spearman {group.spearman:.2f}"
        )
    if done:
        regret = 100 * np.array([group.regret for group in done])
        middle = np.median([group.spearman for group in done])
        print(
            f"{len(done)} groups, {sum(group.plans for group in done)} plans: regret median "
            f"{np.median(regret):.1f} %, 90th percentile {np.quantile(regret, 0.9):.1f} %, "
            f"Spearman median {middle:.2f}"
        )


if __name__ == "__main__":
    main()
