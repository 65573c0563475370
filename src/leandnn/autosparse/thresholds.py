"""The two learned thresholds, each one autograd function: forward and backward of a weight in a few passes.

Both are called in every forward pass on every weight, so they take few passes over it, and those that torch
vectorises: a mask is |sign(W̃)|, a choice between g and α g by a mask is lerp(mask · g, g, α).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from leandnn.autosparse.layers import kth_smallest


def soft_threshold(weight: Tensor, score: Tensor, alpha: float, backward_sparsity: float = 0.0) -> Tensor:
    """W̃ = sign(W) · h(|W| − sigmoid(s)) with h = ReLU, and h' = 1 above the threshold, α below (AutoSparse).

    The same factor scales what reaches s: dL/ds = −sigmoid'(s) · Σ h' · sign(W) · dL/dW̃. With α = 0 this is STR
    (Kusupati et al. 2020, arXiv 2002.03231).

    - weight: W, any shape and float dtype.
    - score: s, of one number (a threshold per layer) or (out, 1, …) (one per output channel).
    - alpha: α in [0, 1].
    - backward_sparsity: share of the weights that get no gradient, those farthest below the threshold, so that
      their products need not be made in the backward pass; 0 for none.

    Returns a tensor like `weight`.
    """
    out: Tensor = _SoftThreshold.apply(weight, score, alpha, backward_sparsity)  # type: ignore[no-untyped-call]
    return out


def step_threshold(weight: Tensor, threshold: Tensor, alpha: float | None) -> Tensor:
    """W̃ = W · step(|W| − t) with a long-tailed derivative in place of the step's: DST, or DST annealed.

    Dynamic sparse training (Liu et al. 2020, arXiv 2005.06870) estimates d step/dx by 2 − 4|x| up to 0.4, 0.4 up
    to 1, and 0 beyond, and has the gradients (step + |W| step') dL/dW̃ for W and −Σ W step' dL/dW̃ for t. Annealed
    (our reading of "pruning methods" in the AutoSparse abstract), a masked weight's gradients, for W and for t,
    are those that it would have if it were kept, times α.

    - weight: W.
    - threshold: t, of one number or (out, 1, …).
    - alpha: α in [0, 1]; None for DST as published.
    """
    out: Tensor = _StepThreshold.apply(weight, threshold, alpha)  # type: ignore[no-untyped-call]
    return out


def long_tail(x: Tensor) -> Tensor:
    """DST's estimate of the derivative of the step function."""
    size = x.abs()
    return torch.where(size <= 0.4, 2 - 4 * size, torch.where(size <= 1, 0.4, 0.0))


def _summed_to(tensor: Tensor, shape: torch.Size) -> Tensor:
    """The sum over all that broadcasting a tensor of `shape` to this one repeated."""
    if shape.numel() == 1:
        return tensor.sum().reshape(shape)
    return tensor.sum_to_size(shape)


class _SoftThreshold(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, score: Tensor, alpha: float, backward_sparsity: float) -> Tensor:
        threshold = torch.sigmoid(score)
        # W less its part within the threshold: exactly sign(W) (|W| - T) outside, exactly 0 inside.
        out = weight - weight.clamp(-threshold, threshold)
        ctx.save_for_backward(weight, out, threshold)
        ctx.alpha, ctx.backward_sparsity = alpha, backward_sparsity
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        weight, out, threshold = ctx.saved_tensors
        (gradient,) = gradients
        gradient = torch.lerp(out.sign().abs_().mul_(gradient), gradient, ctx.alpha)
        dropped = int(ctx.backward_sparsity * weight.numel())
        if dropped:
            above = weight.abs() - threshold
            gradient = gradient * (above > kth_smallest(above, dropped))
        toward = _summed_to(weight.sign().mul_(gradient), threshold.shape)
        return gradient, -toward * threshold * (1 - threshold), None, None


class _StepThreshold(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, threshold: Tensor, alpha: float | None) -> Tensor:
        ctx.save_for_backward(weight, threshold)
        ctx.alpha = alpha
        return weight * (weight.abs() > threshold)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        weight, threshold = ctx.saved_tensors
        (gradient,) = gradients
        above = weight.abs() - threshold
        slope = long_tail(above)
        if ctx.alpha is None:
            of_weight = gradient * ((above > 0) + weight.abs() * slope)
        else:
            gradient = torch.lerp((above > 0) * gradient, gradient, ctx.alpha)
            of_weight = gradient * (1 + weight.abs() * slope)
        return of_weight, -_summed_to(gradient * weight * slope, threshold.shape), None
