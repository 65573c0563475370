"""Several processes train as one does: averaged gradients, one checkpoint, and going on after a death."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch
from tests.data import jpegs

from leandnn.autosparse import imagenet
from leandnn.errors import LeandnnError
from leandnn.train import loop
from leandnn.train.distributed import World, group

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return jpegs.write(tmp_path_factory.mktemp("images"), classes=4, train=16, val=6)


def arguments(images: Path, out: Path, **changes: object) -> list[str]:
    said = {
        "data": images, "net": "small_mobilenet", "size": 32, "epochs": 3, "batch": 16, "lr": 0.05, "amp": "none",
        "device": "cpu", "workers": 0, "checkpoint-minutes": 0.0001, "out": out, **changes,
    }  # fmt: skip
    return [text for name, value in said.items() for text in (f"--{name}", str(value))]


def torchrun(root: Path, said: list[str], restarts: int = 0) -> subprocess.Popen[str]:
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        "--max-restarts", str(restarts), "-m", "leandnn.autosparse.imagenet", *said,
    ]  # fmt: skip
    environment = {
        **os.environ, "LEANDNN_ROOT": str(root), "OMP_NUM_THREADS": "1",
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
    }  # fmt: skip
    return subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


@pytest.fixture
def running() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that a failing test must not leave behind."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        if process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
            process.wait()


def of_rank(agent: int, rank: int) -> psutil.Process:
    for child in psutil.Process(agent).children(recursive=True):
        if child.environ().get("RANK") == str(rank):
            return child
    raise AssertionError(f"no process has rank {rank}")


def result(out: Path) -> dict[str, object]:
    document = json.loads((out / "metrics.json").read_text())
    return {key: document[key] for key in ("metrics", "weights_sha256", "steps")}


def test_a_run_with_a_killed_rank_ends_as_an_unbroken_one(
    tmp_path: Path, running: list[subprocess.Popen[str]]
):
    """Two gloo processes; one is killed by SIGKILL in the middle, torchrun starts both again."""
    images = jpegs.write(tmp_path / "images", classes=4, train=16, val=6)
    (images / "train" / "class001" / "0003.JPEG").write_bytes(b"not an image")
    said = {"epochs": 6, "unreadable": "skip"}
    whole = torchrun(tmp_path / "a", arguments(images, tmp_path / "whole", **said))
    running.append(whole)
    text, _ = whole.communicate(timeout=150)
    assert whole.returncode == 0, text[:4000]

    broken = torchrun(tmp_path / "b", arguments(images, tmp_path / "broken", **said), restarts=1)
    running.append(broken)
    folder = tmp_path / "b" / "build" / "checkpoints" / "autosparse-imagenet"
    deadline = time.monotonic() + 120
    while not list(folder.glob("*.ckpt")):
        assert broken.poll() is None, broken.communicate()[0][:4000]
        assert time.monotonic() < deadline, "no checkpoint came"
        time.sleep(0.05)
    victim = of_rank(broken.pid, 1)
    victim.send_signal(signal.SIGKILL)
    text, _ = broken.communicate(timeout=150)
    assert broken.returncode == 0, text[:4000]
    assert f"pid: {victim.pid}" in text or "SIGKILL" in text or "-9" in text, "the agent saw the death"
    assert result(tmp_path / "broken") == result(tmp_path / "whole")
    assert (tmp_path / "broken" / "history.csv").read_text() == (
        tmp_path / "whole" / "history.csv"
    ).read_text()
    assert not list(folder.glob("*.ckpt"))
    document = json.loads((tmp_path / "broken" / "metrics.json").read_text())
    assert document["metrics"]["unreadable_images"] == 1, "once, though both processes met it"


def test_two_processes_equal_one_that_accumulates_their_batches(
    tmp_path: Path, images: Path, running: list[subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
):
    """Parameters after training: world 2 against one process with the same two micro-batches per update."""
    saved = {}
    real = loop.train

    def kept(*args, **kwargs):
        found = real(*args, **kwargs)
        saved.update({n: p.detach().clone() for n, p in found.model.named_parameters()})
        return found

    monkeypatch.setattr(loop, "train", kept)
    monkeypatch.setattr(imagenet.paths, "CHECKPOINTS", tmp_path / "alone" / "checkpoints")
    said = {"epochs": 1, "accumulate": 2}
    assert imagenet.main(arguments(images, tmp_path / "alone" / "out", **said)) == 0
    alone = dict(saved)

    script = tmp_path / "two.py"
    script.write_text(
        "import sys, torch\n"
        "from leandnn.autosparse import imagenet\n"
        "from leandnn.train import distributed, loop\n"
        "real = loop.train\n"
        "def kept(*a, **k):\n"
        "    found = real(*a, **k)\n"
        "    if distributed.rank() == 0:\n"
        f"        torch.save(dict(found.model.named_parameters()), {str(tmp_path / 'two.pt')!r})\n"
        "    return found\n"
        "loop.train = kept\n"
        "sys.exit(imagenet.main(sys.argv[1:]))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script),
         *arguments(images, tmp_path / "two", epochs=1)],
        cwd=REPOSITORY, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "LEANDNN_ROOT": str(tmp_path / "root"), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    running.append(process)
    text, _ = process.communicate(timeout=150)
    assert process.returncode == 0, text[:4000]
    two = torch.load(tmp_path / "two.pt", weights_only=True)
    assert set(two) == set(alone)
    for name, parameter in two.items():
        assert torch.allclose(parameter, alone[name], rtol=1e-4, atol=1e-5), name
    torch.manual_seed(0)
    start = dict(imagenet.NETS["small_mobilenet"](4).named_parameters())["features.0.weight"]
    moved = (two["features.0.parametrizations.weight.original"] - start).abs().max()
    assert moved > 100 * 1e-5, "they moved by far more than the tolerance"


def test_one_process_needs_no_torchrun_and_goes_on_where_it_was(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(imagenet.paths, "CHECKPOINTS", tmp_path / "checkpoints")
    out = tmp_path / "out"
    assert imagenet.main(arguments(images, out, epochs=1)) == 0
    document = json.loads((out / "metrics.json").read_text())
    assert document["arm"] == "small_mobilenet-autosparse"
    assert document["budget"] == {
        "epochs": 1, "train_examples": 64, "test_examples": 24, "batch": 16, "accumulate": 1, "lr": 0.05,
        "size": 32, "amp": "none", "target": None,
    }  # fmt: skip
    assert document["inputs"] == {"processes": "1"}
    assert {"test_accuracy", "test_top5_accuracy", "unreadable_images", "train_macs"} <= set(
        document["metrics"]
    )
    assert imagenet.main(arguments(images, out, epochs=1)) == 0
    assert "holds a finished run" in capsys.readouterr().out
    assert imagenet.main(arguments(images, out, epochs=1, lr=0.1)) == 1
    assert "holds a run of lr 0.05, expected 0.1: --out names another folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"data": "/nowhere"}, "/nowhere/train cannot be read"),
        ({"batch": 15, "accumulate": 2}, "batch of 15 does not divide among 1 processes with 2"),
        ({"arm": "str"}, "STR's settings for small_mobilenet are not known, expected one of resnet50"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    tmp_path: Path, images: Path, changes: dict[str, object], match: str, capsys: pytest.CaptureFixture[str]
):
    assert imagenet.main(arguments(images, tmp_path / "out", **changes)) == 1
    error = capsys.readouterr().err
    assert match in error
    assert error.count("\n") == 1


def test_a_group_without_torchrun_is_a_world_of_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("RANK", raising=False)
    with group("cpu") as world:
        assert world == World(0, 1, "cpu")


def test_an_environment_that_torchrun_did_not_make_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(LeandnnError, match="RANK is set, but 'WORLD_SIZE' is missing"), group("cpu"):
        pass


def test_restarts_that_cannot_work_are_refused_at_the_start(monkeypatch: pytest.MonkeyPatch):
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    with pytest.raises(LeandnnError, match="restart this 3 times.*SHARE_RDZV_TCP_STORE=1"), group("cpu"):
        pass


def test_a_lost_process_is_one_sentence(monkeypatch: pytest.MonkeyPatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "29673")
    with (
        pytest.raises(LeandnnError, match=r"process 0 lost another one .*closed by peer.*--max-restarts"),
        group("cpu"),
    ):
        raise RuntimeError("[pair.cc:1] Connection closed by peer [127.0.0.1]:1")
    with pytest.raises(RuntimeError, match="something else"), group("cpu"):
        raise RuntimeError("something else")
