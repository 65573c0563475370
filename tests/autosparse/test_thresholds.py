"""The thresholds' gradients: against finite differences of the surrogate they are stated for, and by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from leandnn.autosparse.thresholds import long_tail, soft_threshold, step_threshold

SHAPES = [((7, 5), (1,)), ((6, 3, 3, 3), (1,)), ((6, 3, 3, 3), (6, 1, 1, 1))]


def drawn(shape: tuple[int, ...], of_score: tuple[int, ...], dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(shape, generator=generator, dtype=torch.float64) * 0.5
    score = torch.randn(of_score, generator=generator, dtype=torch.float64) * 0.3 - 0.8
    upstream = torch.randn(shape, generator=generator, dtype=torch.float64)
    return weight.to(dtype).requires_grad_(), score.to(dtype).requires_grad_(), upstream.to(dtype)


def surrogate(weight: Tensor, score: Tensor, alpha: float) -> Tensor:
    """What soft_threshold's backward is the derivative of: a leaky ReLU of slope α in place of ReLU."""
    x = weight.abs() - torch.sigmoid(score)
    return weight.sign() * torch.where(x > 0, x, alpha * x)


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
@pytest.mark.parametrize(("shape", "of_score"), SHAPES)
def test_soft_gradients_are_finite_differences_of_the_surrogate(
    shape: tuple[int, ...], of_score: tuple[int, ...], alpha: float
):
    weight, score, upstream = drawn(shape, of_score)
    found = torch.autograd.grad((soft_threshold(weight, score, alpha) * upstream).sum(), (weight, score))
    step = 1e-6
    with torch.no_grad():
        for tensor, gradient in zip((weight, score), found, strict=True):
            flat = tensor.view(-1)
            for i in range(flat.numel()):
                kept = float(flat[i])
                values = []
                for sign in (1, -1):
                    flat[i] = kept + sign * step
                    values.append(float((surrogate(weight, score, alpha) * upstream).sum()))
                flat[i] = kept
                assert float(gradient.view(-1)[i]) == pytest.approx(
                    (values[0] - values[1]) / 2 / step, abs=1e-7
                )


def test_soft_threshold_by_hand():
    weight = torch.tensor([[0.9, -0.9, 0.2, -0.2, 0.0]], dtype=torch.float64, requires_grad=True)
    score = torch.zeros(1, dtype=torch.float64, requires_grad=True)  # T = 0.5, sigmoid' = 0.25
    upstream = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]], dtype=torch.float64)
    out = soft_threshold(weight, score, 0.1)
    assert torch.equal(out, torch.tensor([[0.9 - 0.5, -(0.9 - 0.5), 0, 0, 0]], dtype=torch.float64))
    of_weight, of_score = torch.autograd.grad(out, (weight, score), upstream)
    assert torch.allclose(of_weight, torch.tensor([[1.0, 2.0, 0.3, 0.4, 0.5]], dtype=torch.float64))
    assert float(of_score) == pytest.approx(-0.25 * (1.0 - 2.0 + 0.3 - 0.4 + 0.0))


@pytest.mark.parametrize(("shape", "of_score"), SHAPES)
def test_soft_forward_is_the_formula_alpha_zero_plain_autograd(
    shape: tuple[int, ...], of_score: tuple[int, ...]
):
    weight, score, upstream = drawn(shape, of_score)
    plain = weight.sign() * torch.relu(weight.abs() - torch.sigmoid(score))
    out = soft_threshold(weight, score, 0.0)
    assert torch.allclose(out, plain, rtol=0, atol=1e-15)
    assert torch.equal(out == 0, weight.abs() <= torch.sigmoid(score))
    ours = torch.autograd.grad(out, (weight, score), upstream)
    theirs = torch.autograd.grad(plain, (weight, score), upstream)
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(ours, theirs, strict=True))


def test_soft_threshold_in_float32_follows_float64():
    for (shape, of_score), alpha in zip(SHAPES, (0.0, 0.3, 1.0), strict=True):
        exact = drawn(shape, of_score)
        single = drawn(shape, of_score, torch.float32)
        outs = [soft_threshold(w, s, alpha) for w, s, _ in (exact, single)]
        assert torch.allclose(outs[0].float(), outs[1], atol=1e-6)
        grads = [
            torch.autograd.grad(out, (w, s), g) for out, (w, s, g) in zip(outs, (exact, single), strict=True)
        ]
        for a, b in zip(*grads, strict=True):
            assert torch.allclose(a.float(), b, atol=1e-5)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_backward_sparsity_drops_the_weights_farthest_below(share: float):
    weight, score, upstream = drawn((40, 10), (1,))
    dense = torch.autograd.grad(soft_threshold(weight, score, 0.7), (weight,), upstream)[0]
    of_weight, of_score = torch.autograd.grad(
        soft_threshold(weight, score, 0.7, backward_sparsity=share), (weight, score), upstream
    )
    dropped = of_weight == 0
    assert int(dropped.sum()) == int(share * 400)
    assert weight.abs()[dropped].max() < weight.abs()[~dropped].min()
    assert torch.equal(of_weight[~dropped], dense[~dropped])
    threshold = torch.sigmoid(score.detach())
    slope = float(threshold * (1 - threshold))
    assert float(of_score) == pytest.approx(-slope * float((of_weight * weight.detach().sign()).sum()))


def test_the_long_tail_is_what_dst_publishes():
    x = torch.tensor([0.0, 0.1, -0.4, 0.7, -1.0, 1.01])
    assert torch.allclose(long_tail(x), torch.tensor([2.0, 1.6, 0.4, 0.4, 0.4, 0.0]))


def smooth_step(x: Tensor) -> Tensor:
    """An antiderivative of the long tail, so that its finite differences are the estimator."""
    size = x.abs()
    half = torch.where(
        size <= 0.4, 2 * size - 2 * size**2, torch.where(size <= 1, 0.48 + 0.4 * (size - 0.4), 0.72)
    )
    return half * x.sign()


@pytest.mark.parametrize(("shape", "of_score"), SHAPES)
def test_step_gradients_of_dst_are_those_of_its_estimator(shape: tuple[int, ...], of_score: tuple[int, ...]):
    weight, threshold, upstream = drawn(shape, of_score)
    threshold = (threshold.detach().abs() * 0.3).requires_grad_()
    out = step_threshold(weight, threshold, None)
    assert torch.equal(out, weight * (weight.abs() > threshold))
    found = torch.autograd.grad(out, (weight, threshold), upstream)
    # d(W S(|W| - t)) with S the hard step where it stands by itself and the smooth one where it is derived.
    inner = smooth_step(weight.abs() - threshold)
    gate = (weight.abs() > threshold).double()
    expected = torch.autograd.grad(
        ((weight * gate + weight.detach() * (inner - inner.detach())) * upstream).sum(), (weight, threshold)
    )
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(found, expected, strict=True))


def test_masked_weights_step_gradients_are_alpha_times_kept_ones():
    weight, threshold, upstream = drawn((30, 4), (1,))
    threshold = torch.full((1,), 0.3, dtype=torch.float64, requires_grad=True)
    full = torch.autograd.grad(step_threshold(weight, threshold, 1.0), (weight, threshold), upstream)
    part = torch.autograd.grad(step_threshold(weight, threshold, 0.25), (weight, threshold), upstream)
    kept = weight.abs() > threshold
    assert torch.equal(part[0][kept], full[0][kept])
    assert torch.allclose(part[0][~kept], 0.25 * full[0][~kept])
    slope = long_tail(weight.abs() - threshold)
    factor = torch.where(kept, 1.0, 0.25)
    assert float(part[1]) == pytest.approx(-float((factor * upstream * weight * slope).detach().sum()))
    hard = torch.autograd.grad(step_threshold(weight, threshold, 0.0), (weight,), upstream)[0]
    assert (hard[~kept] == 0).all()
