"""What a finished run leaves behind: its metrics and its history, free of times and places."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leandnn.errors import LeandnnError
from leandnn.machine import card
from leandnn.params import parse
from leandnn.studies.comparison import Scale

if TYPE_CHECKING:
    from leandnn.studies.comparison import Comparison, Trial
    from leandnn.studies.runs import Run
    from leandnn.train.task import Result

Progress = Callable[[int, int, str], None]


def train(
    run: Run,
    comparison: Comparison,
    *,
    state: Path | None = None,
    every_s: float = 10.0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train a run to the end, or on from its checkpoint: {"run", "metrics", "history", "cost"}.

    - state: where its checkpoint goes, None for none; every_s: how often.
    """
    from leandnn.train import loop

    budget = parse(comparison.budget, dict(run.budget), f"the budget of {run.title}")
    trial = comparison.arms[run.arm](budget, Scale(run.seed, run.threads, run.device))
    result = loop.train(
        trial.task,
        trial.settings,
        trial.hooks,
        checkpoint_path=state,
        checkpoint_every_s=every_s,
        progress=progress,
    )
    return {
        "run": dataclasses.asdict(run),
        "metrics": metrics(run, comparison, trial, result),
        "history": result.history,
        "cost": {
            "seconds": round(result.seconds, 1),
            "seconds_per_step": round(result.seconds / result.steps, 4),
            "peak_mib": math.ceil(card.peak_memory_mib()),
            "cpu_generation": card.cpu_generation(),
        },
    }


def metrics(run: Run, comparison: Comparison, trial: Trial, result: Result) -> dict[str, Any]:
    """The content of metrics.json: what the run is, what decides it, settings, metrics, best accuracies, digest.

    The metrics are those of the last epoch and, as `train_loss@STEP`, the training loss at the trace's fixed
    steps. A run that failed says why in `failure` (null otherwise) and has the metrics of Task.worst.
    """
    accuracies = [name for name in result.metrics if name.endswith("accuracy") and result.history]
    at_steps = {f"train_loss@{row['step']:.0f}": row["train_loss"] for row in result.trace}
    return {
        "paper": comparison.paper,
        "comparison": comparison.name,
        "arm": run.arm,
        "seed": run.seed,
        **run.facts,
        "settings": dataclasses.asdict(trial.settings),
        "metrics": {**result.metrics, **at_steps},
        "best": {name: max(row[name] for row in result.history if name in row) for name in accuracies},
        "parameters": sum(p.numel() for p in result.model.parameters()),
        "steps": result.steps,
        "failure": result.failure,
        "weights_sha256": result.weights_sha256,
    }


def history_csv(history: list[dict[str, float]]) -> str:
    """The content of history.csv: one row per finished epoch, empty where it was not evaluated."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(history[-1]) if history else ["epoch"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()


def read_history(text: str) -> list[dict[str, float]]:
    """The inverse of history_csv; LeandnnError for other text."""
    try:
        return [
            {key: float(value) for key, value in row.items() if value != ""}
            for row in csv.DictReader(io.StringIO(text))
        ]
    except (TypeError, ValueError) as error:
        raise LeandnnError(f"that is no history of a run: {error}") from error
