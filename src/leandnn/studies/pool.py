"""Worker processes side by side, with their progress on one screen."""

from __future__ import annotations

import ctypes
import json
import math
import os
import queue
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from leandnn.errors import LeandnnError

try:
    from tqdm import tqdm
except ImportError:  # a machine with only torch and numpy shows plain lines
    tqdm = None  # type: ignore[assignment,misc]

EVENT = "@progress "
_SAYS = "leandnn: "  # how the command begins the one sentence of an error
LONGEST = 300  # characters of an epoch's numbers on the screen
_PARENT = "LEANDNN_PARENT"  # the PID of who started a worker, in its environment


@dataclass
class Job:
    """One worker: a title for people and its command line."""

    title: str
    command: list[str]
    process: subprocess.Popen[str] | None = field(default=None, repr=False)
    tail: list[str] = field(default_factory=list, repr=False)


def report(done: int, total: int, text: str) -> None:
    """Called in a worker: pass progress to the parent."""
    print(EVENT + json.dumps([done, total, text]), flush=True)


def die_with_parent() -> None:
    """Called in a worker: be killed when the parent dies, even by SIGKILL (Linux), so no run trains unseen."""
    parent = int(os.environ.get(_PARENT, os.getppid()))
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it died before the call, perhaps while this process was still importing
        os.kill(os.getpid(), signal.SIGKILL)


def run_jobs(
    jobs: list[Job],
    workers: int,
    threads: int,
    *,
    may_start: Callable[[Job], bool] = lambda job: True,
    on_done: Callable[[Job], None] = lambda job: None,
    stop_at: float = math.inf,
    on_failed: Callable[[Job, str], None] | None = None,
) -> None:
    """Run all jobs, at most `workers` at once, each with `threads` threads; show their progress.

    - may_start: asked before a job is started; a job that may not is skipped.
    - on_done: called in this process when a job has ended well.
    - stop_at: time.monotonic() at which running jobs are stopped (their checkpoints stay).
    - on_failed: called with the worker's own sentence when one has ended with an error that it names. If given,
      the other jobs go on when one fails.

    On a terminal there is a bar per worker, elsewhere a line per epoch. Raises LeandnnError with the
    worker's own sentence when one fails: at once, the others being stopped, or at the end with on_failed.
    """
    waiting, running = list(jobs), list[Job]()
    lines: queue.Queue[tuple[Job, str | None]] = queue.Queue()
    screen = _Screen(workers)
    failures: list[LeandnnError] = []
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                job = waiting.pop(0)
                if may_start(job):
                    _start(job, threads, lines)
                    running.append(job)
            if not running:
                break
            try:
                job, line = lines.get(
                    timeout=None if stop_at == math.inf else max(0.0, stop_at - time.monotonic())
                )
            except queue.Empty:
                break
            if line is None:
                running.remove(job)
                screen.finished(job)
                try:
                    _check(job)
                except LeandnnError as error:
                    if on_failed is None:
                        raise
                    failures.append(error)
                    print(f"{error}; the other runs go on", file=sys.stderr, flush=True)
                    if (
                        (sentence := _sentence(job))
                        and job.process is not None
                        and job.process.returncode > 0
                    ):
                        on_failed(job, sentence)
                else:
                    on_done(job)
            elif line.startswith(EVENT):
                screen.show(job, *json.loads(line.removeprefix(EVENT)))
            else:
                job.tail = [*job.tail, line][-20:]
    finally:
        for job in running:
            if job.process is not None:
                job.process.kill()
                job.process.wait()
        screen.close()
    if failures:
        more = f" (and {len(failures) - 1} more, named above)" if len(failures) > 1 else ""
        raise LeandnnError(f"{failures[0]}{more}")


def _start(job: Job, threads: int, lines: queue.Queue[tuple[Job, str | None]]) -> None:
    own = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), _PARENT: str(os.getpid())}
    job.process = subprocess.Popen(
        job.command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **own}
    )

    def read() -> None:
        assert job.process is not None and job.process.stdout is not None
        with job.process.stdout as output:
            for line in output:
                lines.put((job, line.rstrip()))
        lines.put((job, None))

    threading.Thread(target=read, daemon=True).start()


def _sentence(job: Job) -> str:
    """The error that a worker named with its last line; empty where it said none."""
    said = [line for line in job.tail if line.strip()]
    return said[-1].removeprefix(_SAYS) if said and said[-1].startswith(_SAYS) else ""


def _check(job: Job) -> None:
    assert job.process is not None
    code = job.process.wait()
    if code == 0:
        return
    said = [line for line in job.tail if line.strip()]
    if code < 0:
        reason = f"it was killed by signal {-code} ({signal.Signals(-code).name})"
    else:
        reason = _sentence(job) or (said[-1] if said else f"exit status {code}")
        if len(said) > 1 and not _sentence(job):  # a defect of ours: show the traceback
            print("\n".join(said), file=sys.stderr)
    raise LeandnnError(f"{job.title} failed: {reason}")


class _Screen:
    """Bars on a terminal; elsewhere one line whenever a run's text changes (once an epoch)."""

    def __init__(self, workers: int) -> None:
        self.terminal = sys.stderr.isatty() and tqdm is not None
        self.free = list(range(workers))
        self.bars: dict[str, tqdm[Any]] = {}
        self.texts: dict[str, str] = {}

    def show(self, job: Job, done: int, total: int, text: str) -> None:
        text = textwrap.shorten(text, LONGEST, placeholder=" …")  # some studies have a hundred columns
        if self.terminal:
            bar = self.bars.get(job.title)
            if bar is None:
                slot = self.free.pop(0)
                bar = tqdm(total=total, desc=job.title, position=slot, unit="step", leave=False, initial=done)
                self.bars[job.title] = bar
            bar.set_postfix_str(text, refresh=False)
            bar.update(done - bar.n)
        if text and self.texts.get(job.title) != text:
            self.texts[job.title] = text
            if not self.terminal:
                print(f"{job.title} {text}", flush=True)

    def finished(self, job: Job) -> None:
        bar = self.bars.pop(job.title, None)
        if bar is not None:
            self.free.append(-bar.pos)
            bar.close()
            tqdm.write(f"{job.title} {self.texts.get(job.title, '')}", file=sys.stderr)

    def close(self) -> None:
        for bar in self.bars.values():
            bar.close()
