"""The classifier in whose features images are judged: constant, kept with its digest, refused when damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from leandnn.data import cifar
from leandnn.errors import LeandnnError
from leandnn.models.resnet_small import SmallResNet
from leandnn.tasks import image_judge
from leandnn.tasks.image_judge import FILE, ImageFeatures
from leandnn.train import checkpoint


@pytest.fixture
def net() -> SmallResNet:
    torch.manual_seed(0)
    return SmallResNet()


def images(count: int) -> torch.Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_features_are_those_of_the_classifier(net: SmallResNet):
    yardstick = ImageFeatures(net)
    x = images(4)
    normalised = (x - torch.tensor(cifar.MEAN).view(3, 1, 1)) / torch.tensor(cifar.STD).view(3, 1, 1)
    pooled, logits = yardstick(x)
    torch.testing.assert_close(logits, net.eval()(normalised), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(net.classifier(pooled), logits)
    assert pooled.shape == (4, 128)
    assert yardstick.maps(x).shape == (4, 32, 16, 16)


def test_the_yardstick_never_learns(net: SmallResNet):
    yardstick = ImageFeatures(net).train()
    assert not any(module.training for module in yardstick.modules())
    x = images(4).requires_grad_()
    before = checkpoint.weights_sha256(net)
    yardstick(x)[0].sum().backward()
    assert x.grad is not None
    assert float(x.grad.abs().sum()) > 0  # it can be part of a loss
    assert all(p.grad is None for p in yardstick.parameters())
    assert checkpoint.weights_sha256(net) == before


def test_a_kept_classifier_comes_back_bit_by_bit(tmp_path: Path, net: SmallResNet):
    image_judge.save(net, tmp_path / FILE)
    again = image_judge.load(tmp_path / FILE)
    assert torch.equal(again(images(4))[1], ImageFeatures(net)(images(4))[1])
    assert image_judge.digest(tmp_path / FILE) == checkpoint.weights_sha256(net)
    image_judge.save(again.net.to(memory_format=torch.channels_last), tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / FILE).read_bytes()


def test_a_missing_classifier_says_how_it_is_made(tmp_path: Path):
    with pytest.raises(
        LeandnnError, match=r"model\.safetensors, .* is missing: run `dvc repro train-features`"
    ):
        image_judge.load(tmp_path / FILE)


def test_a_damaged_classifier_is_refused(tmp_path: Path, net: SmallResNet):
    path = tmp_path / FILE
    image_judge.save(net, path)
    whole = path.read_bytes()
    for content in (b"", b"no header", whole[: len(whole) // 2], whole[:400]):
        path.write_bytes(content)
        with pytest.raises(LeandnnError, match="is damaged or of another net"):
            image_judge.load(path)
    flipped = bytearray(whole)
    flipped[-5] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(LeandnnError, match="has weights with SHA-256 .*, expected .*train-features"):
        image_judge.load(path)


def test_another_net_is_refused_and_so_is_one_without_a_digest(tmp_path: Path, net: SmallResNet):
    path = tmp_path / FILE
    image_judge.save(SmallResNet((8, 16), stem=4), path)
    with pytest.raises(LeandnnError, match="of another net"):
        image_judge.load(path)
    path.write_bytes(safetensors.torch.save(dict(net.state_dict())))
    with pytest.raises(LeandnnError, match="expected None"):
        image_judge.load(path)


def test_training_the_classifier_is_reproducible_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cifar, "load", lambda name, split, count: cifar.synthetic(split, count))
    kept = [tmp_path / "a", tmp_path / "b"]
    for out in kept:
        accuracy = image_judge.train(out, epochs=1, train_examples=640, test_examples=100)
    assert (kept[0] / FILE).read_bytes() == (kept[1] / FILE).read_bytes()
    noted = json.loads((kept[0] / "metrics.json").read_text())
    assert noted["metrics"]["test_accuracy"] == accuracy
    assert noted["budget"] == {
        "epochs": 1,
        "train_examples": 640,
        "test_examples": 100,
        "seed": image_judge.SEED,
    }
