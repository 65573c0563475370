"""What a study is: a comparison, a set of arms trained from the same seeds on the same budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from leandnn.params import Budget, Profile

if TYPE_CHECKING:
    from leandnn.train.task import Hook, Settings, Task


@dataclass(frozen=True)
class Scale:
    """Where a run's bits come from beside its arm and budget: the seed, torch's threads, the device."""

    seed: int
    threads: int = 1
    device: str = "cpu"


@dataclass(frozen=True)
class Trial:
    """One run, ready for loop.train."""

    task: Task
    settings: Settings
    hooks: Sequence[Hook] = ()


Make = Callable[..., Trial]
"""An arm: a function of the module's top level, or a functools.partial of one, that takes (budget, scale).

What it is made of (functions, classes, values of dataclasses) is what the arm does: studies/digests.py reads it.
"""


@dataclass(frozen=True)
class Comparison:
    """Arms that differ in one thing.

    - paper, name: e.g. "bf16", "vision"; the study is called "bf16-vision", its runs lie in runs/<paper>/<name>/.
    - arms: by name; the first is the control.
    - data: prepared data sets that they read; params.yaml says how many examples of the first.
    - inputs: other files that they read, relative to the repository's root.
    - budget: the type of what a run may spend.
    """

    paper: str
    name: str
    arms: Mapping[str, Make]
    data: tuple[str, ...] = ("cifar10",)
    inputs: tuple[str, ...] = ()
    budget: type[Budget] = Budget

    @property
    def study(self) -> str:
        """E.g. "bf16-vision": the study's name on the command line and its files' name."""
        return f"{self.paper}-{self.name}"

    def budgeted(
        self, profile: Profile, said: Mapping[str, Any] | None = None
    ) -> tuple[Budget, tuple[int, ...]] | None:
        """(budget, seeds) by a profile; see Profile.budget."""
        return profile.budget((self.paper, self.name), self.budget, next(iter(self.data), ""), said)

    def trial(self, arm: str, budget: Any, scale: Scale) -> Trial:
        """An arm of the comparison, ready to be trained."""
        return self.arms[arm](budget, scale)


def by_name(*comparisons: Comparison) -> dict[str, Comparison]:
    """The comparisons of a wing by their names."""
    return {comparison.name: comparison for comparison in comparisons}
