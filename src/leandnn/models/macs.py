"""Multiply-adds of a net's products, layer by layer: convolutions, linear layers, attention.

Counted by torch's own flop counter on tensors without numbers (device "meta"), so a large net takes
milliseconds and no memory. A multiply-add (MAC) is one multiplication and one addition, torch's two FLOPs.
Norms, activations, pooling and biases are not products and not counted, as in the published counts.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.flop_counter import FlopCounterMode

# Products of two activations: they have no weight that could be sparse.
_WITHOUT_WEIGHT = ("bmm", "baddbmm", "attention")


@dataclass(frozen=True)
class LayerMacs:
    """The multiply-adds of one weight, or of one module's products without a weight, for one example.

    - name: of the module, as in named_modules.
    - weight: name of the weight within the module; None for products of activations (attention).
    - numel: numbers in the weight, 0 without one.
    - macs: of a forward pass with a dense weight.
    - density: share of the weight's numbers that are not zero now; 1 without a weight.
    """

    name: str
    weight: str | None
    numel: int
    macs: int
    density: float


def count(
    model: nn.Module, input_shape: Sequence[int], dtype: torch.dtype = torch.float32
) -> list[LayerMacs]:
    """Every product of a forward pass on one example, in the order of the model's modules.

    - model: not run and not changed; a parametrised weight is seen as its parametrisation gives it.
    - input_shape: of one example, without the batch; dtype: of the input.

    A weight's zeros are counted, a use of one module twice adds up. Where a module has several weights
    (torch's MultiheadAttention), its products are divided among them in proportion to their numbers, which is
    exact for self-attention.

    Raises ValueError for a model that does not take such an input.
    """
    # With gradients, since torch's fused attention, which is used without them, hides the layers' products.
    with torch.enable_grad(), FlopCounterMode(display=False) as counter:
        try:
            _without_numbers(model)(torch.empty(1, *input_shape, dtype=dtype, device="meta"))
        except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(
                f"the model cannot be counted on an input of shape {tuple(input_shape)}: {reason}"
            ) from error
    own = _own(counter, type(model).__name__)
    found: list[LayerMacs] = []
    for name, module in model.named_modules():
        found += _layers(name, module, own.get(name, {}))
    return found


def forward_macs(layers: Sequence[LayerMacs], densities: Mapping[str, float] | None = None) -> float:
    """Multiply-adds of a forward pass on one example.

    - densities: share of non-zero weights by module; layers that are not named, and all if it is None, are
      dense.
    """
    densities = densities or {}
    return sum(layer.macs * densities.get(layer.name, 1.0) for layer in layers)


def training_macs(layers: Sequence[LayerMacs], examples: int) -> float:
    """Multiply-adds of training a dense net on so many examples: forward, data and weight gradient alike."""
    return 3 * examples * forward_macs(layers)


def _own(counter: FlopCounterMode, root: str) -> dict[str, dict[str, int]]:
    """Multiply-adds by module and operator; the counter's, without what lies in modules below."""
    counts = {
        name.removeprefix(root).removeprefix("."): {
            str(op): int(flops) // 2 for op, flops in operators.items()
        }
        for name, operators in counter.get_flop_counts().items()
        if name != "Global"
    }
    own = {name: dict(operators) for name, operators in counts.items()}
    for name, operators in counts.items():
        above = name
        while above and (above == name or above not in counts):  # lists of modules are no calls
            above = above.rpartition(".")[0]
        if name:
            for op, macs in operators.items():
                own[above][op] -= macs
    return own


def _without_numbers(model: nn.Module) -> nn.Module:
    """A copy in eval mode whose parameters and buffers have shapes and no numbers."""
    empty: dict[int, object] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        bare = torch.empty_like(tensor, device="meta")
        learned = isinstance(tensor, nn.Parameter) and tensor.is_floating_point()
        empty[id(tensor)] = nn.Parameter(bare) if learned else bare
    return copy.deepcopy(model, empty).eval()


def _layers(name: str, module: nn.Module, own: Mapping[str, int]) -> list[LayerMacs]:
    """What a module's own operators cost, as one entry per weight and one for the rest."""
    without = sum(macs for op, macs in own.items() if any(word in op for word in _WITHOUT_WEIGHT))
    products = sum(own.values()) - without
    found = []
    weights = _weights(module) if products else {}
    if not weights:  # a product written out in some module's forward: no weight is known for it
        without, products = without + products, 0
    numbers = sum(weight.numel() for weight in weights.values())
    for key, weight in weights.items():
        macs = products * weight.numel() // numbers
        found.append(LayerMacs(name, key, weight.numel(), macs, density(weight)))
    if without:
        found.append(LayerMacs(name, None, 0, without, 1.0))
    return found


def density(weight: Tensor) -> float:
    """Share of a weight's numbers that are not zero."""
    return int(torch.count_nonzero(weight.detach())) / weight.numel()


def _weights(module: nn.Module) -> dict[str, Tensor]:
    """The weights of a module itself: tensors of two or more dimensions, by name."""
    names = [name for name, p in module.named_parameters(recurse=False) if p.dim() > 1]
    if parametrize.is_parametrized(module):
        names += list(module.parametrizations)  # type: ignore[arg-type]
    if isinstance(module, nn.MultiheadAttention):
        return {**{n: getattr(module, n) for n in names}, "out_proj.weight": module.out_proj.weight}
    found = {name: getattr(module, name) for name in names}
    return {name: weight for name, weight in found.items() if weight.dim() > 1}
