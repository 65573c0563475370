"""From a model to a .lhuf file and back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leandnn.huffman import compress, load, quantise
from leandnn.kernels.huffman.format import LAYOUTS


class Branched(nn.Module):
    """A residual net with functional calls."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.norm = nn.BatchNorm2d(4)
        self.out = nn.Linear(4 * 4, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm(self.conv(x))) + x
        return self.out(torch.flatten(F.adaptive_avg_pool2d(y, (2, 2)), 1))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_saved_model_computes_what_the_compressed_one_computes(tmp_path: Path, layout: str):
    torch.manual_seed(0)
    net, x = Branched().eval(), torch.randn(3, 4, 8, 8)
    net.norm.running_mean.uniform_()
    compressed = compress(net, density=0.5, layout=layout)
    with torch.no_grad():
        net.conv.weight.copy_(compressed.layers()["conv"].dense_weight().view_as(net.conv.weight))
        net.out.weight.copy_(compressed.layers()["out"].dense_weight())
        expected = net(x)
    torch.testing.assert_close(compressed(x), expected)
    compressed.save(tmp_path / "m.lhuf")
    assert torch.equal(load(tmp_path / "m.lhuf")(x), compressed(x))
    assert torch.equal(load(tmp_path / "m.lhuf", mmap=True)(x), compressed(x))
    assert torch.equal(load(tmp_path / "m.lhuf", into=Branched())(x), compressed(x))


@pytest.mark.parametrize("bits", [1, 2, 5])
def test_a_shared_weight_has_as_many_values_as_its_bits_name(bits: int):
    layer = nn.Linear(16, 16)
    with torch.no_grad():
        layer.weight[0] = 0
    quantise.share(layer, bits)
    assert layer.weight.unique().numel() == 2**bits
    assert (layer.weight[0] == 0).all()
