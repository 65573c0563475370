"""Coded linear layers of AlexNet, and the whole net, beside dense, narrower and sparse ones."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from leandnn.bench.benchfile import Row
from leandnn.bench.huffman import memory, peers
from leandnn.bench.timing import interleave, on_threads, row
from leandnn.errors import LeandnnError
from leandnn.huffman import quantise
from leandnn.huffman.costs import kept_nbytes
from leandnn.huffman.full_alexnet import FC, IMAGE, AlexNet
from leandnn.huffman.layers import HuffmanLinear
from leandnn.huffman.model import Compressed
from leandnn.machine import card

BATCHES = (1, 4, 16, 64, 256)
THREADED = (1, 16, 64)
MEMORY_BATCHES = (1, 64)


def linear(
    net: nn.Module, model: Compressed, names: Sequence[str], batches: Sequence[int], repeats: int
) -> list[Row]:
    """Rows of linear layers (names: of full_alexnet.FC), checked against float64; work is images.

    - net: pruned and shared. model: the same net, coded.
    """
    found = []
    for name in names:
        layer = cast(HuffmanLinear, model.layers()[FC[name]])
        weight = layer.dense_weight()
        symbols, codebook = quantise.shared_weights(net.get_submodule(FC[name]))
        if not np.array_equal(weight.numpy(), codebook[symbols]):
            raise LeandnnError(f"{name} is decoded to other weights than were coded")
        for batch in batches:
            x = _activations(batch, layer.in_features)
            ways = peers.linear_layers(layer, weight, x)
            assert layer.bias is not None
            exact = x.double() @ weight.double().t() + layer.bias
            for impl, (call, allowed) in ways.items():
                _check(f"{impl} in {name}, batch {batch}", call(), exact, allowed)
            case = {"what": "layer", "layer": name, "batch": batch}
            calls = {impl: call for impl, (call, _) in ways.items()}
            times = interleave(calls, repeats=repeats, label=f"{name} {batch}")
            found += [row("huffman", case, impl, 1, t, batch, "images") for impl, t in times.items()]
    return found


def threads(model: Compressed, repeats: int, batches: Sequence[int] = THREADED) -> list[Row]:
    """Rows of fc6 by one thread and by two; none on a machine of one core."""
    found: list[Row] = []
    if card.cores() < 2:
        return found
    layer = model.layers()[FC["fc6"]]
    for batch in batches:
        x = _activations(batch, cast(HuffmanLinear, layer).in_features)
        calls = {count: functools.partial(_threaded, layer, x, count) for count in (1, 2)}
        if not torch.equal(calls[1](), calls[2]()):
            raise LeandnnError(f"two threads compute another fc6 than one at batch {batch}")
        times = interleave({str(count): call for count, call in calls.items()}, repeats=repeats)
        case = {"what": "threads", "layer": "fc6", "batch": batch}
        found += [row("huffman", case, "leandnn", int(n), t, batch, "images") for n, t in times.items()]
    return found


def memory_rows(model: Compressed, batches: Sequence[int] = MEMORY_BATCHES) -> list[Row]:
    """Rows of the bytes that a linear layer needs beside x and its result, which are equal for all.

    Work is weights, tables and workspace as accounted; the case has its parts, and what a process of its own grew by
    from before it loaded the layer to the peak of a call, less the result (None where that cannot be measured).
    """
    found = []
    for name, own in FC.items():
        layer = cast(HuffmanLinear, model.layers()[own])
        for batch in batches:
            workspace = layer.workspace_nbytes(batch, feature_major=True)
            total = layer.weight_nbytes + layer.table_nbytes + workspace
            case = {
                "what": "memory", "layer": name, "batch": batch, "compressed_bytes": layer.weight_nbytes,
                "table_bytes": layer.table_nbytes, "workspace_bytes": workspace,
                "measured_bytes": memory.measure(layer, batch),
            }  # fmt: skip
            found.append(row("huffman", case, "leandnn", 1, [1.0], total, "bytes"))
    return found


def whole(models: dict[str, Compressed], batches: Sequence[int], repeats: int) -> list[Row]:
    """Rows of the net: coded in each layout, and torch's dense FP32 with the same weights.

    The case's weight_bytes are what is held whatever the batch: weights, tables, biases, and the workspace that
    convolutions decode into.
    """
    dense = decoded(models["lanes"])
    last = decoded(models["lanes"]).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    found = []
    for batch in batches:
        x = torch.randn(batch, *IMAGE, generator=torch.Generator().manual_seed(0))
        x_last = x.to(memory_format=torch.channels_last)
        nets: dict[str, tuple[Callable[[], Tensor], int]] = {
            "torch.dense": (functools.partial(dense, x), _bytes(dense)),
            "torch.dense (channels last)": (functools.partial(last, x_last), _bytes(dense)),
        }
        for layout, model in models.items():
            impl = "leandnn" if layout == "lanes" else f"leandnn.{layout}"
            nets[impl] = functools.partial(model, x), kept_nbytes(model)
        expected = dense(x)
        for impl, (call, _) in nets.items():
            _check(f"{impl} of the net, batch {batch}", call(), expected.double(), 2.0**-16)
        times = interleave({impl: call for impl, (call, _) in nets.items()}, repeats=repeats, label="net")
        for impl, t in times.items():
            case = {"what": "net", "batch": batch, "weight_bytes": nets[impl][1]}
            found.append(row("huffman", case, impl, 1, t, batch, "images"))
    return found


def decoded(model: Compressed) -> AlexNet:
    """The dense AlexNet of the coded one's weights."""
    with torch.device("meta"):
        net = AlexNet(cast(int, model.model.shrink))
    state = model.model.state_dict()
    for name, layer in model.layers().items():
        key = f"{name}.weight"
        state[key] = layer.dense_weight().view(net.get_parameter(key).shape)
    net.load_state_dict(state, assign=True)
    return net.eval().requires_grad_(False)


def _activations(batch: int, features: int) -> Tensor:
    """What a ReLU leaves of normal numbers."""
    return torch.randn(batch, features, generator=torch.Generator().manual_seed(batch)).relu()


def _check(what: str, found: Tensor, exact: Tensor, allowed: float) -> None:
    """LeandnnError unless an output is what it should be, to a relative error."""
    distance = float((found.double() - exact).norm() / exact.norm())
    if not distance <= allowed:
        raise LeandnnError(f"{what} is wrong: {distance:.2g} away, expected at most {allowed:.2g}")


def _threaded(layer: nn.Module, x: Tensor, count: int) -> Tensor:
    with on_threads(count):
        y: Tensor = layer(x)
        return y


def _bytes(net: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in net.state_dict().values())
