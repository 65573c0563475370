"""A trained sparse net in layers that are fast: unstructured (CSR), or hierarchical blocks nearest to it.

Learned thresholds leave single weights anywhere, which no processor likes. What that costs, and what the nearest
pattern of blocks saves, is measured by bench/autosparse/speed.py; what the blocks cost in accuracy by the study.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from leandnn.autosparse.flops import StepDensities
from leandnn.autosparse.hooks import Learned
from leandnn.autosparse.method import Options
from leandnn.blocksparse import Pattern, convert
from leandnn.blocksparse.layers import BlockSparse
from leandnn.blocksparse.saliency import keep_top, weight_scores

Size = tuple[int, int]
BLOCKS: tuple[Size, Size] = ((16, 12), (4, 1))  # four rows share their columns, as the panel kernels want it


def to_csr(model: nn.Module) -> nn.Module:
    """Convert every layer that has zeros to an unstructured block-sparse one, in place; the same function.

    - model: without thresholds (AutoSparse.remove). Grouped convolutions stay as they are.
    """
    patterns = {}
    for name, layer in _convertible(model).items():
        mask = layer.weight.detach().flatten(1) != 0
        if not bool(mask.all()):
            patterns[name] = Pattern.unstructured(mask.cpu())
    return convert(model, patterns)


def to_hierarchical(model: nn.Module, blocks: tuple[Size, Size] = BLOCKS) -> nn.Module:
    """Convert every layer that has zeros and that the blocks divide to its nearest hierarchical pattern, in place.

    What lies outside the patterns is dropped, so the net must be trained on, or have been trained by Hardened.
    """
    patterns = {}
    for name, layer in _convertible(model).items():
        weight = layer.weight.detach()
        density = int((weight != 0).sum()) / weight.numel()
        if density < 1 and divides(weight, blocks):
            patterns[name] = nearest(weight, density, blocks)
    return convert(model, patterns)


def divides(weight: Tensor, blocks: tuple[Size, Size]) -> bool:
    """Whether blocks of the coarse size divide a weight's matrix."""
    rows, columns = weight.flatten(1).shape
    return rows % blocks[0][0] == 0 and columns % blocks[0][1] == 0


def nearest(weight: Tensor, density: float, blocks: tuple[Size, Size] = BLOCKS) -> Pattern:
    """The hierarchical pattern of a density that keeps much of a weight's magnitude.

    - weight: (M, …) float; M × K is weight.flatten(1).
    - density: share of it to keep, met to one small block.
    - blocks: (height, width) of coarse and small blocks.

    Coarse blocks are chosen first, by the sum of magnitudes, as many as hold twice the density (all above a half),
    then the best small blocks inside them.

    Raises ValueError for blocks that do not divide the weight, and a density outside (0, 1].
    """
    if not 0 < density <= 1:
        raise ValueError(f"the density is {density}, expected a share in (0, 1]")
    scores = weight_scores(weight)
    if not divides(weight, blocks):
        raise ValueError(
            f"blocks of {blocks[0]} do not divide the {scores.shape[0]} × {scores.shape[1]} weight"
        )
    (height, width), (small_height, small_width) = blocks

    def sums(of: Size) -> Tensor:
        rows, columns = scores.shape[0] // of[0], scores.shape[1] // of[1]
        return scores.view(rows, of[0], columns, of[1]).sum((1, 3))

    coarse, fine = sums((height, width)), sums((small_height, small_width))
    few = max(1, round(min(1.0, 2 * density) * coarse.numel()))
    chosen = torch.from_numpy(keep_top(coarse.numpy().reshape(1, -1), few)).view(coarse.shape)
    inside = chosen.repeat_interleave(height // small_height, 0).repeat_interleave(width // small_width, 1)
    count = min(max(1, round(density * fine.numel())), int(inside.sum()))
    kept = keep_top(fine.masked_fill(~inside, -1.0).numpy().reshape(1, -1), count).reshape(fine.shape)
    return Pattern.hierarchical(kept, blocks)


def weight_bytes(model: nn.Module) -> int:
    """Bytes of a net's parameters, and of the indices of its block-sparse layers."""
    values = sum(p.numel() * p.element_size() for p in model.parameters())
    return values + sum(m.pattern.index_nbytes for m in model.modules() if isinstance(m, BlockSparse))


def _convertible(model: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    return {
        name: module
        for name, module in model.named_modules()
        if type(module) is nn.Linear or (type(module) is nn.Conv2d and module.groups == 1)
    }


class Hardened(Learned):
    """AutoSparse to a share `at` of the training; then the nearest hierarchical patterns, and training goes on.

    - options: of AutoSparse; a target is reached at `at` at the latest.
    - at: share of the training.
    - blocks: see nearest. Layers that they do not divide keep their unstructured masks.
    """

    def __init__(self, options: Options, *, at: float = 0.6, blocks: tuple[Size, Size] = BLOCKS) -> None:
        if not max(0.0, options.reached if options.target is not None else 0.0) <= at < 1:
            raise ValueError(
                f"at is {at}, expected a share from {options.reached} (where the target is reached) to below 1"
            )
        super().__init__(options)
        self.at, self.blocks = at, blocks
        self.masks: dict[str, Tensor] = {}

    def before_update(self, progress: float) -> None:
        """As AutoSparse; once hard, keep gradients inside the patterns."""
        if not self.masks:
            super().before_update(progress)
        for name, mask in self.masks.items():
            gradient = self.sparse.original(name).grad
            if gradient is not None:
                gradient.mul_(mask)

    def after_update(self, progress: float) -> None:
        """As AutoSparse; at the time, choose the patterns; then undo what momentum did outside them."""
        if not self.masks:
            super().after_update(progress)
            if progress < self.at:
                return
            self.sparse.freeze()
            self.masks = {name: self._mask(name) for name in self.sparse.layers}
            densities = self.densities()
            self._current = StepDensities(densities, densities)
        else:
            self._used = self._current
        with torch.no_grad():
            for name, mask in self.masks.items():
                self.sparse.original(name).mul_(mask)

    def densities(self) -> dict[str, float]:
        """Share of the weights in use now, by layer."""
        if not self.masks:
            return super().densities()
        return {name: int(mask.sum()) / mask.numel() for name, mask in self.masks.items()}

    def state_dict(self) -> dict[str, Any]:
        """AutoSparse's, and the patterns' masks."""
        return {**super().state_dict(), "masks": self.masks}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of state_dict."""
        super().load_state_dict(state)
        self.masks = {n: mask.to(self.sparse.original(n).device) for n, mask in state["masks"].items()}
        if self.masks:
            for gate in self.sparse.gates.values():
                gate.frozen = True
            densities = self.densities()
            self._used = self._current = StepDensities(densities, densities)

    def _mask(self, name: str) -> Tensor:
        weight = self.sparse.original(name).detach()
        kept = weight != 0
        if divides(weight, self.blocks):
            pattern = nearest(weight, int(kept.sum()) / kept.numel(), self.blocks)
            kept = pattern.mask().to(weight.device).view_as(weight)
        return torch.empty_like(weight).copy_(kept)
