"""Runs by their kind of pattern, for papers 3 and 4: of several comparisons in one table, with their nets' times."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from leandnn.bench.benchfile import BenchFile
from leandnn.errors import LeandnnError
from leandnn.report import runs

# Name of an arm without its sparsity → words, colour, marker.
FAMILIES = {
    "dense": ("dense", "#555555", "s"),
    "unstructured": ("single weights", "#0072B2", "o"),
    "hierarchical": ("hierarchical, 2 levels", "#D55E00", "D"),
    "three_levels": ("hierarchical, 3 levels", "#CC79A7", "P"),
    "block4x4": ("4×4 blocks", "#009E73", "^"),
    "block8x8": ("8×8 blocks", "#56B4E9", "v"),
    "block16x16": ("16×16 blocks", "#999999", "<"),
    "rbgp4": ("RBGP4", "#E69F00", "X"),
}


def family(arm: str) -> str:
    """The last part of an arm's path without its percentage: "hbsnn/sparsities/hierarchical_75" → "hierarchical"."""
    return re.sub(r"_(50|75|87|93)$", "", arm.rpartition("/")[2])


def _labelled(final: pd.DataFrame, paper: str, comparison: str) -> pd.DataFrame:
    arms = [f"{paper}/{comparison}/{arm}" for arm in final.arm]
    return final.assign(arm=arms, family=[family(arm) for arm in arms])


Chosen = Mapping[str, Sequence[str]]
"""Comparisons by paper."""


def laptop(runs_dir: Path | str, chosen: Chosen) -> pd.DataFrame:
    """The pipeline's runs: columns arm (paper/comparison/arm), family, seed, metrics; empty without runs."""
    found = []
    for paper, comparisons in chosen.items():
        for comparison in comparisons:
            try:
                final, _ = runs.load(Path(runs_dir) / paper / comparison)
            except LeandnnError:  # not of the active profile
                continue
            found.append(_labelled(final, paper, comparison))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=["arm", "family", "seed"])


def recorded(root: Path, chosen: Chosen, profile: str = "desk") -> pd.DataFrame:
    """The same of the runs outside the pipeline, of the first machine that has them; empty where none has."""
    found = []
    for paper, comparisons in chosen.items():
        for comparison in comparisons:
            records = runs.load_records(root, f"{paper}-{comparison}", profile)
            if records is not None:
                found.append(_labelled(records[0], paper, comparison))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=["arm", "family", "seed"])


def joined(laptop: pd.DataFrame, desk: pd.DataFrame, needed: Iterable[str]) -> tuple[pd.DataFrame, str]:
    """What a figure shows while desk studies are under way: of every arm the scale that has more seeds.

    - needed: arms that the figure cannot do without.

    The pipeline's runs stand beside desk ones only where they took as many steps. Returns the table and which
    scales are in it, in words; the pipeline's runs alone where the two together lack a needed arm.
    """
    own = "the pipeline's runs"
    alike = laptop[laptop.steps.isin(desk.steps)] if len(desk) else laptop
    counts = {name: table.groupby("arm").seed.nunique() for name, table in (("desk", desk), ("own", alike))}
    better = {arm for arm, n in counts["desk"].items() if n >= counts["own"].get(arm, 0)}
    parts = desk[desk.arm.isin(better)], alike[~alike.arm.isin(better)]
    table = (
        pd.concat([part for part in parts if len(part)], ignore_index=True)
        if any(map(len, parts))
        else laptop
    )
    if not better or not set(needed) <= set(table.arm):
        return laptop, own
    return table, f"desk scale, and {own} where those are more" if len(parts[1]) else "desk scale"


def difference_in_words(table: pd.DataFrame, treatment: str, control: str) -> str:
    """The paired difference in accuracy as a sentence; empty without a pair of one seed.

    - table: see laptop; treatment, control: arms.
    """
    points = 100 * runs.pairs(table, "test_accuracy", control, treatment).difference
    if not len(points):
        return ""
    return (
        f"{treatment} minus {control}: {points.mean():+.2f} points of test accuracy, mean of {len(points)} "
        f"seed{'s' * (len(points) > 1)} ({points.min():+.2f} to {points.max():+.2f})"
    )


def means(table: pd.DataFrame) -> pd.DataFrame:
    """One row per arm: family, n, sparsity, mean accuracy and its standard deviation (NaN for one run)."""
    grouped = table.groupby("arm", sort=False)
    return pd.DataFrame(
        {
            "family": grouped.family.first(),
            "n": grouped.seed.count(),
            "sparsity": grouped.sparsity.mean(),
            "accuracy": grouped.test_accuracy.mean(),
            "sd": grouped.test_accuracy.std(),
        }
    ).reset_index()


def seconds(bench: BenchFile, what: str) -> dict[str, float]:
    """Arm → median seconds of a forward pass; of the dense net's layouts the faster counts.

    - what: "net" or "pruned layers", see bench/hbsnn/patterns.py.
    """
    found: dict[str, float] = {}
    for row in bench.rows:
        if row["case"].get("what") == what:
            arm, time = str(row["case"]["arm"]), float(row["median_s"])
            found[arm] = min(time, found.get(arm, time))
    return found


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Numbers of the points that no other beats: none is as fast or faster and as accurate or more.

    - points: (seconds, accuracy). Returned from the fastest to the slowest.
    """
    best, kept = float("-inf"), []
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if points[i][1] > best:
            best = points[i][1]
            kept.append(i)
    return kept


def timed(table: pd.DataFrame, times: Mapping[str, float]) -> pd.DataFrame:
    """`means` of the arms whose net was timed, with their seconds, and whether they are on the front."""
    found = means(table)
    found = found[found.arm.isin(times)].reset_index(drop=True)
    found["seconds"] = [times[arm] for arm in found.arm]
    kept = front(list(zip(found.seconds, found.accuracy, strict=True)))
    return found.assign(front=[i in kept for i in range(len(found))])
