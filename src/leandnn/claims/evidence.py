"""Evidence: what was measured, by scale, and the pairs of runs that a rule compares.

Scale `laptop` is what the pipeline made: `runs/<paper>/<comparison>/<arm>-s<seed>/metrics.json`, an object
with paper, comparison, arm, seed, budget (what was spent, e.g. epochs) and metrics (name to number). The
scales `desk@<machine>` and `paper@<machine>` are measured outside the pipeline by `leandnn reference`, in
`reference/<machine>/<study>.json` (format: studies/records.py). A file or record there that cannot be trusted
is refused and named by `problems`; one made by other code, or with another budget than params.yaml's, counts
but is called stale.

An arm (all runs that differ by the seed only) is called by its path, e.g. `bf16/vision/fp32`. A run of the
smoke profile (a sliver of the data, to see that everything works) is never evidence.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from leandnn.errors import LeandnnError
from leandnn.params import read_yaml
from leandnn.studies import records
from leandnn.studies.comparison import code_digest

LAPTOP = "laptop"
SMOKE = "smoke"
LARGEST = 1e100  # beyond any metric, and its square is still finite
KEYS = ("paper", "comparison", "arm", "seed", "budget", "metrics")


@dataclass(frozen=True)
class Run:
    """One trained run: arm (`paper/comparison/arm`), seed, budget, metrics, and where it lies below the root.

    `stale` says what has changed since it was made, empty when nothing has.
    """

    arm: str
    seed: int
    budget: Mapping[str, object]
    metrics: Mapping[str, float]
    folder: str
    stale: str = ""


@dataclass(frozen=True)
class Pairs:
    """Values of a metric in both arms, seed by seed, with the run folders they came from.

    `left_out` says, in words, which runs do not count and why; empty when all do. `stale` says what has
    changed since the runs were made.
    """

    seeds: tuple[int, ...]
    control: tuple[float, ...]
    treatment: tuple[float, ...]
    folders: tuple[str, ...]
    left_out: tuple[str, ...]
    stale: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """All runs of one scale; `off_profile` holds those that do not count: smoke runs and other budgets."""

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
        """The seeds that both arms have, with one budget within and between the pairs.

        - control_metric: of the control, "" for `metric`. The arms may be one: two metrics of the same run.
        """
        control_metric = control_metric or metric
        sides = [{run.seed: run for run in self.runs if run.arm == arm} for arm in (control, treatment)]
        both = [(sides[0][seed], sides[1][seed]) for seed in sorted(sides[0].keys() & sides[1].keys())]
        measured = [(a, b) for a, b in both if control_metric in a.metrics and metric in b.metrics]
        # Each comparison has code of its own: across two of them it is no part of what must agree.
        aside = () if control.rpartition("/")[0] == treatment.rpartition("/")[0] else ("code",)
        made = [(_canonical(a.budget, aside), _canonical(b.budget, aside)) for a, b in measured]
        # Pairs of another budget answer another question; the commonest budget is the study's.
        budgets = Counter(a for a, b in made if a == b)
        usual = budgets.most_common(1)[0][0] if budgets else None
        kept = [pair for pair, (a, b) in zip(measured, made, strict=True) if a == b == usual]

        runs_of_a_pair = len({control, treatment})
        counts = {
            "not of the active profile": sum(run.arm in (control, treatment) for run in self.off_profile),
            "without a partner": len(sides[0].keys() ^ sides[1].keys()),
            f"in pairs without {' or '.join(dict.fromkeys((control_metric, metric)))}": runs_of_a_pair
            * (len(both) - len(measured)),
            "in pairs of another budget or code": runs_of_a_pair * (len(measured) - len(kept)),
        }
        return Pairs(
            seeds=tuple(a.seed for a, _ in kept),
            control=tuple(a.metrics[control_metric] for a, _ in kept),
            treatment=tuple(b.metrics[metric] for _, b in kept),
            folders=tuple(dict.fromkeys(run.folder for pair in kept for run in pair)),
            left_out=tuple(f"{n} run{'s' * (n > 1)} {why}" for why, n in counts.items() if n),
            stale=tuple(sorted({run.stale for pair in kept for run in pair if run.stale})),
        )


def evidence_by_scale(root: Path) -> dict[str, Evidence]:
    """What was measured at each scale, `laptop` first and always there (empty without runs).

    LeandnnError for a metrics file of the pipeline that cannot be trusted, naming it.
    """
    by_scale: dict[str, list[Run]] = {}
    for scale, run in _reference(root)[0]:
        by_scale.setdefault(scale, []).append(run)
    return {LAPTOP: _laptop(root)} | {
        scale: Evidence(scale, tuple(by_scale[scale])) for scale in sorted(by_scale)
    }


def problems(root: Path) -> list[str]:
    """A sentence for each reference file or record that is refused."""
    return _reference(root)[1]


def _timings(root: Path) -> tuple[list[tuple[str, Run]], list[str]]:
    """(scale, run) of the rounds in bench files: arm `<bench>/speed/<arm>`, the round's number as the seed."""
    found: list[tuple[str, Run]] = []
    refused: list[str] = []
    for path in sorted((root / "reference").glob("*/bench-*.json")):
        where = path.relative_to(root).as_posix()
        try:
            rounds = json.loads(path.read_text(encoding="utf-8")).get("rounds", {})
            for arm, seconds in rounds.items():
                name = f"{path.stem.removeprefix('bench-')}/speed/{arm}"
                found += [
                    (f"desk@{path.parent.name}", Run(name, i, {}, _metrics(where, {"seconds": value}), where))
                    for i, value in enumerate(seconds)
                ]
        except (OSError, ValueError, AttributeError, TypeError, LeandnnError) as error:
            refused.append(f"{where} has no rounds that can be read: {error}")
    return found, refused


def _reference(root: Path) -> tuple[list[tuple[str, Run]], list[str]]:
    """(scale, run) of every trusted record and timing under reference/, and what was refused."""
    found, refused = _timings(root)
    for path in sorted((root / "reference").glob("*/*.json")):
        if path.name == "cost.json" or path.name.startswith(("bench-", "fuzz-")):
            continue
        try:
            document, bad_records = records.read(path)
        except LeandnnError as error:
            refused.append(str(error))
            continue
        refused += bad_records
        current = _Current(root)
        for key, entry in document["runs"].items():
            where = f"{path.relative_to(root).as_posix()}#{key}"
            try:
                metrics = _metrics(where, entry["metrics"])
            except LeandnnError as error:
                refused.append(str(error))
                continue
            arm = f"{entry['paper']}/{entry['comparison']}/{entry['arm']}"
            # Runs of unequal code or torch are no pair; the budget carries what must agree.
            made = {**entry["budget"], "code": entry["code"], "torch": entry["versions"].get("torch")}
            run = Run(arm, entry["seed"], made, metrics, where, current.stale(entry))
            found.append((f"{entry['profile']}@{path.parent.name}", run))
    return found, refused


class _Current:
    """Today's code and budgets, to see what is stale."""

    def __init__(self, root: Path) -> None:
        self.params = read_yaml(root / "params.yaml") if (root / "params.yaml").is_file() else {}

    @functools.cache  # noqa: B019 - lives as long as one call of _reference
    def code(self, files: tuple[str, ...]) -> str:
        """Digest of these files and folders of the package as they are now, "" where one is gone."""
        try:
            return code_digest(files)
        except OSError:
            return ""

    def stale(self, entry: Mapping[str, Any]) -> str:
        """What has changed since a record was made, in words."""
        if self.code(tuple(entry["code_of"])) != entry["code"]:
            return f"made by other code than today's (commit {entry['commit'][:8]})"
        profile = self.params.get(entry["profile"], {}).get(entry["paper"], {}).get(entry["comparison"], {})
        for key, value in entry["budget"].items():
            if key in profile and profile[key] != value:
                return f"made with {key} = {value}, params.yaml has {profile[key]}"
        return ""


def _laptop(root: Path) -> Evidence:
    """The pipeline's runs below `root`."""
    found = [_read_run(path, root) for path in sorted((root / "runs").glob("*/*/*/metrics.json"))]
    # Runs carry no profile's name (it would invalidate what is computed already), so params.yaml is asked.
    params = read_yaml(root / "params.yaml") if found and (root / "params.yaml").is_file() else {}
    off = [run for run in found if _is_off_profile(run, params)]
    return Evidence(LAPTOP, tuple(run for run in found if run not in off), tuple(off))


def _read_run(path: Path, root: Path) -> Run:
    """One metrics.json, checked against the folder that it lies in; LeandnnError naming the file."""
    name, folder = path.relative_to(root).as_posix(), path.parent.relative_to(root).as_posix()

    def refuse(word: str) -> NoReturn:
        raise LeandnnError(f"{name} holds {word}, expected finite numbers only")

    try:
        document = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    except OSError as error:
        raise LeandnnError(f"cannot read {name}: {error.strerror}, expected the metrics of a run") from error
    except (ValueError, RecursionError) as error:
        raise LeandnnError(f"{name} is not JSON ({error}), expected the metrics of a run") from error
    if not isinstance(document, dict):
        raise LeandnnError(f"{name} holds a {type(document).__name__}, expected an object")
    if missing := [key for key in KEYS if key not in document]:
        raise LeandnnError(f"{name} has no {', '.join(missing)}, expected all of {', '.join(KEYS)}")

    paper, comparison, arm, seed, budget, metrics = (document[key] for key in KEYS)
    says = f"runs/{paper}/{comparison}/{arm}-s{seed}"
    if says != folder or isinstance(seed, bool) or not isinstance(seed, int):
        raise LeandnnError(f"{name} says that it belongs to {says}, expected {folder}")
    for key, value in (("budget", budget), ("metrics", metrics)):
        if not isinstance(value, dict):
            raise LeandnnError(f"{name} has a {type(value).__name__} as {key}, expected an object")
    return Run(f"{paper}/{comparison}/{arm}", seed, budget, _metrics(name, metrics), folder)


def _metrics(where: str, metrics: Mapping[str, object]) -> dict[str, float]:
    """The metrics as floats; LeandnnError for one that is no finite number."""
    for key, value in metrics.items():
        if not _is_finite_number(value):
            raise LeandnnError(f"{where} has {key} = {value!r:.60}, expected a finite number")
    return {key: float(value) for key, value in metrics.items() if isinstance(value, int | float)}


def _is_finite_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


def _canonical(budget: Mapping[str, object], aside: tuple[str, ...] = ()) -> str:
    return json.dumps({key: value for key, value in budget.items() if key not in aside}, sort_keys=True)


def _is_off_profile(run: Run, params: Any) -> bool:
    """Whether smoke is the active profile, or the run spent another budget than the active profile's.

    Runs made by hand, longer or shorter, answer another question than the claim's.
    """
    if not isinstance(params, dict) or SMOKE not in params:
        return False
    return params.get("active") == params[SMOKE] or not _spent(run, params.get("active"))


def _spent(run: Run, profile: Any) -> bool:
    """Whether the run's budget agrees with the profile's in every key that both have (seeds aside)."""
    paper, comparison, _ = run.arm.split("/")
    for key in (paper, comparison):
        profile = profile.get(key) if isinstance(profile, dict) else None
    if not isinstance(profile, dict):
        return True  # a study without a budget of its own
    return all(run.budget.get(key) == value for key, value in profile.items() if key != "seeds")
