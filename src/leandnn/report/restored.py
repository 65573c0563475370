"""What a notebook asserts of restored results: the pipeline's runs in runs/, records and timings in reference/.

They are checked for what must hold of any run and any timing, on every machine and at every budget; what a number may
be is the notebook's to say. No parameter of a notebook is needed: one that was opened on its own, and trains tiny
nets, checks the restored results all the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from leandnn import params, paths
from leandnn.bench import benchfile
from leandnn.bench.benchfile import BenchFile
from leandnn.claims import pipeline_runs
from leandnn.errors import LeandnnError
from leandnn.report import runs


def final(comparison: str, steps: int) -> pd.DataFrame:
    """Final metrics of the runs in runs/<comparison>, a row a run, see runs.load; empty where there is nothing to hold.

    - comparison: "<paper>/<comparison>". steps: updates of the shortest run that the notebook's bounds are for.

    Empty, with a printed sentence, where no run is restored, where they are smoke runs, and where they are shorter.
    LeandnnError, naming the arm, unless every arm has the seeds of params.yaml, all runs took as many steps, each lies
    in the folder of its name, and its metrics are those of its last epoch.
    """
    measured, profile = pipeline_runs.read(paths.ROOT), params.load(root=paths.ROOT)
    try:
        found, history = runs.load(paths.RUNS / comparison)
    except LeandnnError:
        return _nothing(comparison, "not restored (dvc pull)")
    if any(run.arm.startswith(f"{comparison}/") for run in measured.off_profile):
        return _nothing(comparison, "smoke runs, or of another budget than params.yaml's")
    if found.steps.max() < steps:
        return _nothing(comparison, f"{found.steps.max()} steps, and the bounds are for {steps}")
    last = history.groupby(["arm", "seed"]).last()
    for arm, own in found.groupby("arm"):
        _same(f"{comparison}/{arm}", "seeds", sorted(own.seed), sorted(profile.seeds))
        _same(f"{comparison}/{arm}", "steps", own.steps.tolist(), [int(found.steps.iloc[0])] * len(own))
        for column in own.select_dtypes("number").columns.intersection(last.columns):
            said = last[column].xs(arm, level="arm").reindex(own.seed).tolist()
            _same(f"{comparison}/{arm}", f"{column} beside the last epoch's", own[column].tolist(), said)
    return found


def timings(bench: str) -> list[BenchFile]:
    """Every machine's file of a bench; LeandnnError for a row whose rate is not work over time, or quartiles astray."""
    found, refused = benchfile.every(paths.ROOT, bench)
    if refused:
        raise LeandnnError("\n".join(refused))
    for row in (row for file in found for row in file.rows):
        if not math.isclose(row["rate"] * row["median_s"], row["work"], rel_tol=1e-6):
            raise LeandnnError(
                f"bench {bench}, {row['case']}, {row['impl']}: rate × time is {row['rate'] * row['median_s']:g}, "
                f"expected the work, {row['work']:g}"
            )
        if not row["p25_s"] <= row["median_s"] <= row["p75_s"]:
            raise LeandnnError(
                f"bench {bench}, {row['case']}, {row['impl']}: the median lies outside its quartiles"
            )
    return found


def recorded(study: str, n: int) -> pd.DataFrame:
    """Final metrics of a study's desk runs, see runs.load_records; empty, with a sentence, where it has no file.

    - study: e.g. "bf16-vision". LeandnnError if an arm has fewer than `n` seeds that can be trusted.
    """
    if not any(paths.REFERENCE.glob(f"*/{study}.json")):
        return _nothing(study, "no records in reference/")
    found = runs.load_records(paths.ROOT, study, "desk")
    seeds = found[0].groupby("arm").seed.nunique() if found else pd.Series({"no arm": 0})
    if found is None or seeds.min() < n:
        raise LeandnnError(
            f"{study}: {seeds.min()} seeds of {seeds.idxmin()} in reference/, expected {n} or more"
        )
    return found[0]


def _nothing(study: str, why: str) -> pd.DataFrame:
    print(f"{study}: {why}, so nothing is asserted of it")
    return pd.DataFrame(columns=["arm", "seed"])


def _same(where: str, what: str, found: Sequence[float], expected: Sequence[float]) -> None:
    if not np.array_equal(np.array(found, float), np.array(expected, float), equal_nan=True):
        raise LeandnnError(f"runs/{where}: {what}: {list(found)}, expected {list(expected)}")
