"""README.md and reports/ hold the numbers that the files give now."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from leandnn import paths
from leandnn.claims import verdicts
from leandnn.report import readme, render

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_generated_blocks_are_up_to_date():
    assert readme.filled(verdicts.compute(ROOT), ROOT) == README, "run: leandnn claims --write"


def test_published_results_hold_todays_claims_table():
    assert render.markdown(verdicts.compute(ROOT)) in (ROOT / "reports" / "RESULTS.md").read_text(), (
        "run: dvc repro"
    )


def test_measured_numbers_stand_in_generated_blocks_only():
    written = re.sub(r"<!-- generated: (.*?) -->.*?<!-- end: \1 -->", "", README, flags=re.DOTALL)
    assert not re.findall(r"\d+(?:\.\d+)? ?(?:minutes|min|GiB|GB|MiB|ms|images/s|% accuracy)\b", written)


def test_local_links_lead_somewhere():
    for text, folder in ((README, ROOT), ((ROOT / "reports" / "README.md").read_text(), ROOT / "reports")):
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
            assert (folder / link).exists(), link


@pytest.mark.parametrize("example", re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL))
def test_a_python_example_runs(example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    exec(example, {})


def test_every_published_figure_is_shown_in_the_gallery_and_the_folder_is_small():
    gallery = (ROOT / "reports" / "README.md").read_text()
    figures = sorted((ROOT / "reports" / "figures").glob("*.png"))
    assert figures
    for figure in figures:
        assert f"figures/{figure.name}" in gallery
        assert figure.with_suffix(".svg").exists()
    size = sum(p.stat().st_size for p in (ROOT / "reports").rglob("*") if p.is_file())
    assert size <= 8 << 20


def test_executed_notebooks_name_no_path_of_this_machine():
    for path in (ROOT / "reports").rglob("*.ipynb"):
        assert str(paths.ROOT) not in path.read_text(), path
