"""A figure a paper for the landing page of the site, as MyST Markdown, from what `leandnn summary` published."""

from __future__ import annotations

from collections.abc import Sequence

from leandnn.claims.verdicts import Result
from leandnn.report import pages
from leandnn.report.papers import Drawn, plain


def figures(results: Sequence[Result], drawn: Sequence[Drawn]) -> str:
    """The figure of every page that has one for the landing page and drew it."""
    titles = {result.claim.paper: plain(result.claim.source.title) for result in results}
    lines = []
    for page in pages.pages():
        for figure in (figure for own in drawn for figure in own.figures if figure["name"] == page.landing):
            title = titles.get(page.landing.partition("-")[0], page.notebook)
            link = f"{title}: [notebook](notebooks/{page.notebook}.ipynb), [all of it]({page.name}.md)."
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
