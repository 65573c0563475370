"""The landing page of the site, as MyST Markdown: the claims with their verdicts, and a figure a paper.

Verdicts come from claims.compute(), figures from what `leandnn summary` published.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby

from leandnn.claims import table
from leandnn.claims.verdicts import Result
from leandnn.claims.words import WORDS
from leandnn.report import pages, render
from leandnn.report.results import plain, published
from leandnn.report.summary import Drawn


def claims_table(results: Sequence[Result]) -> str:
    """The landing page's table: claims by paper, each with its verdicts at the scales that measured it."""
    rows = table.rows(results)
    scales = list(dict.fromkeys(row["scale"] for row in rows))
    body = []
    for paper, of_paper in groupby(rows, key=lambda row: row["paper"]):
        body.append(f'<tr class="paper"><th colspan="3" scope="colgroup">{html.escape(paper)}</th></tr>')
        for claim, of_claim in groupby(of_paper, key=lambda row: row["claim"]):
            entries = list(of_claim)
            first = entries[0]
            blocks = [
                f'<div class="measurement">{_measurement(row)}<br>{html.escape(row["about"])}</div>'
                for row in entries
                if row["estimate"]
            ]
            if first["caveat"]:
                blocks.append(f'<div class="caveat">But: {html.escape(first["caveat"])}</div>')
            value, _ = published(first["published"])
            link = f'<a href="RESULTS.html#{html.escape(claim)}"><code>{html.escape(claim)}</code></a>'
            body.append(
                f'<tr data-claim="{html.escape(claim)}"><td class="what">{link}<br>'
                f"{html.escape(first['statement'])}</td>"
                f'<td class="published"><span class="label">paper: </span>{html.escape(value)}</td>'
                f'<td class="found">{"".join(blocks) or _chip(first["verdict"])}</td></tr>'
            )
    head = "".join(f'<th scope="col">{text}</th>' for text in ("claim", "published", "measured here"))
    lines = [
        *(f"- {_counts(results, scale)}" for scale in scales),
        "",
        render.LEGEND,
        "",
        "```{raw} html",
        '<div class="table-wrapper docutils container"><table class="docutils claims">',
        f"<thead><tr>{head}</tr></thead>",
        "<tbody>",
        *body,
        "</tbody></table></div>",
        "```",
    ]
    return "\n".join(lines) + "\n"


def _counts(results: Sequence[Result], scale: str) -> str:
    """E.g. "`laptop`: 1 undecided, 23 not measured"."""
    found = Counter(result.verdicts[scale].verdict for result in results if scale in result.verdicts)
    return f"`{scale}`: " + ", ".join(f"{found[word]} {word}" for word in WORDS if found[word])


def _measurement(row: Mapping[str, str]) -> str:
    """Verdict, scale, estimate with its interval, and n, as HTML on one line."""
    estimate, _, interval = row["estimate"].partition(" [")
    parts = [estimate, f"[{interval}" if interval else "", f"n = {row['n']}" if estimate else ""]
    numbers = " ".join(f"<span>{html.escape(part)}</span>" for part in parts if part)
    scale = f'<span class="scale">{html.escape(row["scale"])}</span>'
    return f'{_chip(row["verdict"])} {scale} <span class="numbers">{numbers}</span>'


def _chip(verdict: str) -> str:
    return f'<span class="verdict {verdict.replace(" ", "-")}">{verdict}</span>'


def figures(results: Sequence[Result], drawn: Sequence[Drawn]) -> str:
    """The figure of every page that has one for the landing page and drew it."""
    titles = {result.claim.paper: plain(result.claim.source.title) for result in results}
    lines = []
    for page in pages.pages():
        for figure in (figure for own in drawn for figure in own.figures if figure["name"] == page.landing):
            title = titles.get(page.landing.partition("-")[0], page.notebook)
            link = f"{title}: [notebook](notebooks/{page.notebook}.ipynb), [more figures](README.md)."
            lines += [
                f":::{{figure}} figures/{page.landing}.svg",
                f":alt: {page.landing}",
                ":width: 100%",  # makes Sphinx link it to its file
                "",
                f"**{link}** {figure['caption']}",
                ":::",
                "",
            ]
    return "\n".join(lines)
