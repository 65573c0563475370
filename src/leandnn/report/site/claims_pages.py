"""The claims of the site, as MyST Markdown: the landing page's table, and the page with a section per claim.

Everything comes from verdicts.compute(); no number is written by hand. What claims.yaml says is escaped, so
that a star or a bracket in a claim stays what it is.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby

from leandnn.claims import table
from leandnn.claims.claimfile import Difference, Equivalence, Ratio, Rule
from leandnn.claims.verdicts import Result
from leandnn.claims.words import WORDS, quantity
from leandnn.report import render

_SOURCE = re.compile(r"\s*\[([PC])(-figure)?: ([^\];]+)(?:; ([^\]\s]+))?\]")
_SOURCE_KINDS = {"P": "the paper's", "C": "its authors' code,"}
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|$~^=:!&-])")


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
            measured = [row for row in entries if row["estimate"]]
            blocks = [
                f'<div class="measurement">{_measurement(row)}<br>{html.escape(row["about"])}</div>'
                for row in measured
            ]
            blocks += (
                [f'<div class="caveat">But: {html.escape(first["caveat"])}</div>'] if first["caveat"] else []
            )
            value, _ = published(first["published"])
            link = f'<a href="claims.html#{_anchor(claim)}"><code>{html.escape(claim)}</code></a>'
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


def claims_page(results: Sequence[Result]) -> str:
    """One section per claim: what the paper says, the rule, why it is that rule, and what was found."""
    lines = [
        "# Claims",
        "",
        "Each claim with the rule by which runs of a plan would judge it. No plan exists yet, so what was measured is",
        "exploratory; [How a verdict is reached](method.md) says what the words mean.",
    ]
    for _, of_paper in groupby(results, key=lambda result: result.claim.paper):
        group = list(of_paper)
        paper = group[0].claim.source
        lines += [
            "",
            f"## {plain(paper.title)}",
            "",
            f"[arXiv {paper.arxiv}](https://arxiv.org/abs/{paper.arxiv})",
        ]
        for result in group:
            lines += ["", *_claim_section(result)]
    return "\n".join(lines) + "\n"


def _claim_section(result: Result) -> list[str]:
    claim = result.claim
    value, source = published(claim.published)
    lines = [
        f"({_anchor(claim.id)})=",
        f"### {claim.id}",
        "",
        plain(claim.statement),
        "",
        "**Published**",
        f": {plain(value)}{f' ({source})' if source else ''}",
        "",
        "**Rule**" if len(claim.rules) == 1 else "**Rules**, all of them",
        *(f": {_rule_in_words(rule)}" for rule in claim.rules),
        "",
        *(["**But**", f": {plain(claim.caveat)}", ""] if claim.caveat else []),
        "**Why this rule and n**",
        f": {plain(claim.reason)}",
        "",
        *_verdicts(result),
    ]
    for scale, finding in result.verdicts.items():
        if finding.evidence:
            count = f"{len(finding.evidence)} run{'s' * (len(finding.evidence) > 1)}"
            lines += [
                "",
                f'<details class="evidence"><summary>Evidence at {html.escape(scale)}: {count}</summary>',
                "",
                *(f"- `{folder}`" for folder in finding.evidence),
                "",
                "</details>",
            ]
    return lines


def _verdicts(result: Result) -> list[str]:
    """One entry per scale; scales that measured nothing for the same reason share one."""
    rows = table.rows([result])
    lines = ["**Found**"]
    lines += [f": {_measurement(row)}<br>{plain(row['about'])}" for row in rows if row["estimate"]]
    unmeasured = [row for row in rows if not row["estimate"]]
    for verdict, about in dict.fromkeys((row["verdict"], row["about"]) for row in unmeasured):
        scales = ", ".join(row["scale"] for row in unmeasured if row["about"] == about)
        scale = f'<span class="scale">{html.escape(scales)}</span>'
        lines.append(f": {_chip(verdict)} {scale}<br>{plain(about)}")
    return lines


def published(text: str) -> tuple[str, str]:
    """A claim's published value, and where it was read, as Markdown ("" where it says nothing)."""
    match = _SOURCE.search(text)
    if not match:
        return text, ""
    value = (text[: match.start()] + text[match.end() :]).strip()
    kind, figure, place, address = match.groups()
    where = f"{_SOURCE_KINDS[kind]} {plain(place)}{', figure' * bool(figure)}"
    return value, f"[{where}](https://{address})" if address else where


def _rule_in_words(rule: Rule) -> str:
    metric, treatment, control = (f"`{name}`" for name in (rule.metric, rule.treatment, rule.control))
    least = f"at least {rule.n} pairs, {100 * rule.confidence:g} % confidence in each direction"
    if isinstance(rule, Equivalence):
        margin = quantity(rule.margin, rule.unit, signed=False)
        text = (
            f"{metric} of {treatment} equals that of {control} to within ±{margin} ({rule.better} is better)"
        )
    elif isinstance(rule, Difference):
        bound = quantity(rule.at_least, rule.unit, signed=False)
        text = f"{metric} of {treatment} is {rule.better} than that of {control} by more than {bound}"
        text += _up_to(rule.up_to, rule.unit)
    elif isinstance(rule, Ratio):
        over, under = (treatment, control) if rule.better == "higher" else (control, treatment)
        bound = quantity(rule.at_least, "×", signed=False)
        text = f"{metric} of {over} is at least {bound} that of {under}{_up_to(rule.up_to, '×')}"
    else:
        raise TypeError(f"no words are defined for a rule of type {type(rule).__name__}")
    return f"{text}; {least}."


def _up_to(top: float | None, unit: str) -> str:
    return "" if top is None else f" (better than claimed beyond {quantity(top, unit, signed=False)})"


def _anchor(claim: str) -> str:
    return "claim-" + re.sub(r"[^a-z0-9]+", "-", claim)


def plain(text: str) -> str:
    """`text` as Markdown that shows exactly this, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
