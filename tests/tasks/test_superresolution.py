"""SR-GAN as a task: the three terms of its loss, PSNR and SSIM apart from the arm, a run that beats bicubic."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from leandnn.bf16 import Policy, emulate
from leandnn.bf16.hook import Emulation
from leandnn.data import cifar
from leandnn.models.generative import Adversaries, Discriminator, SuperResolver
from leandnn.models.resnet_small import SmallResNet
from leandnn.tasks.image_judge import ImageFeatures
from leandnn.tasks.superresolution import SuperResolution, bicubic, shrink
from leandnn.train.loop import train
from leandnn.train.task import Settings

SETTINGS = Settings(epochs=2, lr=2e-3, optimizer="adam", betas=(0.5, 0.999), schedule="linear")


def chequered(count: int) -> cifar.Images:
    """Squares of 4×4 pixels of any colours: their sharp edges are something to know that bicubic does not."""
    generator = torch.Generator().manual_seed(count)
    colours = torch.randint(0, 256, (count, 3, 8, 8), generator=generator, dtype=torch.uint8)
    images = colours.repeat_interleave(4, 2).repeat_interleave(4, 3)
    return cifar.Images(images, torch.zeros(count, dtype=torch.int64))


def players() -> Adversaries:
    return Adversaries(SuperResolver(8, 1), Discriminator(8))


def task(content: float = 0.01, adversarial: float = 1e-3, train: int = 128) -> SuperResolution:
    torch.manual_seed(0)
    return SuperResolution(
        players,
        chequered(train),
        chequered(60),
        features=ImageFeatures(SmallResNet()),
        content=content,
        adversarial=adversarial,
        batch_size=8,
        seed=0,
        device="cpu",
    )


def test_small_images_are_what_a_file_of_8_bits_holds():
    images = chequered(4).images / 127.5 - 1
    small = shrink(images)
    assert small.shape == (4, 3, 16, 16)
    pixels = (small + 1) * 127.5
    torch.testing.assert_close(pixels, pixels.round(), rtol=0, atol=1e-4)
    flat = torch.full((1, 3, 32, 32), 0.25)
    torch.testing.assert_close(shrink(flat), torch.full((1, 3, 16, 16), round(1.25 * 127.5) / 127.5 - 1))
    assert float(shrink(images).abs().max()) <= 1.0  # bicubic overshoots; a file cannot
    assert float(bicubic(small).abs().max()) <= 1.0


def test_batches_are_pairs_of_small_and_whole_images():
    job = task()
    whole = list(job.batches(1, 0))
    assert len(whole) == job.steps_per_epoch() == 16
    small, images = next(job.batches(1, 9))
    assert torch.equal(small, whole[9][0])
    assert torch.equal(images, whole[9][1])
    assert torch.equal(small, shrink(images))
    assert small.shape == (8, 3, 16, 16)


def test_the_loss_is_the_sum_of_its_terms():
    batch = next(task().batches(0, 0))
    pixels, content, adversarial = (
        float(task(c, a).loss(players_from(1), batch).detach()) for c, a in ((0, 0), (1, 0), (0, 1))
    )
    together = float(task(0.3, 0.02).loss(players_from(1), batch).detach())
    expected = pixels + 0.3 * (content - pixels) + 0.02 * (adversarial - pixels)
    assert together == pytest.approx(expected, rel=1e-5)
    # What is left without both: the discriminator's loss and the squared error.
    model, job = players_from(1), task(0, 0)
    with torch.no_grad():
        verdicts = model(*batch)
    rest = F.softplus(-verdicts.on_real).mean() + F.softplus(verdicts.on_made).mean()
    assert pixels == pytest.approx(float(rest + F.mse_loss(verdicts.made, batch[1])), rel=1e-5)
    # The content's term is 0 where the images are right, and nowhere else.
    maps = job.features.maps((batch[1] + 1) / 2)
    assert content - pixels == pytest.approx(
        float(F.mse_loss(job.features.maps((verdicts.made + 1) / 2), maps)), rel=1e-3
    )
    assert content > pixels


def players_from(seed: int) -> Adversaries:
    torch.manual_seed(seed)
    return players()


def test_the_yardstick_takes_no_gradient():
    for content, adversarial in ((0, 0), (1, 0), (0, 1)):
        job, model = task(content, adversarial), players_from(1)
        torch.nn.init.normal_(model.generator.get_parameter("leave.weight"), 0, 0.1)  # it starts at 0
        job.loss(model, next(job.batches(0, 0))).backward()
        assert all(p.grad is None for p in job.features.parameters())
        assert all(float(p.grad.abs().sum()) > 0 for p in model.parameters() if p.grad is not None)
        assert all(p.grad is not None for p in model.parameters())


def test_a_run_beats_bicubic_interpolation():
    job = task(train=320)
    start = job.evaluate(job.build().eval())
    assert start["test_psnr"] == pytest.approx(start["test_bicubic_psnr"], abs=0.01)
    result = train(job, SETTINGS)
    assert result.metrics["test_psnr"] > result.metrics["test_bicubic_psnr"] + 5.0
    assert result.metrics["test_ssim"] > start["test_ssim"]
    worst = job.worst()
    assert worst["test_psnr"] < start["test_psnr"] - 5
    assert worst["test_ssim"] < start["test_ssim"]
    assert set(worst) == {"test_psnr", "test_ssim", "test_bicubic_psnr"}
    assert {"discriminator_loss", "generator_loss"} <= set(result.history[0])


def test_a_run_is_the_same_bit_by_bit_when_it_is_resumed(tmp_path: Path):
    settings = dataclasses.replace(SETTINGS, epochs=1)
    whole = train(task(), settings)
    path = tmp_path / "run.ckpt"

    def kill(done: int, total: int, text: str) -> None:
        if done == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(task(), settings, checkpoint_path=path, checkpoint_every_s=0.0, progress=kill)
    resumed = train(task(), settings, checkpoint_path=path)
    assert resumed.weights_sha256 == whole.weights_sha256
    assert resumed.history == whole.history


def test_metrics_are_measured_apart_from_the_arms_arithmetic():
    """SSIM is made of convolutions, which an emulation would round."""
    images = bicubic(shrink(chequered(60).images / 127.5 - 1))
    plain = task().judge(images)
    model = players_from(1).eval()
    assert plain["test_psnr"] == pytest.approx(plain["test_bicubic_psnr"])
    for policy in (Policy.paper(), Policy.truncate()):
        with emulate(model, policy):
            assert task().judge(images) == plain
    with torch.autocast("cpu", torch.bfloat16):
        assert task().judge(images) == plain


def test_it_trains_with_the_content_loss_emulated_too():
    settings = dataclasses.replace(SETTINGS, epochs=1)
    arms = [train(task(), settings, (Emulation(p),)) for p in (Policy.fp32(), Policy.paper())]
    assert arms[0].metrics != arms[1].metrics
    assert all(math.isfinite(value) for value in arms[1].metrics.values())
    job, images = task(), chequered(4).images / 255
    model, plain = job.build(), job.features.maps(images)
    with emulate(model, Policy.paper()):
        assert not torch.equal(job.features.maps(images), plain)


def test_images_that_are_not_finite_become_a_named_metric():
    model = players_from(1).eval()
    torch.nn.init.constant_(model.generator.get_parameter("leave.bias"), math.nan)
    assert math.isnan(task().evaluate(model)["test_psnr"])
