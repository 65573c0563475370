"""Cost tables: what is measured, and what layers say of their workspace."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from leandnn.bench.huffman.plans import DECODERS
from leandnn.errors import LeandnnError
from leandnn.huffman import Compressed, Costs, compress
from leandnn.huffman.costs import held_nbytes
from leandnn.huffman.layers import HuffmanConv2d, HuffmanLinear
from leandnn.kernels import dispatch

counted = pytest.mark.skipif(
    sys.platform != "linux", reason="NOT CHECKED: peaks of memory are counted on Linux only"
)


def small() -> Compressed:
    torch.manual_seed(0)
    return compress(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10)))


@counted
@pytest.mark.parametrize("decoder", DECODERS)
def test_tables_have_a_cell_for_each_unit_size_and_repeat(decoder: str):
    costs = Costs.measure(small(), (3, 8, 8), (4, 1, 4), 3, decoder=DECODERS[decoder])
    assert (costs.units, costs.batches, costs.decoder) == (("0", "3"), (1, 4), decoder)
    assert costs.seconds.shape == (3, 2, 2) and (costs.seconds > 0).all()
    assert costs.copy_seconds.shape == (3, 2) and (costs.copy_seconds > 0).all()
    assert costs.item_nbytes.tolist() == [4 * 3 * 64, 4 * 8 * 36]
    results = 4 * np.array([[8 * 36], [10]]) * np.array([[1, 4]])
    assert (costs.peak_nbytes >= results).all()
    assert costs.threads == torch.get_num_threads()
    assert costs.only((4,)).seconds.shape == (3, 2, 1)


@counted
def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ValueError, match=r"batches are \(\) and repeats 5, expected"):
        Costs.measure(small(), (3, 8, 8), ())
    with pytest.raises(ValueError, match="repeats 0"):
        Costs.measure(small(), (3, 8, 8), (1,), 0)

    class Summed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return torch.mean(self.linear(x), 0)

    with pytest.raises(LeandnnError, match=r"unit linear makes torch.float32 \(4,\) of 2 items, expected"):
        Costs.measure(compress(Summed()), (4,), (2,), 1)
    costs = Costs.measure(small(), (3, 8, 8), (1, 2), 1)
    with pytest.raises(ValueError, match=r"peak_nbytes has shape \(2, 1\), expected \(2, 2\)"):
        Costs(**{**costs.__dict__, "peak_nbytes": costs.peak_nbytes[:, :1]})
    with pytest.raises(ValueError, match=r"batches are \(2, 1\), expected ascending"):
        Costs(**{**costs.__dict__, "batches": (2, 1)})


def test_a_net_holds_weights_tables_and_a_decoded_convolution():
    model = small()
    linear, conv = model.layers()["3"], model.layers()["0"]
    own = [model.weight_nbytes, linear.table_nbytes, conv.table_nbytes, 4 * 8 * 27]
    scratch = max(linear.scratch_nbytes, conv.scratch_nbytes)
    assert held_nbytes(model) == sum(own) + scratch + 4 * (8 + 10)
    with torch.no_grad():
        model(torch.randn(2, 3, 8, 8))
    assert model.workspace.nbytes == 4 * 8 * 27


SLACK = 1 << 20  # bytes: the system adds up pages processor by processor, and some of them late
# A process that has computed before keeps freed memory in many ways: these measure in one of their own.
LINEAR = """
import torch
from torch import nn
from leandnn.machine import memory
from leandnn.huffman import compress

memory.return_freed()
torch.manual_seed(0)
layer = compress(nn.Linear(8192, 512), density=0.1).layers()[""]
for batch in (1, 64, 256):
    for major in (True, False):
        x = torch.randn(8192, batch).t() if major else torch.randn(batch, 8192)
        layer(x)
        stated = layer.workspace_nbytes(batch, feature_major=major)
        print(batch, int(major), stated, memory.growth(lambda: layer(x)) - 4 * 512 * batch, layer.scratch_nbytes)
"""
GROWTH = """
import torch
from leandnn.machine import memory

def call():
    passing = torch.ones(8 << 20, dtype=torch.uint8)
    del passing
    return torch.ones(2 << 20, dtype=torch.uint8)

memory.return_freed()
call()
print(memory.growth(call), memory.growth(lambda: None))
"""


def printed(program: str) -> list[list[int]]:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [[int(word) for word in line.split()] for line in done.stdout.splitlines()]


@pytest.mark.slow
@counted
@pytest.mark.skipif(dispatch.supported() == ("reference",), reason="NOT CHECKED without compiled kernels")
def test_a_linear_layer_needs_no_more_workspace_than_it_states():
    found = printed(LINEAR)
    assert len(found) == 6
    for batch, major, stated, measured, scratch in found:
        # Scratch memory is there since the first call.
        assert measured <= stated + SLACK
        assert stated <= measured + SLACK
        assert stated < 4 * 512 * 8192 / 3
        as_it_is = batch == 1 or (major and batch <= 64)
        assert stated == scratch + (0 if as_it_is else 4 * 8192 * min(batch, 64))


def test_a_model_states_its_largest_layer_of_each_kind():
    model = small()
    conv, linear = model.layers()["0"], model.layers()["3"]
    assert isinstance(conv, HuffmanConv2d) and isinstance(linear, HuffmanLinear)
    for batch in (1, 8):
        assert model.workspace_nbytes(batch) == 4 * 8 * 27 + linear.workspace_nbytes(batch)


@counted
def test_growth_counts_what_is_freed_and_what_is_returned():
    ((growth, nothing),) = printed(GROWTH)
    assert (8 << 20) - SLACK <= growth <= (8 << 20) + SLACK
    assert nothing < SLACK
