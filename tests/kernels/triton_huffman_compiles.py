"""The Triton decoder compiled for a Hopper GPU, on a machine without one; test_huffman_triton runs this file."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests.kernels.triton_compiles import SHARED, compiled
from torch import Tensor

from leandnn.kernels.huffman import gpu, gpu_kernels
from leandnn.kernels.huffman.encode import encode


@pytest.mark.parametrize("values", [16, 256], ids=["narrow", "wide"])
def test_the_decoder_compiles(values: int, monkeypatch: pytest.MonkeyPatch):
    results = []

    def run(grid: tuple[int, ...], out: Tensor, arguments: dict[str, Any]) -> None:
        results.append(compiled(gpu_kernels.decode_lanes, arguments))
        arguments["status"].zero_()

    monkeypatch.setattr(gpu, "_run", run)
    symbols = np.random.default_rng(0).integers(0, values, (300, 200)).astype(np.uint8)
    codebook = np.arange(values, dtype=np.float32)
    gpu.decode(encode(symbols, codebook), torch.empty(300, 200))
    (result,) = results
    assert result.metadata.shared <= SHARED
    assert result.asm["cubin"]
    assert "shfl.sync" in result.asm["ptx"], "the prefix sum is not one of a warp"
