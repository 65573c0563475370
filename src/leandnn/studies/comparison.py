"""What a study is: comparisons, each a set of arms trained from the same seeds.

A wing's study.py defines its comparisons; the runner (runner.py) trains them, in the pipeline or by hand.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leandnn import paths
from leandnn.data import prepared
from leandnn.errors import LeandnnError
from leandnn.machine import card
from leandnn.params import TrainBudget

if TYPE_CHECKING:
    from leandnn.train.task import Hook, Settings, Task

# Papers whose nets stay dense, under masks: their runs import the panel products, but reach no more of that folder
# than the format (tests/train/test_study.py trains them with the products out of order). Their own lists say the whole
# folder; those are in files that count themselves, so correcting them there would make every record stale.
MASKED = ("autosparse", "blocksparse", "hbsnn")
_PRODUCTS, _FORMAT = "kernels/panels", "kernels/panels/format.py"


@dataclass(frozen=True)
class Trial:
    """One run, ready for loop.train."""

    task: Task
    settings: Settings
    hooks: Sequence[Hook] = ()


@dataclass(frozen=True)
class Comparison:
    """Arms that differ in one thing, trained from the same seeds on the same budget.

    - paper, name: e.g. "bf16", "vision"; runs go to runs/<paper>/<name>/.
    - arms: the first is the control.
    - make: trial of (arm, seed, budget, threads, device).
    - data: prepared files it reads, by dataset name.
    - code: files and folders of the package that decide its results, relative to it; dvc.yaml lists the same.
    - inputs: other files it reads, relative to the repository's root; dvc.yaml lists them, too.
    """

    paper: str
    name: str
    arms: tuple[str, ...]
    make: Callable[[str, int, TrainBudget, int, str], Trial]
    data: tuple[str, ...]
    code: tuple[str, ...]
    inputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.paper in MASKED:
            reached = {_FORMAT if entry == _PRODUCTS else entry for entry in self.code}
            object.__setattr__(self, "code", tuple(sorted(reached)))

    def data_digests(self) -> dict[str, str]:
        """SHA-256 of each prepared data set, verified, and of each other file that the comparison reads."""
        digests = {name: prepared.digest(name) for name in self.data}
        for name in self.inputs:
            path = paths.ROOT / name
            if not path.is_file():
                raise LeandnnError(
                    f"{name} is missing, which {self.paper}/{self.name} reads: run `dvc repro`"
                )
            digests[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        return digests

    def runs(self, budget: TrainBudget) -> list[Run]:
        """Every run of the comparison, pair by pair, so that a cut-short study has whole pairs."""
        return [Run(self, arm, seed, budget) for seed in budget.seeds for arm in self.arms]


@dataclass(frozen=True)
class Run:
    """One arm from one seed."""

    comparison: Comparison
    arm: str
    seed: int
    budget: TrainBudget

    @property
    def name(self) -> str:
        """E.g. "bf16-s0": the run's folder."""
        return f"{self.arm}-s{self.seed}"

    @property
    def title(self) -> str:
        """E.g. "bf16/vision/bf16-s0": the run's name for people."""
        return f"{self.comparison.paper}/{self.comparison.name}/{self.name}"

    def spent(self) -> dict[str, Any]:
        """The budget as plain data, without the seeds of the other runs."""
        budget = asdict(self.budget)
        del budget["seeds"]
        return budget


def code_digest(code: Sequence[str], package: Path = paths.PACKAGE) -> str:
    """SHA-256 over names and bytes of the source files among `code` (files, or folders with all below)."""
    digest = hashlib.sha256()
    for entry in sorted(code):
        target = package / entry
        files = sorted(target.rglob("*")) if target.is_dir() else [target]
        for file in files:
            if file.suffix in {".py", ".cpp", ".inc", ".h"}:
                digest.update(
                    file.relative_to(package).as_posix().encode() + b"\0" + file.read_bytes() + b"\0"
                )
    return digest.hexdigest()


def run_key(run: Run, threads: int, device: str, data_digests: Mapping[str, str]) -> str:
    """Twelve hex digits that name what a run's bits depend on: settings, code, data, torch.

    A checkpoint or finished result is used again only under an equal key.
    """
    facts = {
        "run": run.title,
        "budget": run.spent(),
        "threads": threads,
        "device": device,
        "code": code_digest(run.comparison.code),
        "data": dict(data_digests),
        "torch": card.versions()["torch"],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
