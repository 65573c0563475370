"""Each page, of small made-up benches, runs and claims, is the one in golden/, and so are its figures' numbers."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path

import pytest
from tests.claims.made import PAPER, RATIO, RULE, document, write_claims, write_pairs

from leandnn.claims import verdicts
from leandnn.report import drawn as reading
from leandnn.report import pages, papers

GOLDEN = Path(__file__).parent / "golden"
PAGES = {page.name: page for page in pages.pages()}
DIFFERENCE = {key: value for key, value in RULE.items() if key != "margin"} | {
    "kind": "difference",
    "at_least": 0.0,
}


def claims(root: Path) -> None:
    """A claim of every kind of rule: measured, flawed, and not measured."""
    write_pairs(root, [0.78, 0.79, 0.77], [0.781, 0.789, 0.771])
    made = [
        document(),
        document(
            id="bf16-ratio", rule=RATIO, caveat="It is *flawed*.", published="2x [P: abstract; a.org/b]"
        ),
        document(id="bf16-better", rule=DIFFERENCE, needs="a larger net"),
        document(id="bf16-loss", metric="test_loss"),
    ]
    write_claims(
        root, {"papers": {"bf16": PAPER}, "claims": [claim for one in made for claim in one["claims"]]}
    )


def page_of(name: str, root: Path) -> str:
    """The page as its readers get it, then the numbers of its figures to four digits."""
    made = importlib.import_module(f"tests.report.{name}.made")
    claims(root)
    made.benches(root)
    figures = [{"name": f"{name}-a", "caption": "What it shows.", "numbers": ""}]
    page = dataclasses.replace(PAGES[name], missed="Why." * bool(PAGES[name].missed))
    drawing = papers.Drawn(page.notebook, name, figures)
    text = papers.page(page, drawing, verdicts.compute(root), root)
    for title, figure in made.drawings().items():
        numbers = reading.numbers(figure).to_csv(index=False, float_format="%.4g", lineterminator="\n")
        text += f"\n## Drawn: {title}\n\n```\n{numbers}```\n"
    return text


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize("name", PAGES)
def test_a_page_and_its_figures_are_the_golden_ones(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
):
    found, file = page_of(name, tmp_path), GOLDEN / f"{name}.md"
    if request.config.getoption("--golden"):
        file.write_text(found, encoding="utf-8")
    expected = file.read_text(encoding="utf-8").splitlines()
    assert found.splitlines() == expected, "if this is meant: pytest tests/report/test_golden.py --golden"
