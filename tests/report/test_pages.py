"""Every page and table: found in its folder, shown in reports/, and what is no bench file is named."""

from __future__ import annotations

import json
import pkgutil
import re
from pathlib import Path

import pytest
from tests.report.benches import CARD, row, shown, write
from tests.report.kernels.made import panel_rows

from leandnn import paths, report
from leandnn.errors import LeandnnError
from leandnn.report import pages, readme, summary

TABLES = pages.every_table()
SPEED = list(pages.speed())


def test_a_page_is_found_by_its_folder_in_the_order_of_notebooks():
    folders = {m.name for m in pkgutil.iter_modules(report.__path__) if m.ispkg} - {"site"}
    found = pages.pages()
    assert [page.notebook for page in found] == sorted(page.notebook for page in found)
    assert {page.notebook.partition("_")[2] for page in found} == folders
    for page in found:
        assert (paths.NOTEBOOKS / f"{page.notebook}.ipynb").is_file()


def test_the_figures_of_the_landing_page_were_drawn():
    drawn = {figure["name"] for own in summary.read_drawn(paths.ROOT) for figure in own.figures}
    assert {page.landing for page in pages.pages() if page.landing} <= drawn


def test_pages_hold_every_table_and_no_file_is_refused():
    published = "\n".join(path.read_text() for path in (paths.ROOT / "reports").glob("*.md"))
    for name, table in TABLES.items():
        text = table.markdown(paths.ROOT)
        assert "is refused" not in text, name
        assert text in published, f"{name}: run dvc repro"


@pytest.mark.parametrize("name", SPEED)
def test_a_missing_file_names_the_command_a_broken_one_itself(tmp_path: Path, name: str):
    table = TABLES[name]
    assert table.markdown(tmp_path) == f"Not measured yet (`{table.made_by}`)."
    bench = table.files[0].removeprefix("bench-").removesuffix(".json")
    broken = {"a": "{", "b": '{"machine": {}, "rows": [NaN]}', "c": "[]", "d": [], "e": [{"impl": "x"}]}
    broken["f"] = [row({"what": "x"}, "leandnn", 0.1) | {"rate": 0.0}]
    for box, content in broken.items():
        write(tmp_path, bench, content, box)
    text = table.markdown(tmp_path)
    assert text.startswith("Not measured yet")
    for box in broken:
        assert f"`reference/{box}/bench-{bench}.json` is refused" in text


def test_two_machines_have_a_table_each_and_a_third_is_named(tmp_path: Path):
    case = {"net": "VGG19", "batch": 32, "sparsity": 75.0, "pattern": "rbgp4"}
    rows = [row(case, impl, 1.0) for impl in ("leandnn", "torch.dense")]
    write(tmp_path, "sparse-step", rows, "a")
    write(tmp_path, "sparse-step", rows, "b", {**CARD, "cpu": "Another CPU"})
    write(tmp_path, "sparse-step", "{", "c")
    text = TABLES["sparse-step"].markdown(tmp_path)
    assert text.count("| one training step |") == 2 and "Another CPU" in text
    assert "`reference/c/bench-sparse-step.json` is refused" in text


def test_a_block_of_the_readme_that_no_table_fills_is_named(tmp_path: Path):
    (tmp_path / "README.md").write_text("<!-- generated: nonsense -->\n<!-- end: nonsense -->\n")
    with pytest.raises(LeandnnError, match="block 'nonsense', expected one of commands, prices, scoreboard"):
        readme.filled([], tmp_path)
    (tmp_path / "README.md").write_text("BF16 gains <!-- bf16-nonsense -->1<!-- / -->.\n")
    with pytest.raises(LeandnnError, match="number of 'bf16-nonsense', expected the name of a claim"):
        readme.filled([], tmp_path)


def test_a_table_says_machine_and_day_in_its_head(tmp_path: Path):
    case = {"net": "VGG19", "batch": 32, "sparsity": 75.0, "pattern": "rbgp4"}
    write(tmp_path, "sparse-step", [row(case, impl, 1.0) for impl in ("leandnn", "torch.dense")], "a")
    path = tmp_path / "reference" / "a" / "bench-sparse-step.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "date": "2026-11-21"}))
    head = TABLES["sparse-step"].markdown(tmp_path).splitlines()[0]
    assert head.startswith(f"**{CARD['cpu']}") and "2026-11-21" in head
    for name, table in TABLES.items():
        assert re.match(r"\*\*.*, 20\d\d-\d\d-\d\d", table.markdown(paths.ROOT)), name


def test_a_machine_without_a_measured_peak_has_no_share_of_it(tmp_path: Path):
    write(tmp_path, "panels", panel_rows(), card={**CARD, "fma_peak_gflops": None})
    assert "FMA peak" not in shown(tmp_path, "panels")


def test_captions_that_are_damaged_or_miss_a_file_are_refused(tmp_path: Path):
    (tmp_path / "reports").mkdir()
    with pytest.raises(LeandnnError, match=r"figures\.json: No such file or directory, run dvc repro"):
        summary.read_drawn(tmp_path)
    (tmp_path / "reports" / "figures.json").write_text('[{"notebook": "n"}]')
    with pytest.raises(LeandnnError, match=r"figures\.json is no list of figures"):
        summary.read_drawn(tmp_path)
    figures = '[{"notebook": "n", "title": "N", "figures": [{"name": "a-b", "caption": "c"}]}]'
    (tmp_path / "reports" / "figures.json").write_text(figures)
    with pytest.raises(LeandnnError, match=r"reports/figures/a-b\.svg is missing"):
        summary.read_drawn(tmp_path)
