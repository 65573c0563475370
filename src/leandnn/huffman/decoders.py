"""Ways for a coded layer to compute, beside its own: what the fused product is compared with.

A decoder is a function of (layer, x), which gives what layer(x) gives. Plans and costs take one (costs.py, plan.py).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from leandnn.huffman.layers import HuffmanLayer, HuffmanLinear
from leandnn.kernels import dispatch
from leandnn.kernels.huffman import ops

Decoder = Callable[[HuffmanLayer, Tensor], Tensor]


def fused(layer: HuffmanLayer, x: Tensor) -> Tensor:
    """The layer's own way: linear layers multiply while they decode, convolutions decode into their workspace."""
    return cast(Tensor, layer(x))


def csr(layer: HuffmanLayer, x: Tensor) -> Tensor:
    """Linear layers are decoded as a whole, at every call, to a CSR matrix, by which torch multiplies."""
    if not isinstance(layer, HuffmanLinear):
        return fused(layer, x)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        matrix = ops.to_csr(layer.coded)
    tokens = x.reshape(-1, layer.in_features)
    y = (matrix @ tokens.t()).t()
    if layer.bias is not None:
        y = y + layer.bias
    return y.reshape(*x.shape[:-1], layer.out_features)


def scalar(layer: HuffmanLayer, x: Tensor) -> Tensor:
    """A whole layer is decoded by plain code, one symbol after another without vector instructions, then used.

    Linear layers as in csr; convolutions as ever, by that decoder. What a straightforward implementation does: a slow
    decoder, for which batches pay more.
    """
    if not isinstance(layer, HuffmanLinear):
        with dispatch.using("baseline"):
            return fused(layer, x)
    with dispatch.using("baseline"):
        return csr(layer, x)


DECODERS: dict[str, Decoder] = {"fused": fused, "csr": csr, "scalar": scalar}


class Decoded(nn.Module):
    """A layer that computes by a decoder."""

    def __init__(self, layer: HuffmanLayer, decoder: Decoder) -> None:
        super().__init__()
        self.layer, self.decoder = layer, decoder

    def forward(self, x: Tensor) -> Tensor:
        """What the layer gives."""
        with torch.no_grad():
            return self.decoder(self.layer, x)
