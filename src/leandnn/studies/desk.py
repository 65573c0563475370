"""`leandnn reference`: studies at desk or paper scale, outside the pipeline, within a number of minutes.

Runs that are missing from reference/<machine>/<study>.json, or were made by other code, data or budget, are
trained in order of value (whole pairs first, every study's first pair before any second one); each result is
written as soon as it is there, and so is the error of a run that ends with one (which is tried again the next
time: a full disk is no result). A run is started only if runs of its kind have been seen to fit into the time that
is left; what is unfinished when time is up keeps its checkpoint.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leandnn import paths
from leandnn.errors import LeandnnError
from leandnn.files import must_be_writable
from leandnn.kernels import dispatch
from leandnn.machine import card as machine
from leandnn.machine import probe
from leandnn.params import Profile
from leandnn.studies import records
from leandnn.studies.comparison import Comparison, Run, code_digest, run_key
from leandnn.studies.locks import locked
from leandnn.studies.pipeline import Place, checkpoints
from leandnn.studies.pool import Job, run_jobs


@dataclass(frozen=True)
class _Pending:
    """A run to train: its place on disk, the study's file, and its name in there."""

    place: Place
    path: Path
    key: str

    @property
    def run(self) -> Run:
        return self.place.run


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


def study_name(comparison: Comparison) -> str:
    """E.g. "bf16-vision": the study's name on the command line and its file's name."""
    return f"{comparison.paper}-{comparison.name}"


def run_studies(
    comparisons: Sequence[Comparison],
    profile_name: str,
    profile: Profile,
    *,
    device: str,
    minutes: float,
    workers: int | None,
    made_by: str,
    worker_command: Callable[[Run, str], list[str]],
) -> int:
    """Train what is missing or stale, and return how many runs are still missing when time is up.

    - profile_name, profile: the scale ("desk", "paper") and its budgets.
    - minutes: wall time for starting and finishing runs.
    - workers: processes at once; None for one per `threads` cores on a CPU, one per device else.
    - made_by: the commit, written into every record.

    Raises LeandnnError if a run fails (when the others are done), a file is damaged, a folder cannot be written, or
    another process runs one of the studies.
    """
    deadline = time.monotonic() + 60 * minutes
    folder = paths.REFERENCE / machine.name(device)
    must_be_writable(folder, *(checkpoints(comparison) for comparison in comparisons))
    if device == "cpu" and dispatch.active() == "reference":
        print(
            "the compiled kernels are not installed here: the slower reference kernels serve instead",
            flush=True,
        )
    card = probe.card(device)
    threads = profile.threads
    digests: dict[str, dict[str, str]] = {}
    with ExitStack() as stack:
        pending: list[tuple[int, _Pending]] = []
        seconds: dict[str, float] = {}  # longest run seen, by study
        for comparison in comparisons:
            name = study_name(comparison)
            stack.enter_context(locked(f"reference-{name}", f"the study {name} is being run"))
            path = folder / f"{name}.json"
            known = records.read(path)[0]["runs"] if path.exists() else []
            budget = profile.budget(comparison.paper, comparison.name)
            if budget is None:
                continue
            digests[name] = comparison.data_digests()
            for at, run in enumerate(comparison.runs(budget)):
                key = f"{profile_name}/{run.name}"
                facts = _facts(run, threads, device, digests[name])
                same = [
                    record for record in known
                    if records.name(record) == key and all(record.get(k) == v for k, v in facts.items())
                ]  # fmt: skip
                if same:
                    seconds[name] = max(seconds.get(name, 0.0), same[-1]["seconds"])
                    continue
                place = Place(run, run_key(run, threads, device, digests[name]))
                pending.append((at // len(comparison.arms), _Pending(place, path, key)))
        pending.sort(key=lambda entry: entry[0])  # stable: whole pairs, every study in turn
        jobs = {}
        for _, item in pending:
            job = Job(item.run.title, worker_command(item.run, item.place.key))
            jobs[id(job)] = item, job

        def may_start(job: Job) -> bool:
            needed = seconds.get(study_name(jobs[id(job)][0].run.comparison), 0.0)
            return time.monotonic() + needed <= deadline

        def made_of(item: _Pending) -> dict[str, Any]:
            comparison = item.run.comparison
            return {
                **_facts(item.run, threads, device, digests[study_name(comparison)]),
                "profile": profile_name,
                "versions": machine.versions(),
                "commit": made_by,
            }

        def on_failed(job: Job, why: str) -> None:
            item = jobs[id(job)][0]
            comparison = item.run.comparison
            names = {"paper": comparison.paper, "comparison": comparison.name}
            content = {**names, "arm": item.run.arm, "seed": item.run.seed, **made_of(item), "why": why}
            records.append(item.path, study_name(comparison), card, content, part="failed")

        done = 0

        def on_done(job: Job) -> None:
            nonlocal done
            item = jobs[id(job)][0]
            result = item.place.result()
            if result is None:
                raise LeandnnError(
                    f"{item.run.title} ended without a result, expected {item.place.done.name}"
                )
            name = study_name(item.run.comparison)
            content = {
                **result["metrics"],
                **made_of(item),
                "history": result["history"],
                "seconds": result["cost"]["seconds"],
                "peak_mib": result["cost"]["peak_mib"],
            }
            records.append(item.path, name, card, content)
            seconds[name] = max(seconds.get(name, 0.0), result["cost"]["seconds"])
            done += 1
            print(f"{item.key} of {name}: written to {paths.relative(item.path)}", flush=True)

        if workers is None:
            workers = max(1, machine.cores() // threads) if device == "cpu" else 1
        run_jobs(
            [job for _, job in jobs.values()],
            workers,
            threads,
            may_start=may_start,
            on_done=on_done,
            stop_at=deadline,
            on_failed=on_failed,
        )
        return len(pending) - done


def _facts(run: Run, threads: int, device: str, data: dict[str, str]) -> dict[str, Any]:
    """What a run's result depends on beside the machine and its libraries: unequal facts make it stale."""
    return {
        "budget": run.spent(),
        "threads": threads,
        "device": device,
        "behaviour": code_digest(run.comparison.code),
        "data": data,
    }
