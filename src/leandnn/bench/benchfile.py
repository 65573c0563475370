"""What `leandnn bench` wrote: the machine's card and the measured rows, found by case and implementation."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict, TypeVar

T = TypeVar("T")


class Row(TypedDict):
    """One measured implementation of one case.

    - bench, case, impl, threads: what was measured; ours is called "leandnn", peers by their own names.
    - median_s, p25_s, p75_s, n: seconds of one call over n repeats.
    - work, unit, rate: work of one call in `unit`, and work per second at the median.
    """

    bench: str
    case: dict[str, Any]
    impl: str
    threads: int
    median_s: float
    p25_s: float
    p75_s: float
    n: int
    work: float
    unit: str
    rate: float


@dataclass(frozen=True)
class BenchFile:
    """A bench's rows, the card of the machine that measured them, and the rounds of its claims' arms, in seconds.

    - date: the day on which it ended, "2026-11-21".
    """

    machine: dict[str, Any]
    rows: Sequence[Row]
    rounds: dict[str, list[float]] = field(default_factory=dict)
    date: str = ""

    def of(self, **case: object) -> list[Row]:
        """The rows whose case has these values."""
        return [row for row in self.rows if case.items() <= row["case"].items()]

    def row(self, impl: str, threads: int = 1, **case: object) -> Row | None:
        """The first row of an implementation whose case has these values; None where it was not measured."""
        found = (row for row in self.of(**case) if row["impl"] == impl and row["threads"] == threads)
        return next(found, None)

    def rate(self, impl: str | Sequence[str], threads: int = 1, **case: object) -> float | None:
        """Work per second of that row; of several implementations the best."""
        names = (impl,) if isinstance(impl, str) else impl
        rows = [row for name in names if (row := self.row(name, threads, **case))]
        return max((float(row["rate"]) for row in rows), default=None)

    def times(self, peer: str | Sequence[str], threads: int = 1, **case: object) -> float | None:
        """How many times faster ours is than a peer, the best one of several."""
        return ratio(self.rate("leandnn", threads, **case), self.rate(peer, threads, **case))

    def cases(self, **case: object) -> list[dict[str, Any]]:
        """The measured cases that have these values, each once, in the file's order."""
        found: list[dict[str, Any]] = []
        for row in self.of(**case):
            if row["case"] not in found:
                found.append(row["case"])
        return found

    @property
    def where(self) -> str:
        """The machine in a few words, see machine_in_words, and the day."""
        return ", ".join(filter(None, (machine_in_words(self.machine), self.date)))


def ratio(part: float | None, whole: float | None) -> float | None:
    """part / whole; None where one was not measured."""
    return None if part is None or whole is None else part / whole


def machine_in_words(card: dict[str, Any]) -> str:
    """A machine's processor, cores, memory and GPU, with the torch version."""
    gpus = f", {card['gpus'][0]}" if card["gpus"] else ""
    avx512 = ", AVX-512" if "avx512f" in card["isa"] else ""
    # Older files do not say which.
    generation = f" ({card['cpu_generation']})" if card.get("cpu_generation") else ""
    return (
        f"{card['cpu']}{generation}, {card['cores']} cores{avx512}, {card['memory_gib']:.0f} GiB{gpus}, "
        f"torch {card['versions']['torch']}"
    )


def parse(content: Any) -> BenchFile:
    """A file's JSON; raises ValueError, KeyError or TypeError for what no bench writes."""
    for row in content["rows"]:
        if missing := sorted(
            {"case", "impl", "threads", "median_s", "p25_s", "p75_s", "n", "rate"} - set(row)
        ):
            raise KeyError(f"a row has no {', '.join(missing)}")
        if not (isinstance(row["case"], dict) and row["rate"] > 0 and row["median_s"] > 0):
            raise ValueError(f"the row of {row['impl']} has no case, or no positive time and rate")
    return BenchFile(content["machine"], content["rows"], content.get("rounds", {}), content.get("date", ""))


def read(path: Path) -> Any:
    """A file's JSON; raises OSError, or ValueError for what is none (NaN and infinity are none either)."""

    def refuse(constant: str) -> float:
        raise ValueError(f"it holds {constant}")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def by_machine(root: Path, files: Sequence[str], of: Callable[[Any], T]) -> tuple[list[T], list[str]]:
    """`of` the JSON of every machine's `files` in reference/, and a sentence for each that cannot be used."""
    found, refused = [], []
    for path in sorted(path for file in files for path in (root / "reference").glob(f"*/{file}")):
        try:
            found.append(of(read(path)))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
            refused.append(
                f"`{path.relative_to(root).as_posix()}` is refused ({type(error).__name__}: {error})."
            )
    return found, refused


def every(root: Path, bench: str) -> tuple[list[BenchFile], list[str]]:
    """Every machine's file of a bench, and a sentence for each that cannot be used."""
    return by_machine(root, [f"bench-{bench}.json"], parse)
