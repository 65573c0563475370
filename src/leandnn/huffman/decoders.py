"""Another way for coded layers to compute than their own, for plans and costs to be made with (costs.py, plan.py)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from leandnn.huffman.layers import HuffmanLayer

Decoder = Callable[[HuffmanLayer, Tensor], Tensor]
"""(layer, x) → what layer(x) gives."""


class Decoded(nn.Module):
    """A layer that computes by a decoder."""

    def __init__(self, layer: HuffmanLayer, decoder: Decoder) -> None:
        super().__init__()
        self.layer, self.decoder = layer, decoder

    def forward(self, x: Tensor) -> Tensor:
        """What the layer gives."""
        with torch.no_grad():
            return self.decoder(self.layer, x)
