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
    with ExitStack() as stack:
        for comparison in comparisons:
            stack.enter_context(
                locked(f"study-{comparison.study}", f"the study {comparison.study} is being run")
            )
        desk = _Desk(profile, device, deadline, made_by)
        for comparison in comparisons:
            desk.look(comparison, folder / f"{comparison.study}.json", said)
        if workers is None:
            workers = max(1, card.cores() // profile.threads) if device == "cpu" else 1
        run_jobs(
            desk.jobs(),
            workers,
            profile.threads,
            may_start=desk.may_start,
            on_done=desk.done,
            stop_at=deadline,
            on_failed=desk.failed,
        )
        return len(desk.pending)


class _Desk:
    """What is to be trained by a deadline, and the records that are made of it."""

    def __init__(self, profile: Profile, device: str, deadline: float, made_by: str) -> None:
        self.profile, self.device, self.deadline, self.made_by = profile, device, deadline, made_by
        self.machine = probe.card(device)
        self.reader = digests.Reader()
        self.pending: dict[str, _Pending] = {}  # by title
        self.seconds: dict[str, float] = {}  # of the longest run seen, by study

    def look(self, comparison: Comparison, path: Path, said: Mapping[str, Any] | None) -> None:
        """Note which runs of a study have no record yet."""
        known = records.read(path)[0]["runs"] if path.exists() else []
        found = comparison.budgeted(self.profile, said)
        if found is None:
            return
        wanted = runs.of(
            comparison,
            *found,
            threads=self.profile.threads,
            device=self.device,
            behaviours=digests.of(comparison, self.reader),
            inputs=runs.inputs(comparison),
        )
        for at, run in enumerate(wanted):
            made = [record for record in known if _is_of(record, run, self.profile.name)]
            for record in made:
                self._took(run.study, record["seconds"])
            if not made:
                self.pending[run.title] = _Pending(run, comparison, path, at // len(comparison.arms))

    def jobs(self) -> list[Job]:
        """Whole pairs, every study in turn."""
        ordered = sorted(self.pending.values(), key=lambda item: item.pair)  # stable
        return [Job(item.run.title, worker.command(item.run)) for item in ordered]

    def may_start(self, job: Job) -> bool:
        """Whether a run of its kind has been seen to fit into the time that is left."""
        needed = self.seconds.get(self.pending[job.title].run.study, 0.0)
        return time.monotonic() + needed <= self.deadline

    def done(self, job: Job) -> None:
        """Add the record of a run that has ended well."""
        item = self.pending[job.title]
        result = item.run.result()
        if result is None:
            raise LeandnnError(f"{job.title} ended without a result, expected {item.run.done.name}")
        cost = {key: result["cost"][key] for key in ("seconds", "peak_mib")}
        self._add(item, {**result["metrics"], "history": result["history"], **cost})
        self._took(item.run.study, cost["seconds"])
        del self.pending[job.title]
        print(f"{job.title}: written to {paths.relative(item.path)}", flush=True)

    def failed(self, job: Job, why: str) -> None:
        """Add the record of a run that has ended with an error."""
        self._add(self.pending[job.title], {"why": why}, "failed")

    def _took(self, study: str, seconds: float) -> None:
        self.seconds[study] = max(self.seconds.get(study, 0.0), seconds)

    def _add(self, item: _Pending, content: Mapping[str, Any], part: str = "runs") -> None:
        made = {
            "profile": self.profile.name,
            "paper": item.comparison.paper,
            "comparison": item.comparison.name,
            "arm": item.run.arm,
            "seed": item.run.seed,
            **item.run.facts,
            **content,
            "versions": card.versions(),
            "commit": self.made_by,
        }
        records.append(item.path, item.run.study, self.machine, made, part)


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
