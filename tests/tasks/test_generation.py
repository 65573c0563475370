"""DC-GAN as a task: losses of two players, noise by place, metrics apart from the arm, a run that learns."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from leandnn.bf16 import Policy, emulate
from leandnn.bf16.hook import Emulation
from leandnn.data import cifar
from leandnn.errors import LeandnnError
from leandnn.models.generative import Adversaries, Discriminator, Generator, Verdicts
from leandnn.models.resnet_small import SmallResNet
from leandnn.tasks import generation
from leandnn.tasks.generation import Generation, noise, players_losses
from leandnn.tasks.image_judge import ImageFeatures
from leandnn.train.loop import train
from leandnn.train.task import Settings

SETTINGS = Settings(epochs=4, lr=1e-3, optimizer="adam", betas=(0.5, 0.999), schedule="linear")


@pytest.fixture(scope="module")
def yardstick() -> ImageFeatures:
    """A net as it is made: its features, too, tell unlike images apart."""
    torch.manual_seed(0)
    return ImageFeatures(SmallResNet())


def players() -> Adversaries:
    return Adversaries(Generator(8, 8), Discriminator(8))


def task(yardstick: ImageFeatures, train: int = 256, test: int = 100, seed: int = 0) -> Generation:
    return Generation(
        players,
        cifar.synthetic("train", train),
        cifar.synthetic("test", test),
        features=yardstick,
        latent=8,
        batch_size=16,
        seed=seed,
        device="cpu",
    )


def test_losses_are_cross_entropies():
    torch.manual_seed(0)
    real, made, through = torch.randn(3, 7)
    discriminator, generator = players_losses(Verdicts(torch.zeros(7, 3, 32, 32), real, made, through))
    ones, zeros = torch.ones(7), torch.zeros(7)
    cross_entropy = F.binary_cross_entropy_with_logits
    torch.testing.assert_close(discriminator, cross_entropy(real, ones) + cross_entropy(made, zeros))
    torch.testing.assert_close(generator, cross_entropy(through, ones))


def test_noise_is_a_function_of_seed_epoch_and_step(yardstick: ImageFeatures):
    job = task(yardstick)
    whole = [list(job.batches(epoch, 0)) for epoch in (0, 1)]
    for epoch, step in ((0, 5), (1, 15)):
        source, images = next(task(yardstick).batches(epoch, step))
        assert torch.equal(source, whole[epoch][step][0])
        assert torch.equal(images, whole[epoch][step][1])
    sources = [batch[0] for batches in whole for batch in batches]
    sources += [next(task(yardstick, seed=1).batches(0, 0))[0], noise(16, 8, 0, 1)]
    assert len({tuple(source[0].tolist()) for source in sources}) == len(sources) == 34
    drawn = torch.cat(sources)
    assert float(drawn.mean()) == pytest.approx(0.0, abs=0.06)
    assert float(drawn.std()) == pytest.approx(1.0, abs=0.06)


def test_images_are_scaled_to_the_range_of_tanh(yardstick: ImageFeatures):
    _, images = next(task(yardstick).batches(0, 0))
    assert -1.0 <= float(images.min()) < -0.9
    assert 0.9 < float(images.max()) <= 1.0


def flat(count: int) -> cifar.Images:
    """Images of one colour each, any colour: soon learned."""
    generator = torch.Generator().manual_seed(count)
    colours = torch.randint(0, 256, (count, 3, 1, 1), generator=generator, dtype=torch.uint8)
    return cifar.Images(colours.expand(-1, -1, 32, 32).contiguous(), torch.zeros(count, dtype=torch.int64))


def test_both_players_learn_and_the_distance_falls(yardstick: ImageFeatures):
    images = flat(960), flat(100)
    job = Generation(players, *images, features=yardstick, latent=8, batch_size=16, seed=0, device="cpu")
    start = job.evaluate(job.build().eval())
    result = train(job, SETTINGS)
    metrics = result.metrics
    assert metrics["test_frechet_distance"] < 0.35 * start["test_frechet_distance"]
    assert metrics["test_frechet_distance"] < 0.35 * job.worst()["test_frechet_distance"]
    assert metrics["test_inception_style_score"] > start["test_inception_style_score"]
    for row in result.history:
        total = row["discriminator_loss"] + row["generator_loss"]
        assert row["train_loss"] == pytest.approx(total, rel=1e-5)
    assert float(result.model.get_buffer("score").sum()) == 0.0


def test_a_run_is_the_same_bit_by_bit_when_it_is_resumed(tmp_path: Path, yardstick: ImageFeatures):
    settings = dataclasses.replace(SETTINGS, epochs=2)
    whole = train(task(yardstick), settings)
    path = tmp_path / "run.ckpt"

    def kill(done: int, total: int, text: str) -> None:
        if done == 21:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(task(yardstick), settings, checkpoint_path=path, checkpoint_every_s=0.0, progress=kill)
    resumed = train(task(yardstick), settings, checkpoint_path=path)
    assert resumed.weights_sha256 == whole.weights_sha256
    assert resumed.history == whole.history
    assert resumed.trace == whole.trace


def test_metrics_are_measured_apart_from_the_arms_arithmetic(yardstick: ImageFeatures):
    """Equal images get equal metrics under any policy; the images themselves do feel it."""
    images = cifar.synthetic("test", 100).images / 255
    job = task(yardstick)
    model = job.build().eval()
    plain = job.judge(images), job.evaluate(model)
    for policy in (Policy.paper(), Policy.truncate()):
        other = task(yardstick)  # which has yet to see the test images
        with emulate(model, policy):
            assert other.judge(images) == plain[0]
            assert other.evaluate(model) != plain[1]
        assert other.truth.mean.tolist() == job.truth.mean.tolist()
    with torch.autocast("cpu", torch.bfloat16):
        assert task(yardstick).judge(images) == plain[0]


def test_it_trains_under_emulation(yardstick: ImageFeatures):
    settings = dataclasses.replace(SETTINGS, epochs=1)
    arms = [train(task(yardstick), settings, (Emulation(p),)) for p in (Policy.fp32(), Policy.paper())]
    assert arms[0].metrics != arms[1].metrics
    assert all(math.isfinite(value) for value in arms[1].metrics.values())


def test_test_images_are_near_themselves_and_grey_is_far(yardstick: ImageFeatures):
    job = task(yardstick)
    same = job.judge(cifar.synthetic("test", 100).images / 255)
    fresh = job.judge(cifar.synthetic("test", 100, seed=1).images / 255)
    grey = job.worst()
    assert same["test_frechet_distance"] == pytest.approx(0.0, abs=1e-4)
    assert fresh["test_frechet_distance"] < 0.2 * grey["test_frechet_distance"]
    assert grey["test_inception_style_score"] == pytest.approx(1.0)


class Broken(nn.Module):
    def forward(self, source: torch.Tensor) -> torch.Tensor:
        return torch.full((len(source), 3, 32, 32), math.nan)


def test_images_that_are_not_finite_become_a_named_metric(yardstick: ImageFeatures):
    found = task(yardstick).evaluate(Adversaries(Broken(), Discriminator(8)).eval())
    assert math.isnan(found["test_frechet_distance"])


def test_one_test_image_has_no_distance(yardstick: ImageFeatures):
    with pytest.raises(LeandnnError, match="there are 1 test images, expected at least 2"):
        task(yardstick, test=1)


def test_a_batch_larger_than_the_data_is_refused(yardstick: ImageFeatures):
    with pytest.raises(LeandnnError, match="the batch size is 16, expected 1 to 8"):
        task(yardstick, train=8)


def test_the_score_counts_rounds():
    model = players()
    assert generation.read_score(model) == {}
    for value in (1.0, 3.0):
        generation.keep_score(model, torch.tensor(value), torch.tensor(2 * value))
    assert generation.read_score(model) == {"discriminator_loss": 2.0, "generator_loss": 4.0}
    assert generation.read_score(model) == {}
