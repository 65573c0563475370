"""The claims table as text for a terminal and as Markdown, and the marked blocks of Markdown files."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from itertools import groupby

from leandnn.claims.evidence import LAPTOP
from leandnn.claims.verdicts import BETTER, NOT_COUNTED, NOT_MEASURED, REPRODUCED, STALE, Result, table
from leandnn.errors import LeandnnError

WIDTH = 100
LEGEND = "More is better; pp: percentage points; [ ]: 90 % interval (for a confidence of 95 %); n: pairs."


def text(results: Sequence[Result]) -> str:
    """The table for a terminal of 100 columns, claims grouped by paper; ends with a newline.

    Per claim its statement, cut to the width, below a line for each scale: verdict, estimate with the
    interval that it rests on (see claims.py), number of pairs, and why where the claim is not shown.
    """
    rows = table(results)
    if not rows:
        return "claims.yaml holds no claims.\n"
    # A claim's first line is the laptop's; scales of other machines follow in the same two columns, where
    # something was measured.
    names = {
        id(row): f"{row['claim']:<27}{row['scale']}" if row["scale"] == LAPTOP else f"  {row['scale']}"
        for row in rows
    }
    widths = {column: max(len(row[column]) for row in rows) for column in ("verdict", "estimate")}
    widths["name"] = max(len(name) for name in names.values())
    lines: list[str] = []
    for paper, of_paper in groupby(rows, key=lambda row: row["paper"]):
        lines += ["", _cut(paper, 0)]
        for _, of_claim in groupby(of_paper, key=lambda row: row["claim"]):
            first, *further = of_claim
            for row in (first, *(row for row in further if row["verdict"] != NOT_MEASURED)):
                name, verdict = names[id(row)].ljust(widths["name"]), row["verdict"].ljust(widths["verdict"])
                estimate = row["estimate"].ljust(widths["estimate"])
                lines.append(f"  {name}  {verdict}  {estimate}  n = {row['n']}")
                lines += textwrap.wrap(
                    _why(row),
                    WIDTH,
                    initial_indent=" " * 6,
                    subsequent_indent=" " * 6,
                    break_on_hyphens=False,
                )
            lines.append(_cut(first["statement"], 4))
    if any(row["estimate"] for row in rows):
        lines += ["", LEGEND]
    return "\n".join(lines[1:]) + "\n"


def _cut(line: str, indent: int) -> str:
    return " " * indent + textwrap.shorten(line, WIDTH - indent, placeholder=" …")


def markdown(results: Sequence[Result]) -> str:
    """The table as GitHub Markdown: claim, statement, published value, and a column per scale."""
    scales = list(dict.fromkeys(scale for result in results for scale in result.verdicts))
    by_claim: dict[str, dict[str, dict[str, str]]] = {}
    for row in table(results):
        by_claim.setdefault(row["claim"], {})[row["scale"]] = row
    lines = [_row(["claim", "what it says", "published", *scales]), _row(["---"] * (3 + len(scales)))]
    for claim, found in by_claim.items():
        row = next(iter(found.values()))
        cells = [_cell(found[scale]) if scale in found else "" for scale in scales]
        lines.append(_row([f"`{claim}`", row["statement"], row["published"], *cells]))
    return "\n".join(lines) + "\n"


def _cell(row: Mapping[str, str]) -> str:
    text = f"**{row['verdict']}** {row['estimate']}, n = {row['n']}" if row["estimate"] else row["verdict"]
    return f"{text} ({why})" if (why := _why(row)) else text


def _why(row: Mapping[str, str]) -> str:
    """The detail where a reader must ask for it: evidence that does not show the claim, or does not count."""
    measured = row["verdict"] != NOT_MEASURED or NOT_COUNTED in row["detail"]
    shown = row["verdict"] in (REPRODUCED, BETTER) and f"({STALE}: " not in row["detail"]
    return row["detail"] if measured and not shown else ""


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
