"""A paper's page: values parted from their sources, text that shows exactly what it says, every claim and figure."""

from __future__ import annotations

import pytest

from leandnn import paths
from leandnn.claims import judge, verdicts
from leandnn.report import pages, papers


@pytest.mark.parametrize(
    ("text", "value", "source"),
    [
        ("not published here", "not published here", ""),
        ("2x [P: abstract; a.org/b]", "2x", "[the paper's abstract](https://a.org/b)"),
        ("2x [C-figure: file 3]", "2x", "its authors' code, file 3, figure"),
    ],
)
def test_a_published_value_is_parted_from_its_source(text: str, value: str, source: str):
    assert papers.published(text) == (value, source)


def test_markdown_in_a_claim_is_shown_as_it_is_written():
    assert papers.plain("Is *a* < `b` |\n$c$ [d]") == r"Is \*a\* \< \`b\` \| \$c\$ \[d\]"


def test_pages_have_every_claim_with_its_rules_and_evidence():
    found = verdicts.compute(paths.ROOT)
    known = {page.name: page for page in pages.pages()}
    drawn = papers.Drawn("10_x", "X", [{"name": "x-a", "caption": "What it shows.", "numbers": ""}])
    texts = {name: papers.page(page, drawn, found, paths.ROOT) for name, page in known.items()}
    for result in found:
        section = texts[result.claim.paper].partition(f"\n### {result.claim.id}\n")[2].partition("\n### ")[0]
        assert section.count("- Rule: ") == len(result.claim.rules)
        for rule in result.claim.rules:
            assert f"`{rule.treatment}`" in section and f"at least {rule.n} pairs" in section
        for finding in result.verdicts.values():
            for run in finding.evidence:
                place = (
                    run.partition("#")[0] if "#" in run or run.endswith(".json") else run.rpartition("/")[0]
                )
                assert f"`{place}`" in section
    assert all("figures/x-a.png" in text and "What it shows." in text for text in texts.values())
    assert "### What is missed, and why" in texts["huffman"]


def test_evidence_is_counted_by_file_and_folder():
    runs = ("reference/m/bf16-vision.json#desk/fp32-s0", "reference/m/bf16-vision.json#desk/bf16-s0")
    own = judge.Finding(
        "exploratory", 1, 3, 0.1, None, None, "×", "", (*runs, "runs/a/b/x-s0"), standings={"old": 2}
    )
    assert papers.evidence(own) == "`reference/m/bf16-vision.json`, 2 runs; `runs/a/b`; 2 old"
