"""Unreadable images are counted once, whoever meets them, and a killed run does not forget them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from tests.data import jpegs
from torch import nn

from leandnn.data import imagenet
from leandnn.data.imagenet import Batches, scan
from leandnn.tasks.imagenet import FolderClassification, Unreadable
from leandnn.train import distributed
from leandnn.train.loop import train
from leandnn.train.task import Settings

SETTINGS = Settings(epochs=1, lr=0.01, momentum=0.0)


def task(root: Path) -> FolderClassification:
    splits = scan(root)
    made = [
        Batches(split, 2, size=16, augment=split.name == "train", seed=0, unreadable="skip")
        for split in splits
    ]
    return FolderClassification(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 2)), *made)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six training images; the first that epoch 0 takes and one of the val split are broken."""
    jpegs.write(tmp_path / "images", classes=2, train=3, val=1)
    made = task(tmp_path / "images")
    first = int(torch.randperm(6, generator=imagenet._generator(0, 0))[0])
    for path in (made.train.split.files[first], made.val.split.files[0]):
        Path(path).write_bytes(b"")
    return tmp_path / "images"


class Killed(Exception):
    """Stands for a SIGKILL."""


def test_a_killed_run_counts_what_it_met_before_its_death(root: Path, tmp_path: Path):
    def run(**changes: object) -> dict[str, float]:
        made = task(root)
        return train(made, SETTINGS, (Unreadable(made),), **changes).metrics

    whole = run()
    assert whole["unreadable_images"] == 2

    def killed(done: int, total: int, text: str) -> None:
        if done == 2:
            raise Killed

    path = tmp_path / "run.ckpt"
    with pytest.raises(Killed):
        run(checkpoint_path=path, checkpoint_every_s=-1.0, progress=killed)
    assert run(checkpoint_path=path) == whole


def test_what_several_processes_met_is_counted_once(root: Path, monkeypatch: pytest.MonkeyPatch):
    made = task(root)
    shared = made.val.split.files[0]

    def gathered(every: list[dict[str, str]], own: dict[str, str]) -> None:
        every[0], every[1] = own, {shared: "OSError", "/elsewhere.JPEG": "OSError"} if own else {}

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_gather_object", gathered)
    assert distributed.merged({}) == {}
    assert set(distributed.merged({shared: "OSError"})) == {shared, "/elsewhere.JPEG"}
