"""Checkpoints: whole or refused, never run code, never half-written."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path

import pytest
import torch

from leandnn.errors import LeandnnError
from leandnn.train import checkpoint

STATE = {"model": {"w": torch.arange(6.0).view(2, 3)}, "epoch": 3, "history": [{"loss": 0.5}], "text": "x"}


def test_a_state_comes_back_and_its_bytes_depend_on_no_name(tmp_path: Path):
    a, b = tmp_path / "a.ckpt", tmp_path / "folder" / "another.ckpt"
    checkpoint.save(a, STATE)
    checkpoint.save(b, STATE)
    loaded = checkpoint.load(a)
    assert torch.equal(loaded["model"]["w"], STATE["model"]["w"])
    assert {k: loaded[k] for k in ("epoch", "history", "text")} == {
        k: STATE[k] for k in ("epoch", "history", "text")
    }
    assert a.read_bytes() == b.read_bytes()


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b[:-1],
        lambda b: b[:20],
        lambda b: b"",
        lambda b: b[:100] + bytes([b[100] ^ 1]) + b[101:],
        lambda b: b"notours!" + b[8:],
    ],
    ids=["last byte lost", "in the digest", "empty", "one bit", "foreign"],
)
def test_a_damaged_checkpoint_is_named_and_moved_aside(tmp_path: Path, damage):
    path = tmp_path / "run.ckpt"
    checkpoint.save(path, STATE)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(LeandnnError, match=r"run\.ckpt is corrupt .*expected .*run\.ckpt\.corrupt"):
        checkpoint.load(path)
    assert not path.exists()
    assert (tmp_path / "run.ckpt.corrupt").exists()


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path):
    mark = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {mark}",)

    payload = pickle.dumps(Evil(), protocol=2)
    path = tmp_path / "run.ckpt"
    path.write_bytes(checkpoint.MAGIC + hashlib.sha256(payload).digest() + payload)
    with pytest.raises(LeandnnError, match="corrupt"):
        checkpoint.load(path)
    assert not mark.exists()


def test_weights_digest_ignores_memory_layout_and_sees_every_bit():
    conv = torch.nn.Conv2d(3, 4, 3)
    digest = checkpoint.weights_sha256(conv)
    assert checkpoint.weights_sha256(conv.to(memory_format=torch.channels_last)) == digest
    with torch.no_grad():
        conv.weight[0, 0, 0, 0] = conv.weight[0, 0, 0, 0].nextafter(torch.tensor(9.0))
    assert checkpoint.weights_sha256(conv) != digest
