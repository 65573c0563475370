"""Runs and the pairs of them that a rule compares.

An arm (all runs that differ by the seed only) is called by its path, e.g. `bf16/vision/fp32`. A scale is where its
runs were made: `laptop` (the pipeline), `desk@<machine>` and `paper@<machine>` (studies outside it).
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from leandnn.errors import LeandnnError
from leandnn.studies.standing import rank

LAPTOP = "laptop"
LARGEST = 1e100  # beyond any metric, and its square is still finite


@dataclass(frozen=True)
class Run:
    """One trained run, or one round of a timing, whose number is its seed.

    - arm: `paper/comparison/arm`. where: its file below the root.
    - made: what must be equal for two runs to be a pair, the budget for one.
    - code: of its arm; equal for all runs that today's code gives. commit: that made it, "" where it says no more.
    - standing: what today's code says of it (studies/proofs.py), "" where it keeps no record.
    - planned: made by a plan, so that it may decide a verdict.
    """

    arm: str
    seed: int
    made: Mapping[str, object]
    metrics: Mapping[str, float]
    where: str
    code: str = ""
    commit: str = ""
    standing: str = ""
    planned: bool = False


@dataclass(frozen=True)
class Pairs:
    """Values of a metric in both arms, seed by seed, and where they are from.

    - left_out: in words, which runs do not count and why; empty when all do.
    - standings: how many of the records behind the values are of which standing.
    - planned: all of them were made by a plan.
    """

    seeds: tuple[int, ...]
    control: tuple[float, ...]
    treatment: tuple[float, ...]
    sources: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    standings: Mapping[str, int] = field(default_factory=dict)
    planned: bool = False


@dataclass(frozen=True)
class Evidence:
    """All runs of one scale, older ones of a run first.

    - off_profile: the pipeline's that do not count: smoke runs, and those of another budget than the profile's.
    """

    scale: str
    runs: tuple[Run, ...]
    off_profile: tuple[Run, ...] = ()

    def steps(self, arms: tuple[str, ...], prefix: str) -> list[str]:
        """The names of the metrics of these arms that are `prefix` and a step, by step."""
        names = {
            name for run in self.runs if run.arm in arms for name in run.metrics if name.startswith(prefix)
        }
        return sorted(names, key=lambda name: int(name.removeprefix(prefix)))

    def pairs(self, control: str, treatment: str, metric: str, control_metric: str = "") -> Pairs:
        """The seeds that both arms have, made alike within and between the pairs.

        - control_metric: of the control, "" for `metric`. The arms may be one: two metrics of the same run.

        Of several records of a run the one counts that makes a pair of the best standing, the newest among equals.
        """
        control_metric = control_metric or metric
        sides = [self._by_seed(arm, name) for arm, name in ((control, control_metric), (treatment, metric))]
        both = sorted(sides[0].keys() & sides[1].keys())
        measured = [seed for seed in both if sides[0][seed] and sides[1][seed]]
        # Each comparison has code of its own: across two of them it is no part of what must agree.
        within = control.rpartition("/")[0] == treatment.rpartition("/")[0]
        together = self._together(control, treatment) if within else None
        options: dict[int, dict[str, tuple[Run, Run]]] = {seed: {} for seed in measured}
        for seed in measured:
            for a, b in itertools.product(sides[0][seed], sides[1][seed]):
                alike = a.made == b.made and a.planned == b.planned and (a is b or control != treatment)
                if alike and (together is None or (a.code, b.code) in together):
                    made = json.dumps(
                        [a.made, a.planned, (a.code, b.code) if within else None], sort_keys=True
                    )
                    options[seed].setdefault(made, (a, b))
        # Pairs made otherwise answer another question; the way that most seeds have is the study's.
        ways = Counter(
            min(pairs, key=lambda made: _order(pairs[made])) for pairs in options.values() if pairs
        )
        usual = ways.most_common(1)[0][0] if ways else ""
        kept = {seed: pairs[usual] for seed, pairs in options.items() if usual in pairs}

        runs_of_a_pair = len({control, treatment})
        counts = {
            "not of the active profile": sum(run.arm in (control, treatment) for run in self.off_profile),
            "without a partner": len(sides[0].keys() ^ sides[1].keys()),
            f"in pairs without {' or '.join(dict.fromkeys((control_metric, metric)))}": runs_of_a_pair
            * (len(both) - len(measured)),
            "in pairs of another budget or code": runs_of_a_pair * (len(measured) - len(kept)),
        }
        behind = {run.where: run for pair in kept.values() for run in pair}
        return Pairs(
            seeds=tuple(kept),
            control=tuple(a.metrics[control_metric] for a, _ in kept.values()),
            treatment=tuple(b.metrics[metric] for _, b in kept.values()),
            sources=tuple(behind),
            left_out=tuple(f"{n} run{'s' * (n > 1)} {why}" for why, n in counts.items() if n),
            standings=dict(
                Counter(run.standing.partition(",")[0] for run in behind.values() if run.standing)
            ),
            planned=bool(behind) and all(run.planned for run in behind.values()),
        )

    def _by_seed(self, arm: str, metric: str) -> dict[int, list[Run]]:
        """The arm's seeds, each with its runs that have the metric, newest first."""
        found: dict[int, list[Run]] = {}
        for run in reversed(self.runs):
            if run.arm == arm:
                found.setdefault(run.seed, []).extend([run] if metric in run.metrics else [])
        return found

    def _together(self, control: str, treatment: str) -> set[tuple[str, str]]:
        """Which code of the two arms is of one state of the source: equal, or seen at one commit."""
        sides = ([run for run in self.runs if run.arm == arm] for arm in (control, treatment))
        return {
            (a.code, b.code)
            for a, b in itertools.product(*sides)
            if a.code == b.code or (a.commit and a.commit == b.commit)
        }


def _order(pair: tuple[Run, Run]) -> tuple[bool, int]:
    """The lower, the rather a pair counts."""
    return not all(run.planned for run in pair), max(rank(run.standing) for run in pair)


def finite(where: str, metrics: Mapping[str, object]) -> dict[str, float]:
    """The metrics as floats; LeandnnError for one that is no finite number."""
    found = {}
    for key, value in metrics.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
            raise LeandnnError(f"{where} has {key} = {value!r:.60}, expected a finite number")
        found[key] = float(value)
    return found
