"""What the pipeline made: `runs/<paper>/<comparison>/<arm>-s<seed>/metrics.json`, the scale `laptop`.

Each is an object with paper, comparison, arm, seed, budget (what was spent, e.g. epochs) and metrics (name to
number). A run of the smoke profile (a sliver of the data, to see that everything works) is never evidence.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from leandnn.claims.evidence import LAPTOP, Evidence, Run, finite
from leandnn.errors import LeandnnError
from leandnn.params import read_yaml

SMOKE = "smoke"
KEYS = ("paper", "comparison", "arm", "seed", "budget", "metrics")


def read(root: Path) -> Evidence:
    """The pipeline's runs below `root`; LeandnnError for a metrics file that cannot be trusted, naming it."""
    found = [_run(path, root) for path in sorted((root / "runs").glob("*/*/*/metrics.json"))]
    # Runs carry no profile's name (it would invalidate what is computed already), so params.yaml is asked.
    params = read_yaml(root / "params.yaml") if found and (root / "params.yaml").is_file() else {}
    off = [run for run in found if _is_off_profile(run, params)]
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


def _is_off_profile(run: Run, params: Any) -> bool:
    """Whether smoke is the active profile, or the run spent another budget than the active profile's.

    Runs made by hand, longer or shorter, answer another question than the claim's.
    """
    if not isinstance(params, dict) or SMOKE not in params:
        return False
    profile = params.get("active")
    if profile == params[SMOKE]:
        return True
    for key in run.arm.split("/")[:2]:
        profile = profile.get(key) if isinstance(profile, dict) else None
    if not isinstance(profile, dict):
        return False  # a study without a budget of its own
    return any(run.made.get(key) != value for key, value in profile.items() if key != "seeds")
