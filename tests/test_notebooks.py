"""Notebooks: clean in git, small, byte-stable when executed, and a failing cell is named."""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def hold(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the cell "must-hold" of a notebook on what lies below `root`; of the notebook it takes the imports cell."""
    for path, place in (
        ("ROOT", "."),
        ("RUNS", "runs"),
        ("REFERENCE", "reference"),
        ("CLAIMS", "claims.yaml"),
    ):
        monkeypatch.setattr(paths, path, root / place)
    monkeypatch.setenv("LEANDNN_ROOT", str(root))
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    cells = {cell.id: cell.source for cell in notebook.cells}
    settings = ast.Expr  # calls such as use_style(), which would outlive the test
    body = [node for node in ast.parse(cells["imports"]).body if not isinstance(node, settings)]
    values: dict[str, Any] = {}
    exec(compile(ast.Module(body, []), name, "exec"), values)
    if name == "00_tour":
        values["results"] = values["claims"].compute(root)
    exec(cells["must-hold"], values)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A copy of the restored runs and of what was recorded."""
    if not (ROOT / "runs" / "huffman" / "compression").is_dir():
        pytest.skip("NOT CHECKED without the pipeline's runs: dvc pull")
    for name in ("claims.yaml", "params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("runs", "reference"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


def edit(path: Path, change: Callable[[Any], None]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def tenth_less(run: str, metric: str) -> Callable[[Path], None]:
    """One run's metric times 0.9."""
    return lambda root: edit(
        root / "runs" / run / "metrics.json",
        lambda found: found["metrics"].update({metric: 0.9 * found["metrics"][metric]}),
    )


def tenth_less_in_both(run: str, metric: str) -> Callable[[Path], None]:
    """The same, and in its last epoch's row, so that the two agree."""

    def falsify(root: Path) -> None:
        tenth_less(run, metric)(root)
        path = root / "runs" / run / "history.csv"
        *above, last = path.read_text().splitlines()
        at, cells = above[0].split(",").index(metric), last.split(",")
        cells[at] = repr(json.loads(path.with_name("metrics.json").read_text())["metrics"][metric])
        path.write_text("\n".join([*above, ",".join(cells)]) + "\n")

    return falsify


def swapped(one: str, other: str) -> Callable[[Path], None]:
    """All that two arms measured, exchanged, seed by seed; each run still says where it belongs."""

    def falsify(root: Path) -> None:
        for seed in range(3):
            folders = [root / "runs" / f"{arm}-s{seed}" for arm in (one, other)]
            runs = [json.loads((folder / "metrics.json").read_text()) for folder in folders]
            histories = [(folder / "history.csv").read_text() for folder in folders]
            for folder, own, foreign, history in zip(folders, runs, runs[::-1], histories[::-1], strict=True):
                where = {key: own[key] for key in ("paper", "comparison", "arm", "budget")}
                (folder / "metrics.json").write_text(json.dumps({**foreign, **where}))
                (folder / "history.csv").write_text(history)

    return falsify


def lost(run: str) -> Callable[[Path], None]:
    return lambda root: shutil.rmtree(root / "runs" / run)


def misplaced(one: str, other: str) -> Callable[[Path], None]:
    """Two runs' folders exchanged."""

    def falsify(root: Path) -> None:
        folders = [root / "runs" / one, root / "runs" / other]
        folders[0].rename(root / "aside")
        folders[1].rename(folders[0])
        (root / "aside").rename(folders[1])

    return falsify


def inverted(bench: str, peer: str, ours: str = "leandnn") -> Callable[[Path], None]:
    """Ours and a peer exchanged in every machine's rows and rounds, so that faster is slower."""
    names = {ours: peer, peer: ours}

    def exchange(found: Any) -> None:
        for row in found["rows"]:
            row["impl"] = names.get(row["impl"], row["impl"])
        found["rounds"] = {names.get(arm, arm): times for arm, times in found.get("rounds", {}).items()}

    def falsify(root: Path) -> None:
        for path in (root / "reference").glob(f"*/bench-{bench}.json"):
            edit(path, exchange)

    return falsify


def doubled(bench: str) -> Callable[[Path], None]:
    """A row's rate times two."""

    def falsify(root: Path) -> None:
        for path in (root / "reference").glob(f"*/bench-{bench}.json"):
            edit(path, lambda found: found["rows"][-1].update(rate=2 * found["rows"][-1]["rate"]))

    return falsify


def unsigned(study: str) -> Callable[[Path], None]:
    """A record that was edited by hand, so that its digest is another's."""

    def falsify(root: Path) -> None:
        for path in (root / "reference").glob(f"*/{study}.json"):
            edit(path, lambda found: next(iter(found["runs"].values())).update(steps=1))

    return falsify


SAME = "beside the last epoch's"
FALSIFIED = {
    "00_tour": (
        (tenth_less("bf16/vision/fp32-s1", "test_accuracy"), SAME),
        (lost("rbgp/patterns/rbgp4-s2"), "seeds"),
    ),
    "05_kernels": (
        (inverted("panels", "onednn.linear (prepacked)"), "times as fast|more zeros|passes|at most"),
        (doubled("panels"), "rate × time"),
        (inverted("sparse-step", "torch.dense"), "a step at"),
    ),
    "10_bf16": (
        (tenth_less("bf16/vision/bf16-s0", "test_accuracy"), SAME),
        (tenth_less_in_both("bf16/vision/bf16-s0", "test_accuracy"), "has learned"),
        (misplaced("bf16/speech/fp32-s0", "bf16/speech/bf16-s0"), "says that it belongs"),
        (lost("bf16/language/fp32-s1"), "seeds"),
        (unsigned("bf16-alexnet"), "8 or more"),
        (inverted("train-step", "torch.fp32"), "emulation"),
    ),
    "20_autosparse": (
        (tenth_less("blocksparse/baselines/dense-s1", "test_accuracy"), SAME),
        (tenth_less_in_both("autosparse/methods/str-s2", "test_accuracy"), "within points"),
        (swapped("autosparse/methods/autosparse", "autosparse/methods/str"), "1.5|annealing|saved|str"),
        (lost("autosparse/methods/mest-uniform-s0"), "seeds"),
        (unsigned("autosparse-methods"), "5 or more"),
        (inverted("autosparse", "torch.dense"), "saves? reading|as|thresholds"),
    ),
    "30_rbgp": (
        (tenth_less("rbgp/patterns/rbgp4-s0", "test_accuracy"), SAME),
        (tenth_less_in_both("rbgp/patterns/rbgp4-s0", "test_accuracy"), "within points"),
        (swapped("blocksparse/baselines/unstructured", "blocksparse/baselines/block4x4"), "unstructured"),
        (lost("rbgp/patterns/rbgp4-s1"), "seeds"),
        (unsigned("rbgp-connectivity"), "5 or more"),
        (inverted("rbgp", "torch.dense"), "save time"),
        (inverted("rbgp", "unstructured", "rbgp4"), "unstructured"),
    ),
    "40_hbsnn": (
        (tenth_less("hbsnn/patterns/hierarchical-s0", "test_accuracy"), SAME),
        (tenth_less_in_both("hbsnn/patterns/hierarchical-s0", "test_accuracy"), "within points"),
        (swapped("blocksparse/baselines/dense", "blocksparse/baselines/block4x4"), "the zeros asked for"),
        (lost("hbsnn/patterns/hierarchical-s2"), "seeds"),
        (unsigned("hbsnn-patterns"), "5 or more"),
        (inverted("hbsnn", "unstructured", "hierarchical"), "rows that share"),
    ),
    "50_huffman": (
        (tenth_less("huffman/compression/huffman-s0", "test_accuracy"), SAME),
        (tenth_less("huffman/compression/huffman-s0", "coded_bytes"), SAME),
        (tenth_less_in_both("huffman/compression/huffman-s0", "coded_bytes"), "sum of its layers"),
        (lost("huffman/compression/huffman-s1"), "seeds"),
        (inverted("huffman", "torch.dense"), "small batches"),
        (doubled("huffman"), "rate × time"),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FALSIFIED)
def test_a_falsified_result_fails_its_notebook(name: str, results: Path, monkeypatch: pytest.MonkeyPatch):
    hold(name, results, monkeypatch)
    for falsify, sentence in FALSIFIED[name]:
        shutil.copytree(results, copy := results / "falsified", ignore=shutil.ignore_patterns("falsified"))
        falsify(copy)
        with pytest.raises((AssertionError, LeandnnError), match=sentence):
            hold(name, copy, monkeypatch)
        shutil.rmtree(copy)


@pytest.mark.parametrize("name", FALSIFIED)
def test_a_clone_without_results_asserts_nothing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for file in ("claims.yaml", "params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / file, tmp_path)
    hold(name, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(FALSIFIED) - {"05_kernels"}))
def test_runs_of_another_profile_are_not_held_to_bounds(
    name: str, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    params = results / "params.yaml"
    params.write_text(params.read_text().replace("profile: laptop", "profile: smoke"))
    tenth_less("blocksparse/baselines/dense-s0", "test_accuracy")(results)
    hold(name, results, monkeypatch)
    assert "smoke runs, or of another budget" in capsys.readouterr().out
