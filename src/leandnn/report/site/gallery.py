"""The figures of the site, as MyST Markdown: the gallery, and one figure per paper for the landing page.

What there is to show stands in reports/README.md, the gallery that `leandnn summary` wrote from the executed
notebooks; captions are Markdown in both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from leandnn import paths
from leandnn.claims.verdicts import Result
from leandnn.errors import LeandnnError
from leandnn.report.site.claims_pages import plain

# Paper → the figure that shows what became of its main claim.
LANDING = {
    "bf16": "bf16-pairs",
    "autosparse": "autosparse-tradeoff",
    "rbgp": "rbgp-accuracy",
    "hbsnn": "hbsnn-pareto",
    "huffman": "huffman-caps",
}
_NOTEBOOK = re.compile(r"## \[(?P<name>[^\]]+)\]\(notebooks/(?P=name)\.ipynb\)")
_IMAGE = re.compile(r"!\[(?P<name>[^\]]+)\]\(figures/(?P=name)\.png\)")
_CAPTION = re.compile(r"\*\*(?P<name>[^*]+)\*\* \(\[SVG\]\([^)]*\)\)\. (?P<caption>.+)")


@dataclass(frozen=True)
class Figure:
    """A figure of the gallery: its name, the notebook that drew it, its caption."""

    name: str
    notebook: str
    caption: str


def gallery(root: Path) -> list[Figure]:
    """The figures of reports/README.md, in its order; LeandnnError where there is none or its file is missing."""
    path = root / "reports" / "README.md"
    mend = "run dvc repro"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise LeandnnError(f"cannot read {paths.relative(path)}: {error.strerror}, {mend}") from error
    notebook, names, found = "", set(), []
    for line in lines:
        if match := _NOTEBOOK.fullmatch(line):
            notebook = match["name"]
        elif match := _IMAGE.fullmatch(line):
            names.add(match["name"])
        elif match := _CAPTION.fullmatch(line):
            found.append(Figure(match["name"], notebook, match["caption"]))
    if not found or names != {figure.name for figure in found}:
        raise LeandnnError(
            f"{paths.relative(path)} has {len(names)} figures and {len(found)} captions, "
            f"expected as many of one as of the other, and at least one: {mend}"
        )
    for figure in found:
        for file in (f"figures/{figure.name}.svg", f"notebooks/{figure.notebook}.ipynb"):
            if not (path.parent / file).is_file():
                raise LeandnnError(f"reports/{file} is missing, expected what the gallery shows: {mend}")
    return found


def notebook_title(path: Path) -> str:
    """A notebook's first heading, as Markdown; its file's name where it has none; LeandnnError if unreadable."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LeandnnError(f"{paths.relative(path)} is no notebook ({error}): run dvc repro") from error
    headings = (
        line.removeprefix("# ") for text in texts for line in text.splitlines() if line.startswith("# ")
    )
    return next(headings, plain(path.stem))


def landing_figures(results: Sequence[Result], figures: Sequence[Figure]) -> str:
    """One figure per paper that has any: the one of LANDING, or its first where that one was not drawn."""
    lines = []
    for paper in dict.fromkeys(result.claim.paper for result in results):
        of_paper = [figure for figure in figures if figure.name.startswith(f"{paper}-")]
        chosen = [figure for figure in of_paper if figure.name == LANDING.get(paper)]
        for figure in (chosen or of_paper)[:1]:
            title = plain(next(r.claim.source.title for r in results if r.claim.paper == paper))
            link = f"{title}: [notebook](notebooks/{figure.notebook}.ipynb), [more figures](#figure-{figure.name})."
            lines += [*_figure(figure, f"**{link}** {figure.caption}"), ""]
    return "\n".join(lines)


def gallery_page(figures: Sequence[Figure], titles: Mapping[str, str]) -> str:
    """Every figure with its caption, under the `titles` of the notebooks that drew them."""
    lines = ["# Gallery", "", "Every figure, by the notebook that drew it. Click one for its full size."]
    for notebook, of_notebook in groupby(figures, key=lambda figure: figure.notebook):
        lines += [
            "",
            f"## {titles[notebook]}",
            "",
            f"Notebook [{plain(notebook)}](notebooks/{notebook}.ipynb)",
        ]
        for figure in of_notebook:
            caption = f"**{figure.name}**. {figure.caption}"
            lines += ["", *_figure(figure, caption, name=f"figure-{figure.name}")]
    return "\n".join(lines) + "\n"


def _figure(figure: Figure, caption: str, name: str = "") -> list[str]:
    return [
        f":::{{figure}} figures/{figure.name}.svg",
        *([f":name: {name}"] if name else []),
        f":alt: {figure.name}",
        ":width: 100%",  # makes Sphinx link it to its file
        "",
        caption,
        ":::",
    ]
