"""Trains one run in a process of its own: `python -m leandnn.studies.worker RUN`, RUN as one line of JSON.

Its threads are set by the environment before torch loads. Progress goes to standard output, the result to the run's
place in build/checkpoints/.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

from leandnn.errors import LeandnnError
from leandnn.files import write_json
from leandnn.studies import outcome, pool, registry, runs
from leandnn.studies.locks import locked


def command(run: runs.Run) -> list[str]:
    """The command line that trains a run."""
    return [sys.executable, "-m", "leandnn.studies.worker", run.to_json()]


def work(run: runs.Run, progress: outcome.Progress | None = None) -> None:
    """Train a run to the end and store its result."""
    with locked(f"train-{run.title}-{run.key}", f"the run {run.title} is being trained"):
        if run.done.exists():
            return
        found = outcome.train(run, registry.find(run.study), state=run.state, progress=progress)
        write_json(run.done, found)
        run.state.unlink(missing_ok=True)


def _throttled(report: Callable[[int, int, str], None]) -> outcome.Progress:
    """At most five reports a second, but every new text."""
    last_time, last_text = 0.0, ""

    def send(done: int, total: int, text: str) -> None:
        nonlocal last_time, last_text
        if text != last_text or time.monotonic() - last_time > 0.2:
            report(done, total, text)
            last_time, last_text = time.monotonic(), text

    return send


def main(arguments: Sequence[str]) -> int:
    """The worker's whole life; its last line is the sentence of an error."""
    pool.die_with_parent()
    try:
        work(runs.from_json(arguments[0]), _throttled(pool.report))
    except (LeandnnError, OSError) as error:
        text = error if isinstance(error, LeandnnError) else f"{error.strerror or error} ({error.filename})"
        print(f"leandnn: {text}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
