"""Notebooks: clean in git, small, byte-stable when executed, and a failing cell is named."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest

from leandnn import paths
from leandnn.errors import LeandnnError
from leandnn.report import notebooks

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

DEMO = """
import matplotlib
matplotlib.use("agg")
import matplotlib.pyplot as plt
import tqdm
from leandnn.report import style
for _ in tqdm.tqdm(range(3), disable=None):
    pass
print("one"); print("two")
style.use_style()
fig, ax = plt.subplots()
ax.plot([1, 2, 3])
style.save(fig, "demo", "A line.", out_dir)
fig
"""


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_in_git_is_stripped_small_and_has_named_cells(path: Path):
    text = path.read_text()
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    assert notebooks.to_text(notebooks.strip(nbformat.reads(text, as_version=4))) == text, (
        "run: leandnn write"
    )
    assert len(notebook.cells) <= 25
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    assert all(not set(i) <= set("0123456789abcdef-") for i in ids), "ids are names, not hex"
    assert str(ROOT) not in text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_parameters_stay_in_scratch_by_default(path: Path):
    notebook = nbformat.read(path, as_version=4)
    (cell,) = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    values: dict[str, object] = {}
    exec(cell.source, values)
    assert str(values["out_dir"]).startswith("../build/scratch/")
    assert values.get("runs_dir") is None


def write(path: Path, *cells: tuple[str, str]) -> Path:
    notebook = nbformat.v4.new_notebook()
    for name, source in cells:
        cell = nbformat.v4.new_code_cell(source.strip())
        cell["id"] = name
        if name == "parameters":
            cell.metadata["tags"] = ["parameters"]
        notebook.cells.append(cell)
    path.write_text(notebooks.to_text(notebooks.strip(notebook)))
    return path


@pytest.mark.slow
def test_two_forced_runs_are_equal_to_the_byte(moved_root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(paths, "NOTEBOOKS", moved_root / "notebooks")
    source = write(moved_root / "notebooks" / "demo.ipynb", ("parameters", 'out_dir = "x"'), ("work", DEMO))
    contents = []
    for _ in range(2):
        target = moved_root / "build" / "reports" / "demo"
        notebooks.execute(source, target, timeout=60)
        contents.append({p.name: p.read_bytes() for p in sorted(target.iterdir())})
    assert list(contents[0]) == ["demo.csv", "demo.ipynb", "demo.json", "demo.png", "demo.svg"]
    assert contents[0] == contents[1]
    executed = contents[0]["demo.ipynb"].decode()
    assert str(moved_root) not in executed
    cells = {cell["id"]: cell for cell in json.loads(executed)["cells"]}
    assert "../build/reports/demo" in "".join(cells["injected-parameters"]["source"])
    assert any("one\ntwo\n" in "".join(o.get("text", [])) for o in cells["work"]["outputs"])
    assert not list((moved_root / "build" / "reports").glob("*.partial*"))


@pytest.mark.slow
def test_a_failing_cell_is_named_and_its_notebook_kept(moved_root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(paths, "NOTEBOOKS", moved_root / "notebooks")
    source = write(
        moved_root / "notebooks" / "bad.ipynb",
        ("parameters", 'out_dir = "x"'),
        ("fine", "print('fine')"),
        ("broken", "1 / 0"),
        ("after", "print('never')"),
    )
    target = moved_root / "build" / "reports" / "bad"
    with pytest.raises(
        LeandnnError, match=r"bad\.ipynb failed in cell 'broken' with ZeroDivisionError.*partial"
    ):
        notebooks.execute(source, target, timeout=60)
    assert not target.exists()
    assert (target.parent / "bad.partial.ipynb").exists()


@pytest.mark.parametrize("content", ["", "{}", "not json", '{"cells": 3}'])
def test_a_file_that_is_no_notebook_is_refused_by_name(tmp_path: Path, content: str):
    path = tmp_path / "x.ipynb"
    path.write_text(content)
    with pytest.raises(LeandnnError, match="x.ipynb"):
        notebooks.strip_file(path, tmp_path / "y.ipynb")
    assert not (tmp_path / "y.ipynb").exists()
