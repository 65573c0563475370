"""The BF16 bench refuses to measure a step that does not round as it should."""

from __future__ import annotations

import pytest

from leandnn.bench.bf16 import train_step
from leandnn.bf16.domains import vision
from leandnn.data import cifar
from leandnn.errors import LeandnnError
from leandnn.kernels import Format, round_to
from leandnn.params import Budget
from leandnn.studies.comparison import Scale, Trial


def trial(arm: str, images: cifar.Pair) -> Trial:
    return vision.COMPARISONS["vision"].arms[arm](Budget(1, 256, 20), Scale(0), images)


@pytest.mark.slow
def test_the_bench_refuses_to_measure_an_unrounded_step(monkeypatch: pytest.MonkeyPatch):
    images = cifar.synthetic("train", 256), cifar.synthetic("test", 20)
    monkeypatch.setattr(train_step, "trial", lambda name, arm: trial(arm, images))
    train_step.check("vision")
    monkeypatch.setattr(train_step, "trial", lambda name, arm: trial("fp32", images))
    with pytest.raises(LeandnnError, match="vision: .* nothing was rounded"):
        train_step.check("vision")


def test_a_peers_step_must_round_as_ours_does(monkeypatch: pytest.MonkeyPatch):
    images = cifar.synthetic("train", 256), cifar.synthetic("test", 20)
    monkeypatch.setattr(train_step, "trial", lambda name, arm: trial(arm, images))
    train_step.check_peer("vision", "exact", lambda x: x.bfloat16().float())
    for name, peer in (("idle", lambda x: x.clone()), ("coarse", lambda x: round_to(x, Format(8, 1)))):
        with pytest.raises(LeandnnError, match=f"vision: {name} does not round to the nearest BF16 number"):
            train_step.check_peer("vision", name, peer)
    monkeypatch.setattr(train_step, "trial", lambda name, arm: trial("fp32", images))
    with pytest.raises(LeandnnError, match="vision: exact was not called by the emulated step"):
        train_step.check_peer("vision", "exact", lambda x: x.bfloat16().float())
