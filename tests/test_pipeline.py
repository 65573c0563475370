"""dvc.yaml: its stages depend on what code does, and what they write is ignored by git."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from leandnn import params
from leandnn.autosparse import imagenet
from leandnn.params import read_yaml
from leandnn.studies import digests, registry

ROOT = Path(__file__).parents[1]
DVC = read_yaml(ROOT / "dvc.yaml")
PIPELINE = DVC["stages"]
NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))


def filled(value: Any, words: dict[str, str]) -> Any:
    """A part of a stage with ${key} and ${item} filled in."""
    if isinstance(value, dict):
        return {filled(key, words): filled(inner, words) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, words) for inner in value]
    return re.sub(r"\$\{(\w+)\}", lambda m: words[m[1]], value) if isinstance(value, str) else value


def unfolded() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, stage in PIPELINE.items():
        over = stage.get("foreach")
        if over is None:
            yield name, stage
            continue
        for key, item in (over if isinstance(over, dict) else dict(zip(over, over, strict=True))).items():
            yield f"{name}@{key}", filled(stage["do"], {"key": key, "item": item})


STAGES = dict(unfolded())


def outs(stage: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for out in stage.get("outs", []):
        found.update(out if isinstance(out, dict) else {out: {}})
    return found


def test_every_study_of_the_pipeline_has_a_stage_and_an_out():
    laptop = params.load("laptop")
    training = {
        name: stage for name, stage in STAGES.items() if str(stage["cmd"]).startswith("leandnn train ")
    }
    studies = [
        f"{paper}-{name}" for paper, own in laptop.studies.items() if paper != "features" for name in own
    ]
    assert len(training) == len(studies)
    for comparison in map(registry.find, studies):
        where = f"runs/{comparison.paper}/{comparison.name}"
        (stage,) = [stage for stage in training.values() if where in outs(stage)]
        assert stage["cmd"] == f"leandnn train build/digests/{comparison.study}.json"
        data = [f"data/prepared/{name}.safetensors" for name in comparison.data]
        assert stage["deps"] == [f"build/digests/{comparison.study}.json", *data, *comparison.inputs]
        assert outs(stage) == {where: {"persist": True}}, "a retraining that is killed loses no finished run"


def test_no_stage_but_digests_and_the_frozen_bench_names_source():
    source = re.compile(r"(src|notebooks|tools|studies|CMakeLists\.txt|pyproject\.toml)(/|$)")
    named = {
        name: {dep for dep in stage.get("deps", []) if source.match(dep)} for name, stage in STAGES.items()
    }
    strips = {f"strip@{name}": {f"notebooks/{name}.ipynb"} for name in NOTEBOOKS}
    assert {name: found for name, found in named.items() if found} == {
        "digests": {"CMakeLists.txt", "notebooks", "pyproject.toml", "src", "studies/proofs.jsonl"},
        "bench": {"src/leandnn/bench"},
        **strips,
    }
    assert PIPELINE["bench"]["frozen"] is True


def test_every_file_of_digests_that_a_stage_reads_is_written():
    written = {*digests.STAGES, *NOTEBOOKS, *(comparison.study for comparison in registry.matching(["all"]))}
    read = [
        dep for stage in STAGES.values() for dep in stage.get("deps", []) if dep.startswith("build/digests/")
    ]
    assert {Path(dep).stem for dep in read} <= written
    for name, stage in STAGES.items():
        assert stage.get("frozen") or name in ("digests",) or any(dep in read for dep in stage["deps"]), name


def test_whoever_reads_runs_depends_on_them_and_makes_them_first():
    made = {out for stage in STAGES.values() for out in outs(stage)}
    for name, stage in STAGES.items():
        for dep in stage.get("deps", []):
            if dep.startswith(("runs/", "build/", "data/")) and not dep.startswith("build/digests/"):
                assert any(dep == out or dep.startswith(f"{out}/") for out in made), f"{name}: {dep}"


def test_what_dvc_shows_is_there():
    assert DVC["params"] == ["params.yaml"]
    assert DVC["metrics"] == ["reports/metrics.json"]
    made = {out for stage in STAGES.values() for out in outs(stage)}
    for plot in DVC["plots"]:
        (options,) = plot.values()
        for path in options["y"]:
            assert any(path.startswith(f"{out}/") for out in made)


def test_git_ignores_generated_outs_but_not_published_ones():
    for name, stage in STAGES.items():
        for path, options in outs(stage).items():
            asked = subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT, check=False)
            assert (asked.returncode == 0) == options.get("cache", True), f"{name}: {path}"


def test_budgets_reach_stages_through_digests_alone():
    for name, stage in STAGES.items():
        assert "params" not in stage, name
    assert set(re.findall(r"\$\{(.*?)\}", (ROOT / "dvc.yaml").read_text())) == {"item", "key"}


def test_raw_data_is_no_out_since_dvc_deletes_outs():
    assert not [out for stage in STAGES.values() for out in outs(stage) if out.startswith("data/raw")]


def test_only_reports_read_what_the_bench_measured():
    users = [
        name
        for name, stage in STAGES.items()
        if any(d.startswith("reference") for d in stage.get("deps", []))
    ]
    assert users
    assert all(user.startswith("report-") or user == "summary" for user in users)


def test_imagenet_is_frozen_and_its_program_takes_its_lines():
    stage = PIPELINE["train-autosparse-imagenet"]["do"]
    assert stage["frozen"] is True
    assert "outs" not in stage, "dvc repro stops at a frozen stage whose outs are not there"
    runs = set()
    for name, frozen in STAGES.items():
        for line in frozen["cmd"] if name.startswith("train-autosparse-imagenet@") else ():
            launch, _, said = line.partition(" -m leandnn.autosparse.imagenet ")
            assert launch.startswith("TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 torchrun ")
            found = imagenet.parser().parse_args(said.split())
            assert (found.epochs, found.batch, found.lr, found.amp) == (100, 256, 0.256, "bf16")
            imagenet.method(found.net, found.arm)
            runs.add(f"{found.net}-{found.arm}")
    assert runs == set(imagenet.COMPARISON.arms)


def test_every_notebook_has_its_strip_its_report_and_its_place():
    assert sorted(PIPELINE["strip"]["foreach"]) == NOTEBOOKS
    summary = STAGES["summary"]["deps"]
    for name in NOTEBOOKS:
        (report,) = [stage for stage in STAGES.values() if f"build/reports/{name}" in outs(stage)]
        assert report["cmd"] == f"leandnn notebook run build/notebooks/{name}.ipynb build/reports/{name}"
        assert {f"build/digests/{name}.json", f"build/notebooks/{name}.ipynb", "reference"} <= set(
            report["deps"]
        )
        assert f"build/reports/{name}" in summary
        read = set(re.findall(r"runs_dir\}?/(\w+/\w+)", (ROOT / "notebooks" / f"{name}.ipynb").read_text()))
        assert {f"runs/{place}" for place in read} <= set(report["deps"])


def test_the_bench_stage_and_make_bench_measure_the_same():
    commands = [command.split()[2] for command in PIPELINE["bench"]["cmd"]]
    assert f"for name in {' '.join(commands)}; do" in (ROOT / "Makefile").read_text()
    tables = {f"bench-{name}.json" for name in commands} | {"bench-commands.json"}
    assert {path.name for path in (ROOT / "reference").glob("*/bench-*.json")} <= tables
