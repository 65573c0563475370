"""dvc.yaml: its stages name the code that decides their outputs, and what they write is ignored by git."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest

from leandnn import params
from leandnn.autosparse import imagenet, published
from leandnn.cli import train
from leandnn.data.imagenet import COMPLETE
from leandnn.params import read_yaml
from leandnn.studies import comparison as study
from leandnn.studies.comparison import Comparison

ROOT = Path(__file__).parents[1]
PIPELINE = read_yaml(ROOT / "dvc.yaml")["stages"]


def stages() -> dict[str, dict]:
    """Every stage with its foreach body unfolded once."""
    return {name: stage.get("do", stage) for name, stage in PIPELINE.items()}


def imported(path: Path) -> set[str]:
    """The files of the package that a file imports from, relative to the package."""
    return imported_by(path.read_text())


def imported_by(source: str) -> set[str]:
    """The same of a text."""
    package, found = ROOT / "src" / "leandnn", set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("leandnn"):
            base = Path(*node.module.split(".")[1:])
            for alias in node.names:
                for candidate in (base / f"{alias.name}.py", base.with_suffix(".py") if base.name else base):
                    if (package / candidate).is_file():
                        found.add(candidate.as_posix())
                        break
    return found


# How data comes into its prepared file, whose digest is part of every run: no code of a run.
SOURCES = {
    "data/availability.py",
    "data/clicks_synthesis.py",
    "data/debian.py",
    "data/text_source.py",
    "data/text_vocabulary.py",
}


def outs(stage: dict) -> dict[str, dict]:
    found = {}
    for out in stage.get("outs", []):
        found.update(out if isinstance(out, dict) else {out: {}})
    return found


def comparisons(paper: str) -> dict[str, Comparison]:
    return importlib.import_module(f"leandnn.{paper}.study").COMPARISONS


@pytest.mark.parametrize("paper", train.WINGS)
def test_a_comparison_that_the_pipeline_runs_has_a_stage_with_just_the_code_and_data_it_names(paper: str):
    loaded = params.load(ROOT / "params.yaml")
    for name, comparison in comparisons(paper).items():
        stage = PIPELINE.get(f"train-{paper}-{name}")
        budgets = [loaded.profile(profile).budget(paper, name) for profile in ("smoke", "laptop")]
        assert [budget is not None for budget in budgets] == [stage is not None] * 2, name
        if stage is None:
            continue
        code = {f"src/leandnn/{entry}" for entry in comparison.code}
        data = {f"data/prepared/{entry}.safetensors" for entry in comparison.data}
        assert set(stage["deps"]) == code | data | set(comparison.inputs)
        assert stage["outs"] == [f"runs/{paper}/{name}"]
        assert stage["cmd"].startswith(f"leandnn train {paper} {name} ")


@pytest.mark.parametrize("paper", train.WINGS)
def test_every_comparison_has_a_budget_and_the_other_way_round(paper: str):
    loaded = params.load(ROOT / "params.yaml")
    for name in comparisons(paper):
        assert any(loaded.profile(profile).budget(paper, name) for profile in ("laptop", "desk", "paper")), (
            name
        )
    for profile in params.PROFILES:
        assert {f.name for f in fields(getattr(loaded.profile(profile), paper))} == set(comparisons(paper))


@pytest.mark.parametrize("paper", train.WINGS)
def test_a_comparisons_code_holds_all_that_its_modules_import_of_the_package_but_what_decides_nothing(
    paper: str,
):
    # These move results from place to place, describe the machine or refuse bad input.
    aside = {
        "checkpoint.py",
        "errors.py",
        "files.py",
        "machine/card.py",
        "params.py",
        "paths.py",
        "study.py",
        "__init__.py",
    }
    for name, comparison in comparisons(paper).items():
        # What features.py trains is read as a file, whose digest counts.
        for entry in (e for e in comparison.code if e.endswith(".py") and e != "tasks/image_judge.py"):
            for module in imported(ROOT / "src" / "leandnn" / entry):
                known = any(module == e or module.startswith(f"{e}/") for e in comparison.code)
                known |= paper in study.MASKED and module.startswith(
                    "kernels/panels/"
                )  # imported, never reached
                assert known or Path(module).name in aside or module in SOURCES, (
                    f"{paper}/{name}: {entry} uses {module}"
                )


def test_every_dependency_on_a_source_file_exists():
    for name, stage in stages().items():
        for dep in stage.get("deps", []):
            if dep.startswith("src/") or (dep.startswith("notebooks/") and "${" not in dep):
                assert (ROOT / dep).exists(), f"{name} depends on {dep}"


def test_generated_outs_are_ignored_by_git_beforehand_and_published_ones_are_not():
    for name, stage in stages().items():
        for out, options in outs(stage).items():
            path = re.sub(r"\$\{.*?\}", "x", out)
            ignored = (
                subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT, check=False).returncode == 0
            )
            assert ignored == options.get("cache", True), f"{name}: {out}"


def test_only_active_values_reach_the_stages_and_through_cmd_alone():
    for name, stage in stages().items():
        assert "params" not in stage, name
    used = re.findall(r"\$\{(.*?)\}", (ROOT / "dvc.yaml").read_text())
    assert all(u.startswith("active.") or u in ("item", "key") for u in used), used


def test_raw_data_is_no_out_since_dvc_deletes_outs_before_it_runs_a_stage():
    assert not [out for stage in stages().values() for out in outs(stage) if out.startswith("data/raw")]


def test_the_bench_is_frozen_and_nothing_depends_on_its_outputs_but_reports():
    assert PIPELINE["bench"]["frozen"] is True
    users = [
        name
        for name, stage in stages().items()
        if any(d.startswith("reference") for d in stage.get("deps", []))
    ]
    assert all(user.startswith("report-") or user == "summary" for user in users)


def test_imagenet_is_frozen_and_its_lines_are_what_the_program_takes():
    stage = PIPELINE["train-autosparse-imagenet"]
    assert stage["frozen"] is True
    assert "outs" not in stage, "dvc repro stops at a frozen stage whose outs are not there"
    assert stage["deps"] == [f"src/leandnn/{entry}" for entry in imagenet.CODE]
    runs = set()
    for line in stage["cmd"]:
        launch, _, said = line.partition(" -m leandnn.autosparse.imagenet ")
        assert launch.startswith("TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 torchrun ")
        found = imagenet.parser().parse_args(said.split())
        assert (found.epochs, found.batch, found.lr, found.amp) == (100, 256, 0.256, "bf16")
        imagenet.method(found.net, found.arm)
        runs.add((found.net, found.arm))
    assert runs == {(net, arm) for net in ("resnet50", "mobilenet_v1") for arm in imagenet.ARMS}


def test_the_price_of_imagenet_is_its_images_at_the_published_rate():
    images = 100 * COMPLETE["train"]
    hours = {n: n * images / rate / 3600 for n, rate in published.A100_IMAGES_PER_S.items()}
    words = " ".join(PIPELINE["train-autosparse-imagenet"]["desc"].split())
    assert (
        f"a run trains on {images / 1e6:.1f} M images; at the {published.A100_IMAGES_PER_S[1]:.0f} images/s"
        in words
    )
    assert f"on one A100 that is {hours[1]:.1f} GPU hours" in words
    assert f"at its {published.A100_IMAGES_PER_S[8]:.0f} images/s on eight {hours[8]:.1f}, so" in words
    assert f"so {3 * hours[8]:.0f} for the three ResNet50 runs" in words


def test_every_notebook_has_its_strip_and_its_report_and_the_summary_shows_it():
    notebooks = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    assert sorted(PIPELINE["strip"]["foreach"]) == notebooks
    reports = {f"build/reports/{name}" for name in notebooks}
    assert reports <= set().union(*(outs(stage) for stage in stages().values()))
    assert reports <= set(PIPELINE["summary"]["deps"])


# Where things are and how torch is set up: they change no figure.
SETTING = {"errors.py", "paths.py", "machine/probe.py", "machine/determinism.py"}


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_report_depends_on_all_that_its_notebook_imports(path: Path):
    cells = json.loads(path.read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    stage = PIPELINE[f"report-{path.stem.partition('_')[2]}"]
    deps = [dep.removeprefix("src/leandnn/") for dep in stage["deps"] if dep.startswith("src/leandnn/")]
    needed = imported_by(code) - SETTING
    assert {
        file for file in needed if not any(file == dep or file.startswith(f"{dep}/") for dep in deps)
    } == set()


def test_the_bench_stage_and_make_bench_measure_the_same():
    commands = [command.split()[2] for command in PIPELINE["bench"]["cmd"]]
    assert f"for name in {' '.join(commands)}; do" in (ROOT / "Makefile").read_text()
    tables = {f"bench-{name}.json" for name in commands} | {"bench-commands.json"}
    assert {path.name for path in (ROOT / "reference").glob("*/bench-*.json")} <= tables


def test_no_package_file_is_both_a_source_and_an_out():
    sources = {dep for stage in stages().values() for dep in stage.get("deps", []) if dep.startswith("src")}
    assert not sources & {out for stage in stages().values() for out in outs(stage)}
