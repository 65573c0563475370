"""`leandnn studies run`: studies outside the pipeline, on this machine, within a number of minutes.

Runs that are missing from reference/<machine>/<study>.json, or were made by code that does something else, by other
data or another budget, are trained in order of value (whole pairs first, every study's first pair before any second
one); each result is added as soon as it is there, and so is the error of a run that ends with one (which is tried
again the next time: a full disk is no result). A run is started only if runs of its kind have been seen to fit into
the time that is left; what is unfinished when time is up keeps its checkpoint.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leandnn import paths
from leandnn.errors import LeandnnError
from leandnn.files import must_be_writable
from leandnn.kernels import dispatch
from leandnn.machine import card, probe
from leandnn.params import Profile
from leandnn.studies import digests, proofs, records, runs, worker
from leandnn.studies.comparison import Comparison
from leandnn.studies.locks import locked
from leandnn.studies.pool import Job, run_jobs


@dataclass(frozen=True)
class _Pending:
    """A run to train: where its study's records are, and which pair of the study it belongs to."""

    run: runs.Run
    comparison: Comparison
    path: Path
    pair: int


def commit() -> str:
    """The commit of the checkout, "+changes" if the tree differs from it; "unknown" without git."""
    try:
        head = _git("rev-parse", "HEAD")
        return head + (
            "+changes" if _git("status", "--porcelain", "--untracked-files=no", "--", "src") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    answer = subprocess.run(
        ["git", "-C", str(paths.ROOT), *arguments], capture_output=True, text=True, check=True
    )
    return answer.stdout.strip()


def run_studies(
    comparisons: Sequence[Comparison],
    profile: Profile,
    *,
    device: str,
    minutes: float,
    workers: int | None,
    made_by: str,
    said: Mapping[str, Any] | None = None,
) -> int:
    """Train what is missing, and return how many runs are still missing when time is up.

    - profile: the scale ("desk", "paper") and its budgets; said: what is to differ from them.
    - minutes: wall time for starting and finishing runs.
    - workers: processes at once; None for one per `threads` cores on a CPU, one per device else.
    - made_by: the commit, written into every record.

    Raises LeandnnError if a run fails (when the others are done), a file is damaged, a folder cannot be written, or
    another process runs one of the studies.
    """
    deadline = time.monotonic() + 60 * minutes
    folder = paths.REFERENCE / card.name(device)
    must_be_writable(folder, paths.CHECKPOINTS)
    if device == "cpu" and dispatch.active() == "reference":
        print(
            "the compiled kernels are not installed here: the slower reference kernels serve instead",
            flush=True,
        )
    machine = probe.card(device)
    with ExitStack() as stack:
        pending: list[_Pending] = []
        seconds: dict[str, float] = {}  # longest run seen, by study
        for comparison in comparisons:
            stack.enter_context(
                locked(f"study-{comparison.study}", f"the study {comparison.study} is being run")
            )
            path = folder / f"{comparison.study}.json"
            known = records.read(path)[0]["runs"] if path.exists() else []
            found = profile.budget(comparison, said)
            if found is None:
                continue
            budget, seeds = found
            wanted = runs.of(
                comparison,
                budget,
                seeds,
                threads=profile.threads,
                device=device,
                behaviours=digests.of(comparison),
                inputs=runs.inputs(comparison),
            )
            for at, run in enumerate(wanted):
                made = [record for record in known if _is_of(record, run, profile.name)]
                if made:
                    longest = max(record["seconds"] for record in made)
                    seconds[run.study] = max(seconds.get(run.study, 0.0), longest)
                else:
                    pending.append(_Pending(run, comparison, path, at // len(comparison.arms)))
        pending.sort(key=lambda item: item.pair)  # stable: whole pairs, every study in turn
        items = {item.run.title: item for item in pending}

        def may_start(job: Job) -> bool:
            needed = seconds.get(items[job.title].run.study, 0.0)
            return time.monotonic() + needed <= deadline

        def add(item: _Pending, content: Mapping[str, Any], part: str = "runs") -> None:
            made = {
                "profile": profile.name,
                "paper": item.comparison.paper,
                "comparison": item.comparison.name,
                "arm": item.run.arm,
                "seed": item.run.seed,
                **item.run.facts,
                **content,
                "versions": card.versions(),
                "commit": made_by,
            }
            records.append(item.path, item.run.study, machine, made, part)

        def on_failed(job: Job, why: str) -> None:
            add(items[job.title], {"why": why}, "failed")

        done = 0

        def on_done(job: Job) -> None:
            nonlocal done
            item = items[job.title]
            result = item.run.result()
            if result is None:
                raise LeandnnError(f"{job.title} ended without a result, expected {item.run.done.name}")
            cost = {key: result["cost"][key] for key in ("seconds", "peak_mib")}
            add(item, {**result["metrics"], "history": result["history"], **cost})
            seconds[item.run.study] = max(seconds.get(item.run.study, 0.0), cost["seconds"])
            done += 1
            print(f"{job.title}: written to {paths.relative(item.path)}", flush=True)

        if workers is None:
            workers = max(1, card.cores() // profile.threads) if device == "cpu" else 1
        run_jobs(
            [Job(item.run.title, worker.command(item.run)) for item in pending],
            workers,
            profile.threads,
            may_start=may_start,
            on_done=on_done,
            stop_at=deadline,
            on_failed=on_failed,
        )
        return len(pending) - done


def _is_of(record: Mapping[str, Any], run: runs.Run, profile: str) -> bool:
    """Whether a record is this run's: equal in all that decides it, its behaviour up to what was proved equal.

    Records of before digests count where the study says that they do, never as this run.
    """
    own = {"profile": profile, "arm": run.arm, "seed": run.seed, **run.facts}
    own.pop("torch")  # another version is said beside the record
    behaviour = own.pop("behaviour")
    if "behaviour" not in record or any(record.get(key) != value for key, value in own.items()):
        return False
    return proofs.canonical(record["behaviour"]) == proofs.canonical(behaviour)
