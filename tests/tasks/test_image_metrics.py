"""Measures of generated images, against closed forms, scipy and definitions written out."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import scipy.linalg
import torch
import torch.nn.functional as F

from leandnn.bf16 import Policy, emulate
from leandnn.errors import LeandnnError
from leandnn.tasks.image_metrics import (
    Gaussian,
    frechet_distance,
    inception_style_score,
    plain_fp32,
    psnr,
    ssim,
)


def features(count: int, size: int, seed: int) -> torch.Tensor:
    """Correlated features with a mean of their own."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(size, size, generator=generator)
    return torch.randn(count, size, generator=generator) @ mixing + torch.randn(size, generator=generator)


def test_a_gaussian_is_mean_and_unbiased_covariance():
    x = features(50, 4, 0)
    found = Gaussian.of(x)
    np.testing.assert_allclose(found.mean, x.double().numpy().mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.covariance, np.cov(x.double().numpy().T), rtol=1e-12)


def test_the_distance_is_that_of_the_definition():
    a, b = Gaussian.of(features(400, 12, 0)), Gaussian.of(features(300, 12, 1))
    root = scipy.linalg.sqrtm(a.covariance @ b.covariance)
    expected = ((a.mean - b.mean) ** 2).sum() + np.trace(a.covariance + b.covariance - 2 * root.real)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-9)


def test_the_distance_of_scaled_and_moved_gaussians_is_known():
    """Of N(m, s² C) from N(0, C) it is |m|² + (1 - s)² tr C."""
    a = Gaussian.of(features(100, 5, 0))
    moved = Gaussian(a.mean + 2.0, 9.0 * a.covariance)
    assert frechet_distance(a, moved) == pytest.approx(5 * 4 + 4 * np.trace(a.covariance), rel=1e-9)
    assert frechet_distance(a, a) == pytest.approx(0.0, abs=1e-9)
    point = Gaussian(a.mean, np.zeros((5, 5)))
    assert frechet_distance(a, point) == pytest.approx(np.trace(a.covariance), rel=1e-9)


def test_covariances_without_full_rank_do_no_harm():
    few = Gaussian.of(features(4, 12, 0))
    assert math.isfinite(frechet_distance(few, Gaussian.of(features(5, 12, 1))))
    assert frechet_distance(few, few) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("shape", [(1, 3), (5,), (2, 3, 4)])
def test_what_has_no_covariance_is_refused(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"features are \(.*\), expected \(N, D\) with N of at least 2"):
        Gaussian.of(torch.zeros(shape))


def test_other_features_are_refused():
    with pytest.raises(ValueError, match="Gaussians have 3 and 4 features"):
        frechet_distance(Gaussian.of(torch.zeros(5, 3)), Gaussian.of(torch.zeros(5, 4)))


def test_the_score_is_high_only_for_sure_and_varied_images():
    sure = 80.0 * torch.eye(10)
    assert inception_style_score(sure.repeat(3, 1)) == pytest.approx(10.0, rel=1e-6)
    assert inception_style_score(sure[:1].repeat(30, 1)) == pytest.approx(1.0)
    assert inception_style_score(torch.zeros(30, 10)) == pytest.approx(1.0)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(40, 3, generator=generator)
    p = logits.double().softmax(1)
    by_hand = (
        sum(float(p[i, k] * math.log(p[i, k] / p[:, k].mean())) for i in range(40) for k in range(3)) / 40
    )
    assert inception_style_score(logits) == pytest.approx(math.exp(by_hand), rel=1e-9)


def test_psnr_is_the_mean_over_images():
    truth = torch.full((2, 3, 16, 16), 0.5)
    found = truth + torch.tensor([0.1, 0.01]).view(2, 1, 1, 1)
    assert psnr(found, truth) == pytest.approx((20.0 + 40.0) / 2, rel=1e-4)


def test_ssim_knows_equal_images_from_noisy_ones():
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(2, 3, 16, 16, generator=generator)
    assert ssim(truth, truth) == pytest.approx(1.0, abs=1e-5)
    # Of two constants only the term of the means is left: (2ab + c) / (a² + b² + c), c = 0.01².
    a, b = torch.full((1, 3, 32, 32), 0.2), torch.full((1, 3, 32, 32), 0.4)
    assert ssim(a, b) == pytest.approx((2 * 0.08 + 1e-4) / (0.04 + 0.16 + 1e-4), rel=1e-3)
    noisy = (truth + 0.1 * torch.randn(truth.shape, generator=generator)).clamp(0, 1)
    assert 0.3 < ssim(noisy, truth) < 0.97


def test_torchmetrics_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torchmetrics.functional", None)
    with pytest.raises(LeandnnError, match="need torchmetrics: run `pip install torchmetrics`"):
        psnr(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))


def test_plain_fp32_is_plain_in_emulation_and_autocast():
    torch.manual_seed(0)
    net = torch.nn.Conv2d(3, 4, 3)
    x = torch.randn(2, 3, 8, 8)
    cpu = torch.device("cpu")
    plain = net(x)
    with emulate(net, Policy.paper()):
        assert not torch.equal(net(x), plain)
        with plain_fp32(cpu):
            assert torch.equal(net(x), plain)
            assert torch.equal(F.conv2d(x, net.weight, net.bias), plain)
        assert not torch.equal(net(x), plain)  # the emulation goes on
    with torch.autocast("cpu", torch.bfloat16):
        assert net(x).dtype == torch.bfloat16
        with plain_fp32(cpu):
            assert torch.equal(net(x), plain)
