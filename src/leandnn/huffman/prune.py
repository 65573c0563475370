"""Magnitude pruning of single layers, kept up while they are trained on.

Han, Pool, Tran, Dally (arXiv 1506.02626): the smallest weights go, the others are trained further. How many go is said
by a density, or by a sensitivity: weights below that many standard deviations of their layer.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

Layer = nn.Linear | nn.Conv2d


def layers(model: nn.Module) -> dict[str, Layer]:
    """The Linear and Conv2d layers of a model that can be compressed, by name, in its order.

    Subclasses are left out, and convolutions with other than zero padding. A layer used in several places is named
    once. Raises ValueError where the weight of one of them is another module's, too.
    """
    found: dict[str, Layer] = {}
    owners: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(name)
    for name, module in model.named_modules():
        base = _base(module)
        if base is nn.Linear or (base is nn.Conv2d and cast(nn.Conv2d, module).padding_mode == "zeros"):
            layer = cast(Layer, module)
            shared = [] if parametrize.is_parametrized(layer, "weight") else owners.get(id(layer.weight), [])
            if len(shared) > 1:
                raise ValueError(
                    f"{shared[0]} and {shared[1]} share one weight: it cannot be compressed alone"
                )
            found[name] = layer
    return found


def _base(module: nn.Module) -> type:
    """The class of a module before its parametrization gave it one of its own."""
    return type(module).__mro__[1] if parametrize.is_parametrized(module) else type(module)


class Masked(nn.Module):
    """A parametrization (torch.nn.utils.parametrize): weight where the mask is set, 0 elsewhere.

    - mask: bool, the weight's shape.
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        """The pruned weight."""
        return weight * self.mask


def prune(layer: nn.Module, *, density: float | None = None, sensitivity: float | None = None) -> None:
    """Prune a layer's weight, in place and for all training to come.

    - density: share of the weights that stay, 0 to 1: the round(density · number) largest magnitudes (of equal ones
      the first).
    - sensitivity: instead of a density, weights of at least sensitivity · (standard deviation of the weight) stay.

    A layer that was pruned before is pruned further. Raises ValueError for both, none, values out of range, NaN
    or infinite weights.
    """
    if (density is None) == (sensitivity is None):
        raise ValueError(f"density is {density} and sensitivity {sensitivity}, expected one of them")
    if density is not None and not 0.0 <= density <= 1.0:
        raise ValueError(f"density is {density}, expected 0 to 1")
    if sensitivity is not None and not 0.0 <= sensitivity < float("inf"):
        raise ValueError(f"sensitivity is {sensitivity}, expected a finite number of at least 0")
    if parametrize.is_parametrized(layer, "weight"):
        parametrize.remove_parametrizations(layer, "weight")
    weight = cast(Tensor, layer.weight).detach()
    if not bool(weight.isfinite().all()):
        raise ValueError("the weight has NaN or infinite values")
    size = weight.abs()
    if density is not None:
        order = size.reshape(-1).sort(descending=True, stable=True).indices
        mask = torch.zeros(weight.numel(), dtype=torch.bool, device=weight.device)
        mask[order[: round(density * weight.numel())]] = True
        mask = mask.view(weight.shape)
    else:
        mask = size >= cast(float, sensitivity) * weight.std(correction=0)
    parametrize.register_parametrization(layer, "weight", Masked(mask))
