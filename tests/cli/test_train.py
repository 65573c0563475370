"""`leandnn train` as a user meets it: kills, doubles, damage, bad arguments."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]
TRAIN = ("train", "bf16", "vision", "--profile", "smoke", "--train-examples", "384", "--test-examples", "20")


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
                and b"--run" in process.joinpath("cmdline").read_bytes()
            ):
                found.append(int(process.name))
        except OSError:  # it ended in between
            continue
    return found


@pytest.mark.slow
def test_a_comparison_writes_every_run_once_and_a_second_call_trains_nothing(leandnn: Run, repository: Path):
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
    assert not (repository / "reference").exists(), "only the active profile's costs are kept"
    left = sorted(p.suffix for p in (repository / "build" / "checkpoints").rglob("*") if p.is_file())
    assert left == [".json"] * 4, "no checkpoint is left of a finished run"


@pytest.mark.slow
def test_costs_of_the_active_profile_are_kept_even_when_the_runs_were_done_before(
    leandnn: Run, repository: Path
):
    params = repository / "params.yaml"
    text = params.read_text().replace("active: *laptop", "active: *smoke")
    params.write_text(text.replace("train_examples: 1280", "train_examples: 256"))
    titles = {f"bf16/vision/{arm}-s{seed}" for arm in ("bf16", "fp32") for seed in (0, 1)}
    for _ in range(2):
        assert leandnn("train", "bf16", "vision").returncode == 0
        (costs,) = (repository / "reference").glob("*/cost.json")
        assert set(json.loads(costs.read_text())["runs"]) == titles
        costs.unlink()
    costs.write_text('{"runs": []}')
    one_sentence(leandnn("train", "bf16", "vision"), "cost.json", "no cost file")


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


@pytest.mark.slow
def test_killed_in_mid_training_with_sigkill_it_resumes_to_the_same_digest(leandnn: Run, repository: Path):
    arguments = (
        "train", "bf16", "vision", "--profile", "smoke", "--seeds", "3", "--train-examples", "1280",
        "--test-examples", "20", "--epochs", "4",
    )  # fmt: skip
    assert leandnn(*arguments).returncode == 0
    unbroken = digests(repository)

    for path in (repository / "build" / "checkpoints").rglob("*.json"):
        path.unlink()
    command = subprocess.Popen(
        [sys.executable, "-m", "leandnn", *arguments],
        cwd=repository,
        env={**os.environ, "LEANDNN_ROOT": str(repository)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    checkpoints = repository / "build" / "checkpoints"
    while not list(checkpoints.rglob("*.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert workers_in(repository), "it is in mid-training"
    command.send_signal(signal.SIGKILL)
    command.wait()

    time.sleep(0.5)  # the workers die with their parent
    alive = subprocess.run(
        ["pgrep", "-f", f"train bf16 vision --run.*{repository.name}"], capture_output=True, check=False
    )
    assert alive.returncode == 1
    resumed = leandnn(*arguments)
    assert resumed.returncode == 0, resumed.stderr
    assert digests(repository) == unbroken


def test_a_second_process_on_the_same_comparison_is_refused_with_the_pid(leandnn: Run, repository: Path):
    lock = repository / "build" / "locks" / "train-bf16-vision.lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as stream:
        stream.write(f"{os.getpid()}\n")
        stream.flush()
        fcntl.flock(stream, fcntl.LOCK_EX)
        one_sentence(leandnn(*TRAIN), "bf16/vision is being trained", f"PID {os.getpid()}")
    assert not (repository / "runs" / "bf16" / "vision").exists()


@pytest.mark.slow
def test_a_damaged_result_and_a_damaged_checkpoint_are_named_and_the_rerun_works(
    leandnn: Run, repository: Path
):
    arguments = (*TRAIN, "--seeds", "0")
    assert leandnn(*arguments).returncode == 0
    good = digests(repository)
    done = next((repository / "build" / "checkpoints").rglob("fp32-s0-*.done.json"))
    done.write_text("{")
    one_sentence(leandnn(*arguments), done.name, "corrupt")
    done.with_name(done.name.replace(".done.json", ".ckpt")).write_bytes(b"leandnn1" + bytes(99))
    one_sentence(leandnn(*arguments), "fp32-s0", "checkpoint", "corrupt")
    assert leandnn(*arguments).returncode == 0
    assert digests(repository) == good


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train", "bf17", "vision"), ("'bf17'", "bf16")),
        (("train", "bf16", "visions"), ("'visions'", "vision")),
        (("train", "bf16", "vision", "--profile", "big"), ("'big'", "laptop")),
        (("train", "bf16", "vision", "--epochs", "0"), ("epochs is 0", "[1, 1000]")),
        (("train", "bf16", "vision", "--train-examples", "60000", "--workers", "1"), ("60000", "50000")),
        (("train", "bf16", "vision", "--threads", "0"), ("threads is 0", "[1, 1024]")),
        (("train", "bf16", "vision", "--workers", "0"), ("workers is 0", "1")),
        (("train", "bf16", "vision", "--device", "tpu"), ("'tpu'", "cuda")),
        (("data", "fetch", "cifar11"), ("'cifar11'", "cifar10")),
        (("data", "verify", "cifar100"), ("cifar100.safetensors", "leandnn data fetch cifar100")),
        (("bench", "speed"), ("'speed'", "train-step")),
        (("notebook", "run", "nowhere.ipynb", "build/x"), ("nowhere.ipynb",)),
    ],
)  # fmt: skip
def test_bad_arguments_are_one_sentence_with_both_values(leandnn: Run, arguments, words):
    one_sentence(leandnn(*arguments), *words)


def test_a_bad_params_key_stops_the_command_with_its_path(leandnn: Run, repository: Path):
    path = repository / "params.yaml"
    path.write_text(path.read_text().replace("epochs: 1 ", "epochs: one ", 1))
    one_sentence(leandnn(*TRAIN), "smoke.bf16.vision.epochs", "'one'", "an integer")


def test_a_damaged_prepared_file_stops_training_with_the_mending_command(leandnn: Run, repository: Path):
    path = repository / "data" / "prepared" / "cifar10.safetensors"
    content = bytearray(path.read_bytes())
    path.unlink()  # a link to the real file
    content[100_000] ^= 1
    for damaged in (bytes(content), b"\x10" + bytes(50)):
        path.write_bytes(damaged)
        one_sentence(leandnn(*TRAIN), "cifar10.safetensors", "leandnn data fetch cifar10")
    assert not (repository / "runs" / "bf16" / "vision").exists()


@pytest.mark.slow
def test_a_folder_that_may_not_be_written_is_named_before_any_training(repository: Path):
    """As an unprivileged user: root ignores permission bits."""
    (repository / "runs").mkdir()
    (repository / "runs").chmod(0o555)
    code = (
        "import os, sys\n"
        "from leandnn.bf16.study import COMPARISONS\n"  # imported while the files can be read
        "from leandnn.errors import LeandnnError\n"
        "from leandnn.params import TrainBudget\n"
        "from leandnn.studies import pipeline as runner\n"
        "if os.getuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "budget = TrainBudget(epochs=1, train_examples=256, test_examples=20, seeds=(0,))\n"
        "try:\n"
        "    runner.train_comparison(COMPARISONS['vision'], budget, threads=1, data_digests={},\n"
        "                            worker_command=lambda run, key: ['false'])\n"
        "except LeandnnError as error:\n"
        "    sys.exit(f'leandnn: {error}')\n"
    )
    for folder in (repository, *list(repository.parents)[:-2]):
        folder.chmod(folder.stat().st_mode | 0o055)
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
