"""`leandnn train`: all runs of a comparison, as worker processes side by side, into one folder of runs/.

What is there already is kept: a run of the folder (restored from store/, or gathered by other calls and machines)
whose facts are those of today's runs, whatever its seed; and what finished before a kill, in build/checkpoints/. When
all runs are done the folder is replaced in one move.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from leandnn import paths
from leandnn.errors import LeandnnError
from leandnn.files import must_be_replaceable, must_be_writable, swap, write_json, write_text
from leandnn.machine import card
from leandnn.studies import outcome, worker
from leandnn.studies.locks import locked
from leandnn.studies.pool import Job, run_jobs
from leandnn.studies.runs import Run


def costs_file() -> Path:
    """What runs took on this machine; `leandnn bench training` makes evidence of it."""
    return paths.BUILD / "costs.json"


def train(
    runs: Sequence[Run], *, workers: int | None = None, out: Path | None = None, fresh: bool = False
) -> Path:
    """Train those of a comparison's runs that are not done yet, and write its folder.

    - runs: of one study; they differ by arm and seed alone.
    - workers: processes at once; None for one per `threads` cores.
    - out: the folder to write, runs/<paper>/<comparison> by default.
    - fresh: forget earlier checkpoints and results of these runs first.

    Returns the folder. Raises LeandnnError if a run fails, or another process is training the study.
    """
    study = runs[0].study
    out = out or paths.RUNS.joinpath(*study.split("-", 1))
    _must_be_ours(out)
    must_be_replaceable(out)
    must_be_writable(runs[0].state.parent)
    with locked(f"train-{study}", f"the study {study} is being trained"):
        if fresh:
            for run in runs:
                run.state.unlink(missing_ok=True)
                run.done.unlink(missing_ok=True)
                shutil.rmtree(out / run.name, ignore_errors=True)
        kept = _kept(out, runs)
        open_runs = [run for run in runs if run.name not in kept]
        pending = [run for run in open_runs if run.result() is None]
        if len(pending) < len(runs):
            print(f"{study}: {len(runs) - len(pending)} of {len(runs)} runs are already done", flush=True)
        workers = workers or max(1, card.cores() // runs[0].threads)
        run_jobs([Job(run.title, worker.command(run)) for run in pending], workers, runs[0].threads)
        made = [(run, result) for run in open_runs if (result := run.result()) is not None]
        if made or len(kept) < len(list(out.glob("*/metrics.json"))):
            _write_folder(out, kept, made)
        _write_costs({run.title: result["cost"] for run, result in made})
        _forget_old(runs)
    return out


def _kept(out: Path, runs: Sequence[Run]) -> dict[str, Path]:
    """The runs of a folder that are as these, of any seed, by name."""
    facts = {run.arm: run.facts for run in runs}
    found = {}
    for path in sorted(out.glob("*/metrics.json")):
        try:
            document = json.loads(path.read_text())
            own = facts[document["arm"]]
            whole = (
                path.parent / "history.csv"
            ).is_file() and f"{document['arm']}-s{document['seed']}" == path.parent.name
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if whole and all(document.get(key) == value for key, value in own.items()):
            found[path.parent.name] = path.parent
    return found


def _must_be_ours(out: Path) -> None:
    """Refuse to replace anything but runs: a file, or a folder that holds something else."""
    if not out.exists():
        return
    foreign = [out] if not out.is_dir() else [p for p in out.iterdir() if not (p / "metrics.json").is_file()]
    if foreign:
        raise LeandnnError(
            f"{paths.relative(out)} holds {foreign[0].name}, expected nothing or a folder of runs, since it would "
            "be replaced"
        )


def _write_folder(out: Path, kept: Mapping[str, Path], made: Sequence[tuple[Run, Mapping[str, Any]]]) -> None:
    """Write every run's files under a temporary name, then put the folder in its place."""
    fresh, old = out.with_name(out.name + ".partial"), out.with_name(out.name + ".old.partial")
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        fresh.mkdir(parents=True)
        for name, folder in kept.items():
            shutil.copytree(folder, fresh / name)
        for run, result in made:
            write_json(fresh / run.name / "metrics.json", result["metrics"])
            write_text(fresh / run.name / "history.csv", outcome.history_csv(result["history"]))
        swap(fresh, out, old)
    except OSError as error:
        raise LeandnnError(f"cannot write {paths.relative(out)}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _write_costs(costs: Mapping[str, Mapping[str, Any]]) -> None:
    """Add what runs took to build/costs.json; a damaged one begins anew."""
    if not costs:
        return
    with locked("costs", "the file of costs is being written"):
        try:
            known = json.loads(costs_file().read_text())
        except (OSError, ValueError):
            known = {}
        write_json(costs_file(), {**(known if isinstance(known, dict) else {}), **costs})


def _forget_old(runs: Sequence[Run]) -> None:
    """Delete states of these runs under other keys (code or budget that is gone) after a month.

    Not sooner: a short run in between must not cost a long study its finished part.
    """
    keep = {path for run in runs for path in (run.state, run.done)}
    for run in runs:
        for path in run.state.parent.glob(f"{run.name}-*"):
            if path not in keep and time.time() - path.stat().st_mtime > 30 * 86400:
                path.unlink(missing_ok=True)
