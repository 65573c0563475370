"""The page of results: values parted from their sources, and text that shows exactly what it says."""

from __future__ import annotations

import pytest

from leandnn import paths
from leandnn.claims import verdicts
from leandnn.report import results


@pytest.mark.parametrize(
    ("text", "value", "source"),
    [
        ("not published here", "not published here", ""),
        ("2x [P: abstract; a.org/b]", "2x", "[the paper's abstract](https://a.org/b)"),
        ("2x [C-figure: file 3]", "2x", "its authors' code, file 3, figure"),
    ],
)
def test_a_published_value_is_parted_from_its_source(text: str, value: str, source: str):
    assert results.published(text) == (value, source)


def test_markdown_in_a_claim_is_shown_as_it_is_written():
    assert results.plain("Is *a* < `b` |\n$c$ [d]") == r"Is \*a\* \< \`b\` \| \$c\$ \[d\]"


def test_results_has_every_claim_with_its_rules():
    found = verdicts.compute(paths.ROOT)
    text = results.page(found)
    for result in found:
        section = text.partition(f"\n### {result.claim.id}\n")[2].partition("\n### ")[0]
        assert section.count("- Rule: ") == len(result.claim.rules)
        for rule in result.claim.rules:
            assert f"`{rule.treatment}`" in section and f"at least {rule.n} pairs" in section
