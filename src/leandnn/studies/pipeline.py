"""Trains a comparison: its runs as one-thread worker processes side by side, each resumable.

A worker is `leandnn train PAPER COMPARISON --run NAME …`. While it trains, its state lies in
build/checkpoints/<paper>/<comparison>/<run>-<key>.ckpt; when it has finished, its result lies beside it as
.done.json. When all runs are done, the comparison's folder in runs/ is written in one move.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leandnn import paths
from leandnn.errors import LeandnnError
from leandnn.files import must_be_replaceable, must_be_writable, swap, write_json, write_text
from leandnn.machine import card
from leandnn.studies import outcome
from leandnn.studies.comparison import Comparison, Run, run_key
from leandnn.studies.locks import locked
from leandnn.studies.pool import Job, run_jobs

if TYPE_CHECKING:
    from leandnn.train.loop import Progress


def checkpoints(comparison: Comparison) -> Path:
    """The folder where the runs of a comparison keep their state."""
    return paths.CHECKPOINTS / comparison.paper / comparison.name


@dataclasses.dataclass(frozen=True)
class Place:
    """Where one run keeps its state: checkpoint while it trains, result when it is done."""

    run: Run
    key: str

    @property
    def folder(self) -> Path:
        """Shared by the comparison's runs."""
        return checkpoints(self.run.comparison)

    @property
    def state(self) -> Path:
        """The checkpoint."""
        return self.folder / f"{self.run.name}-{self.key}.ckpt"

    @property
    def done(self) -> Path:
        """The result."""
        return self.folder / f"{self.run.name}-{self.key}.done.json"

    def result(self) -> dict[str, Any] | None:
        """The finished result, None if there is none; a damaged one is moved aside and reported.

        A finished run needs no checkpoint: one that is left goes.
        """
        if not self.done.exists():
            return None
        try:
            result: dict[str, Any] = json.loads(self.done.read_text())
            kinds = {"metrics": dict, "history": list, "cost": dict}
            # A run that failed in its first epoch has no history.
            empty = {"history"} if result["metrics"].get("failure") else set()
            if bad := [k for k, kind in kinds.items() if not isinstance(result[k], kind)] or [
                k for k in kinds if not result[k] and k not in empty
            ]:
                raise ValueError(f"{bad[0]} is {result[bad[0]]!r}")
        except (ValueError, KeyError, TypeError) as error:
            aside = self.done.with_name(self.done.name + ".corrupt")
            self.done.replace(aside)
            raise LeandnnError(
                f"the stored result {paths.relative(self.done)} is corrupt ({error}); it was moved to {aside.name}, "
                "run the command again to train it afresh"
            ) from error
        self.state.unlink(missing_ok=True)  # there only if its worker was killed in between
        return result


def train_one(run: Run, key: str, threads: int, device: str, progress: Progress | None = None) -> None:
    """Train one run to the end and store its result. Called in the worker process."""
    from leandnn.train import loop

    place = Place(run, key)
    with locked(f"train-{run.title}-{key}", f"the run {run.title} is being trained"):
        if place.done.exists():
            return
        trial = run.comparison.make(run.arm, run.seed, run.budget, threads, device)
        result = loop.train(
            trial.task, trial.settings, trial.hooks, checkpoint_path=place.state, progress=progress
        )
        metrics = outcome.metrics(run, trial, result)
        cost = {
            "seconds": round(result.seconds, 1),
            "seconds_per_step": round(result.seconds / result.steps, 4),
            "peak_mib": math.ceil(card.peak_memory_mib()),
            "budget": run.spent(),
            "threads": threads,
        }
        write_json(place.done, {"metrics": metrics, "history": result.history, "cost": cost})
        place.state.unlink(missing_ok=True)


def train_comparison(
    comparison: Comparison,
    budget: Any,
    *,
    threads: int,
    device: str = "cpu",
    workers: int | None = None,
    out: Path | None = None,
    fresh: bool = False,
    keep_costs: bool = False,
    data_digests: Mapping[str, str],
    worker_command: Callable[[Run, str], list[str]],
) -> Path:
    """Train all runs of a comparison that are not done yet, and write its folder.

    - workers: processes at once; None for one per `threads` cores.
    - out: the folder to write, runs/<paper>/<comparison> by default.
    - fresh: forget earlier checkpoints and results of these runs first.
    - keep_costs: merge what the runs took into reference/<machine>/cost.json.
    - data_digests: SHA-256 of each prepared file, part of every run's key.
    - worker_command: makes the command line of a worker from (run, key).

    Returns the folder. Raises LeandnnError if a run fails, or another process is training the comparison.
    """
    out = out or paths.RUNS / comparison.paper / comparison.name
    title = f"{comparison.paper}/{comparison.name}"
    _must_be_ours(out)
    must_be_replaceable(out)
    must_be_writable(checkpoints(comparison), *([_cost_file().parent] if keep_costs else []))
    _known_costs()
    runs = comparison.runs(budget)
    places = [Place(run, run_key(run, threads, device, data_digests)) for run in runs]
    with locked(f"train-{title}", f"the comparison {title} is being trained"):
        if fresh:
            for place in places:
                place.state.unlink(missing_ok=True)
                place.done.unlink(missing_ok=True)
        pending = [place for place in places if place.result() is None]
        if len(pending) < len(places):
            print(f"{title}: {len(places) - len(pending)} of {len(places)} runs are already done", flush=True)
        workers = workers or max(1, card.cores() // threads)
        run_jobs([Job(p.run.title, worker_command(p.run, p.key)) for p in pending], workers, threads)
        results = [(place, place.result()) for place in places]
        _write_folder(out, results)
        if keep_costs:
            _write_costs({p.run.title: r["cost"] for p, r in results if r is not None})
        _forget_old(places)
    return out


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


def _write_folder(out: Path, results: list[tuple[Place, dict[str, Any] | None]]) -> None:
    """Write every run's files under a temporary name, then put the folder in its place."""
    fresh, old = out.with_name(out.name + ".partial"), out.with_name(out.name + ".old.partial")
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        for place, result in results:
            assert result is not None
            folder = fresh / place.run.name
            write_json(folder / "metrics.json", result["metrics"])
            write_text(folder / "history.csv", outcome.history_csv(result["history"]))
        swap(fresh, out, old)
    except OSError as error:
        raise LeandnnError(f"cannot write {paths.relative(out)}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _cost_file() -> Path:
    return paths.REFERENCE / card.name() / "cost.json"


def _known_costs() -> dict[str, Any]:
    """Costs of earlier runs on this machine; LeandnnError for a file that holds something else."""
    path = _cost_file()
    if not path.exists():
        return {}
    try:
        runs = json.loads(path.read_text())["runs"]
        if not isinstance(runs, dict):
            raise TypeError(f"runs is a {type(runs).__name__}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LeandnnError(
            f"{paths.relative(path)} is no cost file ({error}), expected JSON with `runs`; restore or delete it"
        ) from error
    return runs


def _write_costs(costs: Mapping[str, Mapping[str, Any]]) -> None:
    """Merge what the runs took into reference/<machine>/cost.json (evidence, never a dependency of training)."""
    with locked("cost", "the cost file is being written"):
        # Runs that are there already may be of another processor of this machine's name.
        own = {title: {**cost, "cpu_generation": card.cpu_generation()} for title, cost in costs.items()}
        write_json(_cost_file(), {"machine": card.read(), "runs": {**_known_costs(), **own}})


def _forget_old(places: list[Place]) -> None:
    """Delete states of these runs under other keys (code or budget that is gone) after a month.

    Not sooner: a short run in between must not cost a long study its finished part.
    """
    keep = {path.name for place in places for path in (place.state, place.done)}
    for place in places:
        for path in place.folder.glob(f"{place.run.name}-*"):
            if path.name not in keep and time.time() - path.stat().st_mtime > 30 * 86400:
                path.unlink(missing_ok=True)
