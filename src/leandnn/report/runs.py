"""Finished runs as data frames."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from leandnn.errors import LeandnnError
from leandnn.studies import records, standing


def load(folder: Path | str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All runs of a comparison's folder, sorted by arm and seed.

    Returns (final, history): one row per run with arm, seed, the final metrics and steps; one row per run
    and epoch with the columns of history.csv. Raises LeandnnError if there is no run.
    """
    found = []
    for path in sorted(Path(folder).glob("*/metrics.json")):
        found.append((json.loads(path.read_text()), pd.read_csv(path.with_name("history.csv"))))
    if not found:
        raise LeandnnError(f"there are no runs in {folder}, expected folders with metrics.json")
    return _frames(found)


def load_records(root: Path, study: str, profile: str) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """The same of a study run outside the pipeline, from reference/<machine>/.

    - study: e.g. "bf16-vision"; profile: "desk" or "paper".

    All runs of a seed are of one machine, so pairs are, too: that with most runs of it, the first by name if
    several are. None where there are none; records that cannot be trusted are left out (`leandnn claims` names
    them).
    """
    by_seed: dict[int, list[Any]] = {}
    for path in sorted((root / "reference").glob(f"*/{study}.json")):
        own: dict[int, list[Any]] = {}
        for entry in standing.counting(records.read(path)[0]["runs"]):
            if entry["profile"] == profile:
                own.setdefault(entry["seed"], []).append(entry)
        by_seed |= {seed: made for seed, made in own.items() if len(made) > len(by_seed.get(seed, ()))}
    if not by_seed:
        return None
    return _frames((entry, pd.DataFrame(entry["history"])) for made in by_seed.values() for entry in made)


def failures(root: Path, study: str, profile: str) -> list[str]:
    """A sentence for each run that ended with an error and not well since, of all machines: arm, seed, error."""
    found = []
    for path in sorted((root / "reference").glob(f"*/{study}.json")):
        for entry in records.unfinished(records.read(path)[0]):
            if entry["profile"] == profile:
                found.append(f"{entry['arm']}, seed {entry['seed']}: {entry['why']}")
    return list(dict.fromkeys(found))


def _frames(runs: Iterable[tuple[Mapping[str, Any], pd.DataFrame]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    finals, histories = [], []
    for run, history in runs:
        facts = {"arm": run["arm"], "seed": run["seed"]}
        further = {key: run[key] for key in ("steps", "parameters", "failure")}
        finals.append({**facts, **run["metrics"], **further})
        histories.append(history.copy().assign(**facts))  # a copy: one with many columns comes in pieces
    final = pd.DataFrame(finals).sort_values(["arm", "seed"], ignore_index=True)
    return final, pd.concat(histories, ignore_index=True)


def trace(final: pd.DataFrame) -> pd.DataFrame:
    """The training loss at fixed steps, from the final metrics: columns arm, seed, step, train_loss."""
    steps = [name for name in final.columns if name.startswith("train_loss@")]
    long = (
        final[["arm", "seed", *steps]]
        .melt(["arm", "seed"], var_name="step", value_name="train_loss")
        .dropna()
    )
    return long.assign(step=long.step.str.removeprefix("train_loss@").astype(int)).sort_values(
        ["arm", "seed", "step"], ignore_index=True
    )


def pairs(final: pd.DataFrame, metric: str, control: str, treatment: str) -> pd.DataFrame:
    """One row per seed that both arms have: seed, control, treatment, difference (treatment − control)."""
    arms = {"control": control, "treatment": treatment}
    sides = {side: final[final.arm == arm].set_index("seed")[metric] for side, arm in arms.items()}
    both = pd.DataFrame(sides).dropna()
    return both.assign(difference=both.treatment - both.control).reset_index()


def seeds_in_words(table: pd.DataFrame) -> str:
    """How many seeds the arms of a table have: "n = 3", or "n = 2 to 8"."""
    counts = table.groupby("arm").seed.nunique()
    return f"n = {counts.min()}" if counts.min() == counts.max() else f"n = {counts.min()} to {counts.max()}"
