"""The scoreboard: a row a claim with what its strongest evidence found, in README.md, reports/ and the site alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from leandnn.claims.judge import Finding
from leandnn.claims.verdicts import Result
from leandnn.claims.words import VERDICTS, level
from leandnn.report import tables

SCALES = ("laptop", "desk", "paper")  # from the smallest
HEAD = ("claim", "found", "effect [90 % interval]", "n", "where", "metric", "control")
LEGEND = (
    "More is better; pp: percentage points; n: pairs. Exploratory: no committed plan asked for it. Not tested: the "
    "paper's claim needs what no run here has had. †: flawed, its page says how. Laptop: the pipeline's runs; desk: "
    "longer ones, on"
)


def strongest(result: Result) -> tuple[str, Finding]:
    """The scale that speaks for a claim, and its finding.

    One with a verdict before one without, then the larger scale, then the machine with more pairs; the pipeline's
    where nothing was measured.
    """

    def rank(item: tuple[str, Finding]) -> tuple[bool, bool, int, int]:
        scale, finding = item
        size = SCALES.index(scale.partition("@")[0])
        return finding.estimate is not None, finding.verdict in VERDICTS, size, finding.n

    return max(result.verdicts.items(), key=rank)


def letters(results: Sequence[Result]) -> dict[str, str]:
    """A letter for every machine on which something was found."""
    found = {
        scale.partition("@")[2]
        for result in results
        for scale, finding in result.verdicts.items()
        if finding.estimate is not None
    }
    return {machine: chr(ord("A") + i) for i, machine in enumerate(sorted(found - {""}))}


def where(scale: str, machines: Mapping[str, str]) -> str:
    """A scale with its machine's letter, such as "desk A"."""
    size, _, machine = scale.partition("@")
    return f"{size} {machines.get(machine, machine)}".strip()


def in_words(result: Result, machines: Mapping[str, str]) -> str:
    """What speaks for a claim, in a sentence: effect with interval, n and place; the word alone where nothing does."""
    scale, found = strongest(result)
    return f"{found.effect} (n = {found.n}, {where(scale, machines)})" if found.effect else found.verdict


def legend(machines: Mapping[str, str]) -> str:
    """What the columns mean, and which machine has which letter."""
    named = ", ".join(f"{letter} {machine}" for machine, letter in machines.items())
    return f"{LEGEND} {named or 'no machine yet'}."


def table(results: Sequence[Result], machines: Mapping[str, str], pages: str | None = None) -> str:
    """The rows of these claims as a Markdown table.

    - machines: their letters. pages: the folder of the papers' pages, to which a claim's name then leads; its sentence
      is the link's title. Without it the metric and the control's mean are left out, too.
    """
    rows = [_row(result, machines, pages) for result in results]
    width = len(HEAD) - 2 * (pages is None)
    return tables.markdown(HEAD[:width], [row[:width] for row in rows])


def _row(result: Result, machines: Mapping[str, str], pages: str | None) -> list[str]:
    claim, (scale, found) = result.claim, strongest(result)
    name = claim.id
    if pages is not None:
        said = claim.statement.replace('"', "'").replace("|", "\\|")
        name = f'[{claim.id}]({pages}{claim.paper}.md#{claim.id} "{said}")'
    if found.estimate is None:
        return [name, found.verdict, *[""] * (len(HEAD) - 2)]
    return [
        name,
        f"{found.verdict}{' †' * bool(claim.caveat)}",
        found.effect,
        str(found.n),
        where(scale, machines),
        found.metric.partition(" (")[0],
        "" if found.control is None else level(found.control, found.unit),
    ]
