"""README.md and reports/ hold the numbers that the files give now; every example runs, every link leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from leandnn import paths
from leandnn.claims import verdicts
from leandnn.claims.verdicts import Result
from leandnn.report import readme, scoreboard, summary

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
WINGS = sorted((ROOT / "src" / "leandnn").glob("*/README.md"))
PAGES = [ROOT / "README.md", ROOT / "data" / "README.md", *WINGS, *sorted((ROOT / "reports").glob("*.md"))]
EXAMPLES = {
    path.parent.name: re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL) for path in WINGS
}


@pytest.fixture(scope="module")
def found() -> list[Result]:
    return verdicts.compute(ROOT)


def findings() -> list[str]:
    """The lines of what was found."""
    section = README.partition("## What was found\n")[2].partition("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("- ")]


def test_readme_is_short():
    assert len(README.encode()) <= 10_000 and len(findings()) == 10


def test_generated_blocks_are_up_to_date(found: list[Result]):
    assert readme.filled(found, ROOT) == README, "run: leandnn write"


def test_published_results_hold_todays_claims_table(found: list[Result]):
    table = scoreboard.table(found, scoreboard.letters(found), "")
    assert table in (ROOT / "reports" / "README.md").read_text(), "run: leandnn write"


def test_findings_say_what_is_wrong_and_numbers_of_claims_alone(found: list[Result]):
    claims = {result.claim.id: result.claim for result in found}
    for line in findings():
        linked = [claims[name] for name in re.findall(r"\.md#([\w-]+)\)", line)]
        assert [claim.id for claim in linked] == [match[2] for match in readme.FOUND.finditer(line)], line
        assert " but " in line or not any(claim.caveat for claim in linked), line
        known = " ".join(f"{c.statement} {c.published} {c.net} {c.needs} {c.caveat}" for c in linked)
        said = re.sub(r"\]\(.*?\)", "", readme.FOUND.sub("", line))
        said = re.sub(r"BF16|FP(32|16)|RBGP4|ResNet50", "", said)
        assert set(re.findall(r"\d+(?:\.\d+)?", said)) <= set(re.findall(r"\d+(?:\.\d+)?", known)), line


def test_measured_numbers_stand_in_generated_blocks_only():
    written = re.sub(r"<!-- generated: (.*?) -->.*?<!-- end: \1 -->", "", README, flags=re.DOTALL)
    written = readme.FOUND.sub("", written)
    assert not re.findall(r"\d+(?:\.\d+)? ?(?:minutes|min|GiB|GB|MiB|ms|images/s|pp|% accuracy)\b", written)


def test_local_links_lead_somewhere():
    for page in PAGES:
        for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.relative_to(ROOT)} leads to {link}"


def test_anchors_of_the_readme_are_headings():
    for path, anchor in re.findall(r"\]\((?!https?:)([^)#\s]+)#([^)\s]+)", README):
        headings = re.findall(r"^#+ (.*)$", (ROOT / path).read_text(), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", text).lower().replace(" ", "-") for text in headings}, anchor


def test_every_wing_has_an_example_of_at_most_15_lines():
    assert set(EXAMPLES) == {"autosparse", "bf16", "blocksparse", "hbsnn", "huffman", "rbgp"}
    for wing, found in EXAMPLES.items():
        assert len(found) == 1 and found[0].count("\n") <= 15, wing


@pytest.mark.parametrize("wing", EXAMPLES)
def test_a_python_example_runs(wing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for example in EXAMPLES[wing]:
        exec(example, {})


def test_commands_of_the_readme_are_understood():
    from leandnn.cli.main import _parser

    commands = re.findall(r"`leandnn ([^`]+)`", README)
    assert len(commands) >= 4
    for command in commands:
        _parser().parse_args(command.split())


def test_every_published_figure_is_on_a_page_with_its_numbers():
    pages = {path: path.read_text() for path in (ROOT / "reports").glob("*.md")}
    figures = sorted((ROOT / "reports" / "figures").glob("*.png"))
    assert figures
    for figure in figures:
        (own,) = [text for text in pages.values() if f"figures/{figure.name}" in text]
        assert figure.with_suffix(".svg").exists()
        assert (f"figures/{figure.stem}.csv" in own) == figure.with_suffix(".csv").exists()
    size = sum(p.stat().st_size for p in (ROOT / "reports").rglob("*") if p.is_file())
    assert size <= summary.LIMIT_MIB << 20


def test_executed_notebooks_name_no_path_of_this_machine():
    for path in (ROOT / "reports").rglob("*.ipynb"):
        assert str(paths.ROOT) not in path.read_text(), path
