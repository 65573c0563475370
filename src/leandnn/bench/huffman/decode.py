"""How small the coded AlexNet is, and how fast its symbols are decoded."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import nn

from leandnn.bench.benchfile import Row
from leandnn.bench.huffman import peers
from leandnn.bench.timing import interleave, row
from leandnn.errors import LeandnnError
from leandnn.huffman import quantise
from leandnn.huffman.model import Compressed
from leandnn.kernels import dispatch
from leandnn.kernels.huffman import ops
from leandnn.kernels.huffman.encode import encode
from leandnn.kernels.huffman.format import Coded

# Case → layer, bits of a code word at most in the "lanes" layout, bits of an index.
CASES = {
    "fc6, 7 bits": ("classifier.1", 7, 5),
    "fc6, 8 bits": ("classifier.1", 8, 5),
    "conv3, 256 values": ("features.6", 11, 8),
}
PATHS = ("avx2", "baseline")  # what machines without AVX-512 VBMI run


def sizes(models: dict[str, Compressed], shrink: int = 1) -> list[Row]:
    """Rows of bytes, of each layer and of all; their time and rate mean nothing.

    - models: layout → the same net. shrink: of the net, noted in the case of all.

    The case of a layer has the bytes of its weights' and its indices' code words, of padding, and Shannon's bound for
    the code words; what is left are tables, counts and offsets.
    """
    found = []
    for layout, model in models.items():
        layers = model.bits()
        for own in layers:
            case: dict[str, Any] = {"what": "size", "layout": layout, "layer": own.name}
            case |= {"dense_bytes": own.dense_bits // 8, "weight_bytes": round(own.weight_bits / 8)}
            case |= {"index_bytes": round(own.advance_bits / 8), "padding_bytes": round(own.padding_bits / 8)}
            case["entropy_bytes"] = round((own.weight_entropy + own.advance_entropy) / 8)
            found.append(row("huffman", case, "leandnn", 1, [1.0], own.total_bits / 8, "bytes"))
        total, dense = sum(own.total_bits for own in layers), sum(own.dense_bits for own in layers)
        case = {"what": "size", "layout": layout, "layer": "all", "dense_bytes": dense // 8, "shrink": shrink}
        found.append(row("huffman", case, "leandnn", 1, [1.0], total / 8, "bytes"))
    return found


def rates(net: nn.Module, repeats: int, names: tuple[str, ...] = tuple(CASES)) -> list[Row]:
    """Rows of decoding alone, to a byte a symbol; what is decoded is compared with what was coded.

    - net: pruned and shared. names: of CASES.

    Ours decodes weights and advances in their one pass, the peers one stream of each. Work is the symbols of slots:
    padding is not counted.
    """
    found: list[Row] = []
    for name in names:
        layer, limit, width = CASES[name]
        symbols, codebook = quantise.shared_weights(net.get_submodule(layer))
        matrix = np.ascontiguousarray(symbols.reshape(symbols.shape[0], -1))
        coded = {
            "lanes": encode(matrix, codebook, layout="lanes", index_bits=width, limit=limit),
            "streams": encode(matrix, codebook, layout="streams", index_bits=width),
        }
        slots = ops.slots(coded["lanes"])
        streams = slots.advances, slots.weights
        work = dict.fromkeys(("leandnn", "memcpy"), 2 * slots.advances.size)
        calls: dict[str, Callable[[], object]] = {"leandnn": _call(coded["lanes"], dispatch.active())}
        paths = [path for path in (*PATHS, dispatch.active()) if path in dispatch.supported()]
        for path, layout in itertools.product(dict.fromkeys(paths), coded):
            if (path, layout) != (dispatch.active(), "lanes"):
                _check(name, coded[layout], coded["lanes"], path)
                impl = f"leandnn.{path}.{layout}"
                calls[impl], work[impl] = _call(coded[layout], path), work["leandnn"]
        for impl, (call, size) in peers.huffman_decoders(streams, slow=limit == 7).items():
            if not peers.same(call(), streams):
                raise LeandnnError(f"{impl} does not give back the symbols of {name}")
            calls[impl], work[impl] = call, size
        plain = np.concatenate(streams)
        calls["memcpy"] = functools.partial(np.copyto, np.empty_like(plain), plain)
        case = {
            "what": "decode", "case": name,
            "bits_per_symbol": round(8 * coded["lanes"].data.size / work["leandnn"], 3),
            "streams_bits_per_symbol": round(8 * coded["streams"].data.size / work["leandnn"], 3),
        }  # fmt: skip
        times = interleave(calls, repeats=repeats, label=f"decode {name}")
        found += [row("huffman", case, impl, 1, t, work[impl] / 1e6, "Msymbol") for impl, t in times.items()]
    return found


def _call(coded: Coded, path: str) -> Callable[[], object]:
    """Decode on an instruction set."""
    out = np.empty(ops.symbols_nbytes(coded), np.uint8)

    def call() -> object:
        with dispatch.using(path):
            return ops.symbols(coded, out=out)

    return call if path != dispatch.active() else lambda: ops.symbols(coded, out=out)


def _check(name: str, coded: Coded, expected: Coded, path: str) -> None:
    """LeandnnError unless a path decodes the same slots as the best one."""
    with dispatch.using(path):
        found = ops.slots(coded)
    right = ops.slots(expected)
    if not (np.array_equal(found.advances, right.advances) and np.array_equal(found.weights, right.weights)):
        raise LeandnnError(
            f"{path} decodes other symbols than {dispatch.active()} from {coded.layout} of {name}"
        )
