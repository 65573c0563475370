"""Finished runs as data frames."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from leandnn.errors import LeandnnError


def load(folder: Path | str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All runs of a comparison's folder, sorted by arm and seed.

    Returns (final, history): one row per run with arm, seed, the final metrics and steps; one row per run
    and epoch with the columns of history.csv. Raises LeandnnError if there is no run.
    """
    finals, histories = [], []
    for path in sorted(Path(folder).glob("*/metrics.json")):
        run = json.loads(path.read_text())
        facts = {"arm": run["arm"], "seed": run["seed"]}
        finals.append({**facts, **run["metrics"], "steps": run["steps"], "parameters": run["parameters"]})
        histories.append(pd.read_csv(path.with_name("history.csv")).assign(**facts))
    if not finals:
        raise LeandnnError(f"there are no runs in {folder}, expected folders with metrics.json")
    final = pd.DataFrame(finals).sort_values(["arm", "seed"], ignore_index=True)
    return final, pd.concat(histories, ignore_index=True)


def pairs(final: pd.DataFrame, metric: str, control: str, treatment: str) -> pd.DataFrame:
    """One row per seed that both arms have: columns `control`, `treatment` and `difference` (treatment − control)."""
    wide = final.pivot(index="seed", columns="arm", values=metric)[[control, treatment]].dropna()
    return wide.assign(difference=wide[treatment] - wide[control]).reset_index()
