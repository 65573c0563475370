"""The claims table as text for a terminal and as Markdown, and the marked blocks of Markdown files."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from itertools import groupby

from leandnn.claims import table
from leandnn.claims.verdicts import Result
from leandnn.errors import LeandnnError

WIDTH = 100
LEGEND = "More is better; pp: percentage points; [ ]: 90 % interval (for a confidence of 95 %); n: pairs."


def text(results: Sequence[Result]) -> str:
    """The table for a terminal of 100 columns, claims grouped by paper; ends with a newline.

    Per claim its statement, a line for each scale that measured it (else the laptop's) with verdict, effect, interval
    and number of pairs, below it what they were measured on, and what is wrong with the evidence.
    """
    rows = table.rows(results)
    if not rows:
        return "claims.yaml holds no claims.\n"
    widths = {column: max(len(row[column]) for row in rows) for column in ("scale", "verdict", "estimate")}
    lines: list[str] = []
    for paper, of_paper in groupby(rows, key=lambda row: row["paper"]):
        lines += ["", *_wrapped(paper, 0)]
        for _, of_claim in groupby(of_paper, key=lambda row: row["claim"]):
            found = list(of_claim)
            lines += _wrapped(f"{found[0]['claim']}: {found[0]['statement']}", 2)
            for row in _shown(found):
                cells = [row[column].ljust(width) for column, width in widths.items()]
                lines.append(
                    "    " + "  ".join([*cells, f"n = {row['n']}" if row["estimate"] else ""]).rstrip()
                )
                lines += _wrapped(row["about"], 6)
            lines += _wrapped(found[0]["caveat"] and f"But: {found[0]['caveat']}", 4)
    if any(row["estimate"] for row in rows):
        lines += ["", LEGEND]
    return "\n".join(lines[1:]) + "\n"


def _shown(rows: Sequence[Mapping[str, str]]) -> Sequence[Mapping[str, str]]:
    """The rows of a claim that have numbers; the first, which says why not, where none has."""
    return [row for row in rows if row["estimate"]] or rows[:1]


def _wrapped(line: str, indent: int) -> list[str]:
    return textwrap.wrap(
        line, WIDTH, initial_indent=" " * indent, subsequent_indent=" " * indent, break_on_hyphens=False
    )


def markdown(results: Sequence[Result]) -> str:
    """The table as GitHub Markdown: claim, published value, and what was found, a line for each scale that did."""
    lines = [_row(["claim", "published", "found here"]), _row(["---"] * 3)]
    for _, of_claim in groupby(table.rows(results), key=lambda row: row["claim"]):
        rows = list(of_claim)
        first, found = rows[0], [_cell(row) for row in _shown(rows)]
        found += [f"*But:* {first['caveat']}"] if first["caveat"] else []
        lines.append(
            _row([f"`{first['claim']}`<br>{first['statement']}", first["published"], "<br>".join(found)])
        )
    return "\n".join(lines) + "\n"


def _cell(row: Mapping[str, str]) -> str:
    """What one scale found: verdict, effect, n, scale, and what they were measured on."""
    effect = f" {row['estimate']}, n = {row['n']}, `{row['scale']}`" if row["estimate"] else ""
    return f"**{row['verdict']}**{effect}" + (f" ({row['about']})" if row["about"] else "")


def _row(cells: Sequence[str]) -> str:
    """One line of a Markdown table; a line break or a bar inside a cell would end it."""
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def fill_blocks(markdown_text: str, blocks: Mapping[str, str]) -> str:
    """`markdown_text` with each named block's content replaced, all else untouched, twice the same as once.

    A block lies between the lines `<!-- generated: NAME -->` and `<!-- end: NAME -->`. Blocks that are
    not in `blocks` stay. LeandnnError naming a marker that is missing, there twice, in the wrong order, or
    inside another block that is filled.
    """
    spans = []
    for name, content in blocks.items():
        opening, closing = f"<!-- generated: {name} -->", f"<!-- end: {name} -->"
        for marker in (opening, closing):
            if (count := markdown_text.count(marker)) != 1:
                raise LeandnnError(f"the marker {marker} is there {count} times, expected once")
            if marker in content:
                raise LeandnnError(f"the content of block {name} holds {marker}, expected no marker in it")
        start, end = markdown_text.index(opening) + len(opening), markdown_text.index(closing)
        if end < start:
            raise LeandnnError(f"the marker {closing} stands before {opening}, expected after it")
        if inner := re.search(r"<!-- (generated|end): .*? -->", markdown_text[start:end]):
            raise LeandnnError(
                f"the marker {inner[0]} lies inside block {name}, expected blocks side by side"
            )
        spans.append((start, end, content.strip("\n")))
    for start, end, content in sorted(spans, reverse=True):  # from the back, so that positions stay right
        markdown_text = f"{markdown_text[:start]}\n{content}\n{markdown_text[end:]}"
    return markdown_text
