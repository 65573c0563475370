"""Which layers a method makes sparse, and how they are named."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

Layer = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
KINDS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def choose(model: nn.Module, exclude: Sequence[str] = ()) -> dict[str, Layer]:
    """Every convolution and linear layer that `exclude` does not name, by name and in the model's order.

    - exclude: names as in named_modules, or shell patterns ("layer4.*"). The name of a module that holds layers
      excludes all of them.

    Raises ValueError for a name that no layer has, where no layer is left, and for a weight that is tied to another
    module's: a threshold on one of them would leave the other's weight dense.
    """
    layers = {name: module for name, module in model.named_modules() if isinstance(module, KINDS)}
    left = dict(layers)
    for pattern in exclude:
        matching = [name for name in layers if _matches(name, pattern)]
        if not matching:
            near = ", ".join(difflib.get_close_matches(pattern, layers, cutoff=0)) or "none at all"
            raise ValueError(f"the model has no layer {pattern!r} to exclude; near it: {near}")
        for name in matching:
            left.pop(name, None)
    if not left:
        raise ValueError(f"no layer is left to make sparse: {len(layers)} of {len(layers)} are excluded")
    owners: dict[int, str] = {}
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            other = owners.setdefault(id(parameter), name)
            if other != name and {other, name} & set(left):
                raise ValueError(
                    f"{other} and {name} share a weight, expected one of its own for each: exclude them"
                )
    return left


def ends(model: nn.Module) -> tuple[str, str]:
    """The first and the last layer, which the small studies keep dense."""
    names = list(choose(model))
    return names[0], names[-1]


def _matches(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern) or name.startswith(f"{pattern}.")


def per_row(weight: Tensor) -> tuple[int, ...]:
    """The shape of one number per output channel of a weight, for broadcasting."""
    return (weight.shape[0], *(1 for _ in weight.shape[1:]))


def sparsity(densities: Mapping[str, float], sizes: Mapping[str, int]) -> float:
    """Share of zeros over all weights, from the density and the size of each layer."""
    return 1 - sum(share * sizes[name] for name, share in densities.items()) / sum(sizes.values())


def kth_smallest(numbers: Tensor, k: int) -> Tensor:
    """The k-th smallest number (k from 1) of a tensor; the same on every run, on a GPU too."""
    flat = numbers.flatten()
    # torch refuses kthvalue on GPUs where deterministic algorithms are asked for, as in the training loop.
    return flat.sort().values[k - 1] if flat.is_cuda else flat.kthvalue(k).values
