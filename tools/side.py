"""One side of a comparison of two states of the package: trains arms and says what came out, as JSON.

`leandnn prove` runs it once with each state's package, from a file of each state's own, so that neither has to know
the other's code. It says nothing of the package but what these lines do:

    python side.py REQUEST RESULT      REQUEST: {"study", "arm", "budget", "seed", "threads", "state", "lines"}

- budget: None for a miniature, made here. state: where a checkpoint goes, or None.
- lines: file below the package → line numbers; RESULT says which of them were executed.
- RESULT: {"outcome": {"weights_sha256", "metrics", "history", "failure"}, "executed": {file: lines},
  "functions": ["file:qualified name", …]}; executed and functions (those called in training) only where "lines" is
  no None.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys
import threading
from pathlib import Path
from typing import Any

# Enough for two epochs of several updates, and for a last batch that is not whole.
MINIATURE = {
    "cifar10": {"epochs": 2, "train_examples": 700, "test_examples": 130},
    "digits": {"epochs": 2, "train_examples": 140, "test_examples": 20},
    "text": {"epochs": 2, "train_examples": 70, "test_examples": 16},
    "clicks": {"epochs": 2, "train_examples": 5200, "test_examples": 520},
}


class Watch:
    """Which lines of some files are executed, and which functions of the package."""

    def __init__(self, package: Path, lines: dict[str, list[int]]) -> None:
        self.package = f"{package}/"
        self.wanted = {f"{package}/{name}": set(numbers) for name, numbers in lines.items()}
        self.executed: dict[str, set[int]] = {name: set() for name in self.wanted}
        self.functions: set[str] = set()

    def start(self) -> None:
        """From here on."""
        threading.settrace(self.call)
        sys.settrace(self.call)

    def call(self, frame: Any, event: str, argument: Any) -> Any:
        """A function is called; see sys.settrace."""
        name = frame.f_code.co_filename
        if not name.startswith(self.package):
            return None
        if frame.f_code.co_flags & inspect.CO_NEWLOCALS:  # no module or class while it is made
            self.functions.add(f"{name.removeprefix(self.package)}:{frame.f_code.co_qualname}")
        if name not in self.wanted:
            return None
        return self.line

    def line(self, frame: Any, event: str, argument: Any) -> Any:
        """A line of a watched file is executed."""
        name = frame.f_code.co_filename
        if frame.f_lineno in self.wanted[name]:
            self.executed[name].add(frame.f_lineno)
        return self.line

    def result(self) -> dict[str, Any]:
        """What was seen."""
        short = {name.removeprefix(self.package): sorted(found) for name, found in self.executed.items()}
        return {"executed": short, "functions": sorted(self.functions)}


def main(request_path: Path, result_path: Path) -> None:
    """Train one arm."""
    request = json.loads(request_path.read_text())
    watch = None
    if request["lines"] is not None:
        import importlib.util

        origin = importlib.util.find_spec("leandnn")
        assert origin is not None and origin.origin is not None
        watch = Watch(Path(origin.origin).parent, request["lines"])
        watch.start()
    from leandnn.studies import outcome, registry, runs

    comparison = registry.find(request["study"])
    if watch is not None:
        import leandnn.train.loop  # noqa: F401 - what is called while modules are imported is no part of the run

        watch.functions.clear()
    budget = request["budget"]
    if budget is None:
        names = {f.name for f in dataclasses.fields(comparison.budget)}
        further = {"temperature": 4.0, "weight": 0.9}  # of distillation
        budget = MINIATURE[comparison.data[0]] | {k: v for k, v in further.items() if k in names}
    run = runs.Run(request["study"], request["arm"], budget, request["seed"], request["threads"])
    state = None if request["state"] is None else Path(request["state"])
    found = outcome.train(run, comparison, state=state)
    sys.settrace(None)
    kept = {key: found["metrics"][key] for key in ("weights_sha256", "metrics", "failure")}
    result = {"outcome": {**kept, "history": found["history"]}}
    if watch is not None:
        result |= watch.result()
    partial = result_path.with_suffix(".partial")
    partial.write_text(json.dumps(result))
    partial.replace(result_path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
