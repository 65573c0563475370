"""What the project asks of its own speed: a target is data, a bench file says whether it is reached.

Each folder's own are `TARGETS` in its targets.py, bench → targets: the bench prints them, the report's tables show
them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from leandnn.bench.benchfile import BenchFile

HEAD = ("asked", "reached by", "measured", "")


@dataclass(frozen=True)
class Target:
    """A bound that every value has to keep which `values` finds in a bench file.

    - asked: what is measured, in words, "{}" where the bound stands. bound: in `unit`, the least, or the most.
    """

    asked: str
    bound: float
    values: Callable[[BenchFile], Iterable[float | None]]
    unit: str = "×"
    at_most: bool = False

    def measured(self, bench: BenchFile) -> list[float]:
        """The values that were measured."""
        return [value for value in self.values(bench) if value is not None]

    def kept(self, value: float) -> bool:
        """Whether a value keeps the bound."""
        return value <= self.bound if self.at_most else value >= self.bound

    def cells(self, bench: BenchFile) -> list[str]:
        """What was asked, how many values reach it, their range, and the verdict: cells under HEAD."""
        asked = self.asked.format(f"{'≤' if self.at_most else '≥'} {self.bound:g}")
        found = self.measured(bench)
        if not found:
            return [asked, "–", "–", "not measured"]
        reached = sum(map(self.kept, found))
        ends = dict.fromkeys(f"{end:.2f}" if end < 100 else f"{end:.0f}" for end in (min(found), max(found)))
        verdict = "reached" if reached == len(found) else "**missed**"
        return [asked, f"{reached} of {len(found)}", f"{' to '.join(ends)} {self.unit}", verdict]


def text(targets: Sequence[Target], bench: BenchFile) -> str:
    """The targets as lines for a terminal."""
    lines = [target.cells(bench) for target in targets]
    return "\n".join(
        f"target: {asked}: {verdict.strip('*')}" + (f" ({n}; {spread})" if n != "–" else "")
        for asked, n, spread, verdict in lines
    )


def of(module: str, bench: str) -> Sequence[Target]:
    """What was asked of a bench whose module has this name; nothing where its folder has no targets."""
    name = f"{module.rpartition('.')[0]}.targets"
    if name == __name__:
        return ()
    found: Sequence[Target] = importlib.import_module(name).TARGETS.get(bench, ())
    return found
