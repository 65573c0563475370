"""Decoding on a GPU, rehearsed on the CPU: rows for our decoder and for a stand-in of nvCOMP; none without a GPU."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch

from leandnn.bench.huffman import gpu
from leandnn.errors import LeandnnError
from leandnn.huffman import full_alexnet


class Codec:
    """Codes bytes as themselves; one that is broken loses a bit."""

    broken = False

    def __init__(self, algorithm: str) -> None:
        assert algorithm == "ANS"

    def encode(self, data: torch.Tensor) -> torch.Tensor:
        return data.clone()

    def decode(self, data: torch.Tensor) -> torch.Tensor:
        return (data ^ 1 if self.broken else data).view(torch.int8)


@pytest.mark.parametrize("broken", [False, True])
def test_rows_of_ours_and_of_a_peer_that_is_checked(monkeypatch: pytest.MonkeyPatch, broken: bool):
    nvcomp = ModuleType("nvidia.nvcomp")
    nvcomp.Codec, nvcomp.as_array = Codec, lambda data: data  # type: ignore[attr-defined]
    nvidia = ModuleType("nvidia")
    nvidia.nvcomp = nvcomp  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "nvidia", nvidia)
    monkeypatch.setitem(sys.modules, "nvidia.nvcomp", nvcomp)
    monkeypatch.setattr(gpu, "present", lambda: True)
    monkeypatch.setattr(Codec, "broken", broken)
    net = full_alexnet.shared(shrink=32)
    if broken:
        with pytest.raises(LeandnnError, match="nvCOMP ANS does not give back the symbols of fc6"):
            gpu.rates(net, 2, device="cpu")
        return
    rows = gpu.rates(net, 2, device="cpu")
    assert [(r["case"]["case"], r["impl"]) for r in rows] == [
        (name, impl) for name in gpu.CASES for impl in ("leandnn", gpu.NVCOMP)
    ]
    assert all(r["work"] > 0 and r["n"] == 2 for r in rows)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_there_are_no_rows():
    assert gpu.rates(full_alexnet.AlexNet(32), 2) == []
