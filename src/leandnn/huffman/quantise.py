"""Weight sharing: k-means over a layer's non-zero weights, and training of the shared values.

Han, Mao, Dally, Deep Compression (arXiv 1510.00149), section 3: centroids start linearly spaced between the least
and the greatest weight, and the gradient of a shared value is the sum of its weights' gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils import parametrize

Floats = NDArray[np.float32]


def kmeans(values: Floats, clusters: int, iterations: int = 100) -> tuple[Floats, NDArray[np.int64]]:
    """One-dimensional k-means (Lloyd), linearly initialised.

    - values: float32, finite, at least one. clusters: 1 or more. iterations: at most so many.

    Returns the centroids, ascending (at most `clusters`: one without values is dropped), and for each value the
    number of its centroid. Exact and fast in one dimension: values are sorted once, a cluster is an interval of
    them and its mean a difference of prefix sums (float64).
    """
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all():
        raise ValueError(
            f"values have shape {values.shape}, expected one dimension, at least one, all finite"
        )
    if clusters < 1:
        raise ValueError(f"clusters is {clusters}, expected at least 1")
    ascending = np.sort(values).astype(np.float64)
    sums = np.concatenate([[0.0], np.cumsum(ascending)])
    centroids = np.linspace(ascending[0], ascending[-1], clusters)
    for _ in range(iterations):
        ends = np.searchsorted(ascending, (centroids[1:] + centroids[:-1]) / 2, side="right")
        begins, ends = np.concatenate([[0], ends]), np.concatenate([ends, [ascending.size]])
        sizes = ends - begins
        means = np.where(sizes > 0, (sums[ends] - sums[begins]) / np.maximum(sizes, 1), centroids)
        if (means == centroids).all():
            break
        centroids = means
    # Rounded to what is stored before values are assigned, so that each has the nearest of the stored ones.
    kept = np.unique(centroids[sizes > 0].astype(np.float32))
    middles = ((kept[1:].astype(np.float64) + kept[:-1]) / 2).astype(np.float64)
    return kept, np.searchsorted(middles, values, side="left")


class _Lookup(torch.autograd.Function):
    """codebook[symbols]; the gradient of a shared value is the sum of its weights' gradients."""

    @staticmethod
    def forward(ctx: Any, codebook: Tensor, symbols: Tensor) -> Tensor:
        ctx.save_for_backward(symbols)
        ctx.size = codebook.numel()
        return codebook.index_select(0, symbols.reshape(-1).int()).view(symbols.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (symbols,) = ctx.saved_tensors
        # Where all threads sum into a few values, float64 keeps the sum's error below that of its terms.
        sums = torch.bincount(symbols.reshape(-1), grads[0].reshape(-1).double(), minlength=ctx.size)
        sums[0] = 0.0  # zeros stay zeros
        return sums.to(grads[0].dtype), None


_lookup: Callable[[Tensor, Tensor], Tensor] = _Lookup.apply


class SharedWeights(nn.Module):
    """A parametrization (torch.nn.utils.parametrize): weight = codebook[symbols].

    - symbols: uint8, the weight's shape; 0 where the weight is zero.
    - codebook: float32, codebook[0] = 0; becomes the parameter that is trained.
    """

    symbols: Tensor

    def __init__(self, symbols: Tensor, codebook: Tensor) -> None:
        super().__init__()
        self.register_buffer("symbols", symbols)
        self._codebook = codebook

    def forward(self, codebook: Tensor) -> Tensor:
        """The weight."""
        return _lookup(codebook, self.symbols)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """The codebook that the parametrization starts from."""
        return self._codebook


def share(layer: nn.Module, bits: int, iterations: int = 100) -> None:
    """Share a layer's weights, in place: its parameter is then a codebook of at most 2^bits values, one of them 0.

    - layer: has a `weight` (its zeros stay zeros); a parametrization of it, as of prune.prune, is made final.
    - bits: 1 to 8.

    Raises ValueError for other bits, a weight without elements, NaN or infinite weights.
    """
    if not 1 <= bits <= 8:
        raise ValueError(f"bits is {bits}, expected 1 to 8")
    if parametrize.is_parametrized(layer, "weight"):
        parametrize.remove_parametrizations(layer, "weight")
    weight = cast(Tensor, layer.weight).detach()
    if weight.numel() == 0:
        raise ValueError(f"the weight has shape {tuple(weight.shape)}, expected at least one element")
    if not bool(weight.isfinite().all()):
        raise ValueError("the weight has NaN or infinite values")
    flat = weight.reshape(-1).float().cpu().numpy()
    symbols = np.zeros(flat.size, np.uint8)
    codebook = np.zeros(2, np.float32)
    if (kept := np.flatnonzero(flat)).size:
        centroids, owner = kmeans(flat[kept], (1 << bits) - 1, iterations)
        codebook = np.concatenate([np.zeros(1, np.float32), centroids])
        symbols[kept] = owner + 1
    symbols_tensor = torch.from_numpy(symbols).view(weight.shape).to(weight.device)
    shared = SharedWeights(symbols_tensor, torch.from_numpy(codebook).to(weight))
    parametrize.register_parametrization(layer, "weight", shared)


def shared_weights(layer: nn.Module) -> tuple[NDArray[np.uint8], Floats]:
    """(symbols of the weight's shape, codebook) of a layer that was shared; ValueError for another."""
    if parametrize.is_parametrized(layer, "weight"):
        (own,) = cast(Any, layer.parametrizations)["weight"]
        if isinstance(own, SharedWeights):
            codebook = cast(Any, layer.parametrizations)["weight"].original.detach()
            return own.symbols.cpu().numpy(), codebook.float().cpu().numpy()
    raise ValueError("the layer's weights are not shared")
