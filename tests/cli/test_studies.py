"""`leandnn train` and `leandnn studies` as a user meets them: kills, doubles, damage, bad arguments."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.permissions import OBEYED

from leandnn.cli import studies
from leandnn.errors import LeandnnError

Run = Callable[..., subprocess.CompletedProcess[str]]
TRAIN = (
    "train",
    "bf16-vision",
    "--profile",
    "smoke",
    "--set",
    "train_examples=384",
    "--set",
    "test_examples=20",
)


def one_sentence(answer: subprocess.CompletedProcess[str], *words: str) -> None:
    assert answer.returncode != 0
    last = answer.stderr.strip().splitlines()[-1]
    assert last.startswith("leandnn: "), answer.stderr
    assert "Traceback" not in answer.stderr
    assert all(word in last for word in words), last


def digests(root: Path) -> dict[str, str]:
    found = sorted((root / "runs" / "bf16" / "vision").glob("*/metrics.json"))
    return {path.parent.name: json.loads(path.read_text())["weights_sha256"] for path in found}


def workers_in(root: Path) -> list[int]:
    """PIDs of the training workers whose working directory is `root`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (
                process.joinpath("cwd").resolve() == root
                and b"leandnn.studies.worker" in process.joinpath("cmdline").read_bytes()
            ):
                found.append(int(process.name))
        except OSError:  # it ended in between
            continue
    return found


@pytest.mark.slow
def test_a_second_call_trains_nothing_and_more_seeds_only_theirs(leandnn: Run, repository: Path):
    first = leandnn(*TRAIN)
    assert first.returncode == 0, first.stderr
    folder = repository / "runs" / "bf16" / "vision"
    assert sorted(p.name for p in folder.iterdir()) == ["bf16-s0", "bf16-s1", "fp32-s0", "fp32-s1"]
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    second = leandnn(*TRAIN)
    assert second.returncode == 0
    assert "4 of 4 runs are already done" in second.stdout
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before

    weights = digests(repository)
    assert len(set(weights.values())) == 4, "each arm and each seed ends elsewhere"

    metrics = json.loads((folder / "bf16-s0" / "metrics.json").read_text())
    assert metrics["budget"] == {"epochs": 1, "train_examples": 384, "test_examples": 20}
    assert metrics["steps"] == 3
    text = " ".join(content.decode() for content in before.values())
    assert str(repository) not in text, "no absolute paths in outs"
    assert "seconds" not in text, "no times in outs"
    assert not (repository / "reference").exists(), "local times never touch what is tracked"
    assert set(json.loads((repository / "build" / "costs.json").read_text())) == {
        f"bf16-vision/{arm}-s{seed}" for arm in ("bf16", "fp32") for seed in (0, 1)
    }
    left = sorted(p.suffix for p in (repository / "build" / "checkpoints").rglob("*") if p.is_file())
    assert left == [".json"] * 4, "no checkpoint is left of a finished run"

    third = leandnn(*TRAIN, "--set", "seeds=0,2")
    assert "2 of 4 runs are already done" in third.stdout
    assert third.stdout.strip().endswith("bf16-vision: 6 runs in runs/bf16/vision")
    assert {p: p.read_bytes() for p in before} == before


@pytest.mark.slow
def test_a_folder_that_holds_anything_but_runs_is_never_replaced(leandnn: Run, repository: Path):
    thesis = repository / "mine" / "thesis.txt"
    thesis.parent.mkdir()
    thesis.write_text("years of work")
    one_sentence(leandnn(*TRAIN, "--out", "mine"), "mine holds thesis.txt")
    one_sentence(leandnn(*TRAIN, "--out", "mine/thesis.txt"), "thesis.txt")
    notebook = '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'
    (thesis.parent / "x.ipynb").write_text(notebook)
    one_sentence(leandnn("notebook", "run", "mine/x.ipynb", "mine"), "mine exists")
    assert thesis.read_text() == "years of work"


def started(repository: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "leandnn", *arguments],
        cwd=repository,
        env={**os.environ, "LEANDNN_ROOT": str(repository)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(found: Callable[[], object]) -> None:
    deadline = time.monotonic() + 90
    while not found() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert found()


@pytest.mark.slow
def test_killed_in_mid_training_it_resumes_to_the_same_bits(leandnn: Run, repository: Path):
    arguments = (*TRAIN, "--set", "seeds=3", "--set", "train_examples=1280", "--set", "epochs=4")
    assert leandnn(*arguments).returncode == 0
    unbroken = digests(repository)
    checkpoints = repository / "build" / "checkpoints"
    for folder in (checkpoints, repository / "runs"):
        shutil.rmtree(folder)
    with started(repository, *arguments) as command:
        wait_for(lambda: list(checkpoints.rglob("*.ckpt")))
        assert workers_in(repository), "it is in mid-training"
        command.send_signal(signal.SIGKILL)
    wait_for(lambda: not workers_in(repository))  # they die with their parent
    assert list(checkpoints.rglob("*.ckpt"))
    resumed = leandnn(*arguments)
    assert resumed.returncode == 0, resumed.stderr
    assert digests(repository) == unbroken


@pytest.mark.slow
def test_a_killed_worker_loses_no_finished_run(leandnn: Run, repository: Path):
    arguments = (*TRAIN, "--set", "train_examples=1280", "--set", "epochs=3", "--workers", "1")
    checkpoints = repository / "build" / "checkpoints"
    with started(repository, *arguments) as command:
        wait_for(lambda: list(checkpoints.rglob("*.done.json")))
        # The next worker, not the one that is about to end well: its checkpoint is there.
        wait_for(lambda: [p for p in checkpoints.rglob("*.ckpt") if not p.with_suffix(".done.json").exists()])
        os.kill(workers_in(repository)[0], signal.SIGKILL)
        _, errors = command.communicate(timeout=60)
    assert command.returncode == 1
    assert "failed: it was killed by signal 9 (SIGKILL)" in errors.strip().splitlines()[-1]
    assert not (repository / "runs" / "bf16" / "vision").exists()
    done = {path: path.stat().st_mtime_ns for path in checkpoints.rglob("*.done.json")}
    again = leandnn(*arguments)
    assert f"{len(done)} of 4 runs are already done" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert len(digests(repository)) == 4


@pytest.mark.slow
def test_a_second_process_on_a_comparison_is_refused_by_pid(leandnn: Run, repository: Path):
    lock = repository / "build" / "locks" / "train-bf16-vision.lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as stream:
        stream.write(f"{os.getpid()}\n")
        stream.flush()
        fcntl.flock(stream, fcntl.LOCK_EX)
        one_sentence(leandnn(*TRAIN), "the study bf16-vision is being trained", f"PID {os.getpid()}")
    assert not (repository / "runs" / "bf16" / "vision").exists()


@pytest.mark.slow
def test_damaged_results_and_checkpoints_are_named_and_rerun(leandnn: Run, repository: Path):
    arguments = (*TRAIN, "--set", "seeds=0")
    assert leandnn(*arguments).returncode == 0
    good = digests(repository)
    shutil.rmtree(repository / "runs")
    done = next((repository / "build" / "checkpoints").rglob("fp32-s0-*.done.json"))
    done.write_text("{")
    one_sentence(leandnn(*arguments), done.name, "corrupt")
    done.with_name(done.name.replace(".done.json", ".ckpt")).write_bytes(b"leandnn1" + bytes(99))
    one_sentence(leandnn(*arguments), "fp32-s0", "checkpoint", "corrupt")
    assert leandnn(*arguments).returncode == 0
    assert digests(repository) == good


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train", "bf17-vision"), ("'bf17-vision'", "bf16")),
        (("train", "bf16-visions"), ("'bf16-visions'", "vision")),
        (("train", "bf16-alexnet"), ("no budget in the profile laptop", "--set epochs=N")),
        (("train", "bf16-vision", "--set", "epochs=0"), ("vision.epochs is 0", "[1, 1000]")),
        (("train", "bf16-vision", "--set", "epochs=two"), ("--set is 'epochs=two'", "KEY=NUMBER")),
        (("train", "bf16-vision", "--set", "lr=2"), ("bf16.vision.lr is unknown", "epochs")),
        ((*TRAIN, "--set", "train_examples=60000", "--workers", "1"), ("60000", "50000")),
        (("train", "bf16-vision", "--threads", "0"), ("threads is 0", "[1, 1024]")),
        (("train", "bf16-vision", "--workers", "0"), ("workers is 0", "1")),
        (("train", "bf16-vision", "--device", "tpu"), ("'tpu'", "cuda")),
        (("train", "nowhere.json"), ("cannot read nowhere.json", "leandnn digests")),
        (("train", "x.json", "--set", "epochs=1"), ("x.json says budget and threads", "no --set")),
        (("studies", "run", "bf16-visions"), ("'bf16-visions'", "vision")),
        (("studies", "run", "all", "--minutes", "-1"), ("minutes is -1", "above 0")),
        (("studies", "run", "all", "--params", "nowhere.json"), ("nowhere.json",)),
        (("studies", "run", "all", "--params", "claims.yaml"), ("claims.yaml", "leandnn params")),
        (("data", "fetch", "cifar11"), ("'cifar11'", "cifar10")),
        (("data", "verify", "cifar100"), ("cifar100.safetensors", "leandnn data fetch cifar100")),
        (("bench", "speed"), ("'speed'", "train-step")),
        (("notebook", "run", "nowhere.ipynb", "build/x"), ("nowhere.ipynb",)),
    ],
)  # fmt: skip
def test_bad_arguments_are_one_sentence_with_both_values(leandnn: Run, arguments, words):
    one_sentence(leandnn(*arguments), *words)


@pytest.mark.parametrize("profile", ["big", "laptop"])
def test_a_profile_that_a_command_does_not_take_is_named(leandnn: Run, profile: str):
    command = TRAIN[:2] if profile == "big" else ("studies", "run", "all")
    answer = leandnn(*command, "--profile", profile)
    assert answer.returncode == 2
    assert f"invalid choice: '{profile}'" in answer.stderr


def test_a_bad_params_key_stops_the_command_with_its_path(leandnn: Run, repository: Path):
    path = repository / "params.yaml"
    path.write_text(path.read_text().replace("epochs: 1 ", "epochs: one ", 1))
    one_sentence(leandnn(*TRAIN), "params.yaml.smoke.epochs", "'one'", "an integer")


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        (["epochs=3", "seeds=0,1"], {"epochs": 3, "seeds": [0, 1]}),
        (["seeds=4"], {"seeds": [4]}),
        (["weight=0.5", "epochs=1", "epochs=2"], {"weight": 0.5, "epochs": 2}),
        (["epochs=-1"], {"epochs": -1}),
        ([], {}),
    ],
)
def test_settings_are_numbers_by_key(settings: list[str], found: dict[str, object]):
    assert studies.said(settings) == found


@pytest.mark.parametrize(
    "setting", ["", "epochs", "epochs=", "=3", "epochs=x", "epochs=1,2", "seeds=1,", "a=b=1"]
)
def test_a_setting_that_is_no_number_is_refused(setting: str):
    with pytest.raises(LeandnnError) as caught:
        studies.said([setting])
    assert str(caught.value) == f"--set is {setting!r}, expected KEY=NUMBER, or seeds=NUMBER,NUMBER,…"


def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(
        LeandnnError, match=r"device is 'cuda:99', but torch finds \d+ GPUs here, expected one of them"
    ):
        studies._device("cuda:99")


def test_a_file_of_digests_says_all_of_a_study(tmp_path: Path):
    path = tmp_path / "bf16-vision.json"
    budget = {"epochs": 1, "train_examples": 100, "test_examples": 10}
    document = {"study": "bf16-vision", "threads": 2, "budget": budget, "seeds": [5],
                "arms": {"fp32": "f", "bf16": "b"}}  # fmt: skip
    path.write_text(json.dumps(document))
    comparison, runs = studies._of_file(path)
    assert comparison.study == "bf16-vision"
    assert [(run.name, run.behaviour, run.budget, run.threads) for run in runs] == [
        ("fp32-s5", "f", budget, 2),
        ("bf16-s5", "b", budget, 2),
    ]
    for damage, words in (
        ("{", "says no study"),
        ("[]", "says no study"),
        (json.dumps({**document, "arms": {"fp32": "f"}}), r"says no study \(its arms are fp32\)"),
        (json.dumps({**document, "study": "bf16-gone"}), "study 'bf16-gone' is unknown"),
        (
            json.dumps({**document, "budget": {"epochs": 1}}),
            r"bf16-vision\.json\.budget\.train_examples is missing",
        ),
    ):
        path.write_text(damage)
        with pytest.raises(LeandnnError, match=words):
            studies._of_file(path)


@pytest.mark.slow
def test_a_damaged_prepared_file_stops_training_with_the_cure(leandnn: Run, repository: Path):
    path = repository / "data" / "prepared" / "cifar10.safetensors"
    content = bytearray(path.read_bytes())
    path.unlink()  # a link to the real file
    content[100_000] ^= 1
    for damaged in (bytes(content), b"\x10" + bytes(50)):
        path.write_bytes(damaged)
        one_sentence(leandnn(*TRAIN), "cifar10.safetensors", "leandnn data fetch cifar10")
    assert not (repository / "runs" / "bf16" / "vision").exists()


@pytest.mark.slow
def test_an_unwritable_folder_is_named_before_any_training(repository: Path):
    (repository / "runs").mkdir()
    (repository / "runs").chmod(0o555)
    code = OBEYED + (
        "import sys\n"
        "from leandnn.errors import LeandnnError\n"
        "from leandnn.studies import pipeline, runs, worker\n"
        "worker.command = lambda run: ['false']\n"
        "try:\n"
        "    pipeline.train([runs.Run('bf16-vision', 'fp32', {}, 0)])\n"
        "except LeandnnError as error:\n"
        "    sys.exit(f'leandnn: {error}')\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code],
        cwd=repository,
        env={**os.environ, "LEANDNN_ROOT": str(repository)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    one_sentence(answer, "runs", "Permission denied")
