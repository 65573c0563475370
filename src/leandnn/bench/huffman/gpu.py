"""Decoding on a GPU: our Triton kernel, which writes the matrix, beside nvCOMP's entropy coder, which writes bytes.

nvCOMP is no dependency: `pip install nvidia-nvcomp-cu12` (or -cu13) adds it. Its coder is ANS, not Huffman's.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.dlpack import from_dlpack

from leandnn.bench.benchfile import Row
from leandnn.bench.timing import interleave, row
from leandnn.errors import LeandnnError
from leandnn.huffman import quantise
from leandnn.kernels.huffman import ops
from leandnn.kernels.huffman.encode import encode

CASES = {"fc6, 7 bits": "classifier.1", "conv3, 256 values": "features.6"}
NVCOMP = "nvCOMP ANS"


def rates(net: nn.Module, repeats: int, device: str = "cuda") -> list[Row]:
    """Rows of decoding a coded matrix that lies on the device; none where torch finds no GPU.

    - net: pruned and shared. Each implementation's result is compared with what was coded. Work is the symbols of
      slots, two each; the result is waited for.
    """
    if device == "cuda" and not torch.cuda.is_available():
        return []
    found: list[Row] = []
    for name, layer in CASES.items():
        symbols, codebook = quantise.shared_weights(net.get_submodule(layer))
        matrix = np.ascontiguousarray(symbols.reshape(symbols.shape[0], -1))
        coded = encode(matrix, codebook, layout="lanes")
        slots = ops.slots(coded)
        out = torch.empty(coded.shape, device=device)
        calls: dict[str, Callable[[], Any]] = {"leandnn": functools.partial(ops.decode, coded, out)}
        if not np.array_equal(calls["leandnn"]().cpu().numpy(), codebook[matrix]):
            raise LeandnnError(f"{name} is decoded to other weights than were coded")
        if present():
            streams = [torch.from_numpy(own).to(device) for own in (slots.advances, slots.weights)]
            calls[NVCOMP] = nvcomp_decoder(streams)
            if not all(torch.equal(a, b) for a, b in zip(calls[NVCOMP](), streams, strict=True)):
                raise LeandnnError(f"{NVCOMP} does not give back the symbols of {name}")
        gpu = torch.cuda.get_device_name() if device == "cuda" else device
        case = {"what": "decode on a GPU", "case": name, "gpu": gpu}
        times = interleave(calls, repeats=repeats, label=f"decode {name} on {gpu}")
        work = 2 * slots.advances.size / 1e6
        found += [row("huffman", case, impl, 1, t, work, "Msymbol") for impl, t in times.items()]
    return found


def present() -> bool:
    """Whether nvCOMP is installed."""
    return (
        importlib.util.find_spec("nvidia") is not None
        and importlib.util.find_spec("nvidia.nvcomp") is not None
    )


def nvcomp_decoder(streams: list[Tensor]) -> Callable[[], list[Tensor]]:
    """A call that decodes streams of bytes on their device and waits for them."""
    nvcomp = importlib.import_module("nvidia.nvcomp")
    codec = nvcomp.Codec(algorithm="ANS")
    coded = [codec.encode(nvcomp.as_array(own)) for own in streams]

    def call() -> list[Tensor]:
        found = [from_dlpack(codec.decode(own)).view(torch.uint8) for own in coded]
        if found[0].is_cuda:
            torch.cuda.synchronize()
        return found

    return call
