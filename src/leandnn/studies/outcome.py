"""What a finished run leaves behind: its metrics and its history, free of times and places."""

from __future__ import annotations

import csv
import dataclasses
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leandnn.studies.comparison import Run, Trial
    from leandnn.train.task import Result


def metrics(run: Run, trial: Trial, result: Result) -> dict[str, Any]:
    """The content of metrics.json: identity, budget, settings, metrics, best accuracies, digest.

    The metrics are those of the last epoch and, as `train_loss@STEP`, the training loss at the trace's fixed
    steps. A run that failed says why in `failure` (null otherwise) and has the metrics of Task.worst.
    """
    accuracies = [name for name in result.metrics if name.endswith("accuracy") and result.history]
    at_steps = {f"train_loss@{row['step']:.0f}": row["train_loss"] for row in result.trace}
    return {
        "paper": run.comparison.paper,
        "comparison": run.comparison.name,
        "arm": run.arm,
        "seed": run.seed,
        "budget": run.spent(),
        "settings": dataclasses.asdict(trial.settings),
        "metrics": {**result.metrics, **at_steps},
        "best": {name: max(row[name] for row in result.history) for name in accuracies},
        "parameters": sum(p.numel() for p in result.model.parameters()),
        "steps": result.steps,
        "failure": result.failure,
        "weights_sha256": result.weights_sha256,
    }


def history_csv(history: list[dict[str, float]]) -> str:
    """The content of history.csv: one row per finished epoch."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(history[0]) if history else ["epoch"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()
