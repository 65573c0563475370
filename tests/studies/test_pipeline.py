"""Which runs `leandnn train` trains and which it keeps; in place of training, a worker that writes a result."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
import time
from pathlib import Path

import pytest

from leandnn.errors import LeandnnError
from leandnn.studies import pipeline, runs, worker

WORK = """
import json, sys
from pathlib import Path
done, log, facts, arm, seed = json.loads(sys.argv[1])
with open(log, "a") as stream:
    stream.write(f"{arm}-s{seed}\\n")
metrics = {"arm": arm, "seed": seed, **facts, "metrics": {"test_accuracy": seed / 10}}
result = {"metrics": metrics, "history": [{"epoch": 1.0}], "cost": {"seconds": 1.0}}
Path(done).parent.mkdir(parents=True, exist_ok=True)
Path(done).write_text(json.dumps(result))
"""
BUDGET = {"epochs": 1}


def of(seeds: str, behaviour: str = "b", **changes: object) -> list[runs.Run]:
    run = runs.Run("bf16-vision", "", BUDGET, 0, behaviour=behaviour, inputs={"cifar10": "c"})
    return [
        dataclasses.replace(run, arm=arm, seed=int(seed), **changes)
        for seed in seeds
        for arm in ("fp32", "bf16")
    ]


@pytest.fixture
def root(bare_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def command(run: runs.Run) -> list[str]:
        said = [str(run.done), str(bare_root / "log"), run.facts, run.arm, run.seed]
        return [sys.executable, "-c", WORK, json.dumps(said)]

    monkeypatch.setattr(worker, "command", command)
    return bare_root


def train(root: Path, wanted: list[runs.Run], **options: object) -> tuple[list[str], list[str]]:
    """(runs trained by this call, runs of the folder afterwards)."""
    (root / "log").write_text("")
    out = pipeline.train(wanted, workers=1, **options)
    assert out == root / "runs" / "bf16" / "vision"
    assert not list(out.parent.glob("*.partial"))
    return (root / "log").read_text().split(), sorted(path.name for path in out.iterdir())


def test_more_seeds_train_only_the_new_ones_fewer_drop_none(root: Path):
    assert train(root, of("0")) == (["fp32-s0", "bf16-s0"], ["bf16-s0", "fp32-s0"])
    everything = ["bf16-s0", "bf16-s1", "fp32-s0", "fp32-s1"]
    assert train(root, of("01")) == (["fp32-s1", "bf16-s1"], everything)
    assert train(root, of("1")) == ([], everything)


def test_runs_that_came_from_elsewhere_are_kept(root: Path):
    train(root, of("01"))
    shutil.rmtree(root / "build")
    before = {path: path.read_bytes() for path in (root / "runs").rglob("*.*")}
    trained, there = train(root, of("02"))
    assert trained == ["fp32-s2", "bf16-s2"]
    assert there == [f"{arm}-s{seed}" for arm in ("bf16", "fp32") for seed in (0, 1, 2)]
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    "other",
    [
        {"behaviour": "x"}, {"budget": {"epochs": 2}}, {"threads": 2}, {"inputs": {"cifar10": "d"}},
        {"torch": "9"},
    ],
    ids=lambda other: next(iter(other)),
)  # fmt: skip
def test_runs_that_are_decided_otherwise_are_dropped(root: Path, other: dict[str, object]):
    train(root, of("01"))
    assert train(root, [dataclasses.replace(run, **other) for run in of("0")]) == (
        ["fp32-s0", "bf16-s0"],
        ["bf16-s0", "fp32-s0"],
    )
    assert train(root, of("0")) == ([], ["bf16-s0", "fp32-s0"]), "the earlier results are still there"


def test_an_arm_that_does_something_else_is_trained_alone(root: Path):
    train(root, of("01"))
    wanted = [dataclasses.replace(r, behaviour="x") if r.arm == "bf16" else r for r in of("01")]
    trained, there = train(root, wanted)
    assert trained == ["bf16-s0", "bf16-s1"]
    assert there == ["bf16-s0", "bf16-s1", "fp32-s0", "fp32-s1"]


@pytest.mark.parametrize("damage", ["{", "[]", "{}", None], ids=["half", "list", "empty", "no history"])
def test_a_damaged_run_of_the_folder_is_made_again(root: Path, damage: str | None):
    train(root, of("01"))
    folder = root / "runs" / "bf16" / "vision" / "fp32-s1"
    if damage is None:
        (folder / "history.csv").unlink()
    else:
        (folder / "metrics.json").write_text(damage)
    shutil.rmtree(root / "build")
    assert train(root, of("01"))[0] == ["fp32-s1"]
    assert json.loads((folder / "metrics.json").read_text())["seed"] == 1


def test_afresh_these_runs_are_trained_and_others_kept(root: Path):
    train(root, of("01"))
    everything = ["bf16-s0", "bf16-s1", "fp32-s0", "fp32-s1"]
    assert train(root, of("0"), fresh=True) == (["fp32-s0", "bf16-s0"], everything)


def test_a_kill_afresh_does_not_bring_old_results_back(root: Path, monkeypatch: pytest.MonkeyPatch):
    train(root, of("0"))
    good = worker.command
    monkeypatch.setattr(
        worker, "command", lambda run: [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
    )
    with pytest.raises(LeandnnError, match="SIGKILL"):
        train(root, of("0"), fresh=True)
    monkeypatch.setattr(worker, "command", good)
    assert train(root, of("0"))[0] == ["fp32-s0", "bf16-s0"]


def test_costs_add_up_outside_of_what_is_tracked(root: Path, monkeypatch: pytest.MonkeyPatch):
    train(root, of("0"))
    train(root, of("01"))
    costs = root / "build" / "costs.json"
    titles = {f"bf16-vision/{arm}-s{seed}" for arm in ("fp32", "bf16") for seed in (0, 1)}
    assert set(json.loads(costs.read_text())) == titles
    costs.write_text("{")
    train(root, of("2"))
    assert set(json.loads(costs.read_text())) == {"bf16-vision/fp32-s2", "bf16-vision/bf16-s2"}
    assert not (root / "reference").exists()


def test_a_run_that_fails_leaves_the_folder_and_what_was_done(root: Path, monkeypatch: pytest.MonkeyPatch):
    train(root, of("0"))
    before = {path: path.read_bytes() for path in (root / "runs").rglob("*.*")}
    good = worker.command

    def command(run: runs.Run) -> list[str]:
        fails = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
        return fails if run.name == "bf16-s1" else good(run)

    monkeypatch.setattr(worker, "command", command)
    with pytest.raises(
        LeandnnError, match=r"^bf16-vision/bf16-s1 failed: it was killed by signal 9 \(SIGKILL\)"
    ):
        train(root, of("01"))
    assert {path: path.read_bytes() for path in (root / "runs").rglob("*.*")} == before
    monkeypatch.setattr(worker, "command", good)
    assert train(root, of("01"))[0] == ["bf16-s1"], "fp32-s1 was done before the kill"


def test_states_of_code_that_is_gone_are_kept_for_a_month(root: Path):
    train(root, of("0"))
    old, recent = (of("0", behaviour)[0].done for behaviour in ("old", "recent"))
    for path in (old, recent):
        path.write_text("{}")
    os.utime(old, (time.time() - 31 * 86400,) * 2)
    train(root, of("01"))
    assert (old.exists(), recent.exists()) == (False, True)


def test_a_folder_that_holds_anything_else_is_never_replaced(root: Path):
    thesis = root / "runs" / "bf16" / "vision" / "thesis.txt"
    thesis.parent.mkdir(parents=True)
    thesis.write_text("years of work")
    with pytest.raises(
        LeandnnError, match=r"^runs/bf16/vision holds thesis\.txt, expected nothing or a folder of"
    ):
        train(root, of("0"))
    assert thesis.read_text() == "years of work"
