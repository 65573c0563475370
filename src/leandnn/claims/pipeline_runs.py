"""What the pipeline made: `runs/<paper>/<comparison>/<arm>-s<seed>/metrics.json`, the scale `laptop`.

Each is an object with paper, comparison, arm, seed, budget (what was spent, e.g. epochs) and metrics (name to
number). A run of the smoke profile (a sliver of the data, to see that everything works) is never evidence.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NoReturn

from leandnn import params
from leandnn.claims.evidence import LAPTOP, Evidence, Run, finite
from leandnn.errors import LeandnnError

SMOKE = "smoke"
KEYS = ("paper", "comparison", "arm", "seed", "budget", "metrics")


def read(root: Path) -> Evidence:
    """The pipeline's runs below `root`; LeandnnError for a metrics file that cannot be trusted, naming it."""
    found = [_run(path, root) for path in sorted((root / "runs").glob("*/*/*/metrics.json"))]
    # Runs carry no profile's name (it would invalidate what is computed already), so params.yaml is asked.
    if not found or not (root / "params.yaml").is_file():
        return Evidence(LAPTOP, tuple(found))
    profile = params.load(root=root)
    off = [run for run in found if _is_off_profile(run, profile)]
    return Evidence(LAPTOP, tuple(run for run in found if run not in off), tuple(off))


def _run(path: Path, root: Path) -> Run:
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
    return Run(f"{paper}/{comparison}/{arm}", seed, budget, finite(name, metrics), folder)


def _is_off_profile(run: Run, profile: params.Profile) -> bool:
    """Whether smoke is the pipeline's profile, or the run spent another budget than the profile's.

    Runs made by hand, longer or shorter, answer another question than the claim's.
    """
    if profile.name == SMOKE:
        return True
    said = profile.said(*run.arm.split("/")[:2]) or {}
    return any(run.made.get(key) != value for key, value in said.items() if key != "seeds")
