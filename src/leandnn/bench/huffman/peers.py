"""Other Huffman decoders and other ways to run a linear layer, for comparison with ours.

None of the decoders is a dependency: `pip install zstandard dahuffman bitarray` adds them. zstandard's is huff0, the
fastest on CPUs that we know of: with matches that are as good as never found, zstd stores literals alone.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from leandnn.bench.huffman.targets import HUFF0
from leandnn.huffman.layers import HuffmanLayer, HuffmanLinear
from leandnn.kernels.huffman import ops

Bytes = NDArray[np.uint8]
Call = Callable[[], Any]

PACKAGES = ("zstandard", "dahuffman", "bitarray")
SLOW_SYMBOLS = 1 << 17  # of each stream, for what runs in Python


def absent() -> list[str]:
    """Packages of decoders that are not installed."""
    return [name for name in PACKAGES if importlib.util.find_spec(name) is None]


def huffman_decoders(streams: tuple[Bytes, ...], slow: bool) -> dict[str, tuple[Call, int]]:
    """Implementation → (call that decodes the streams, symbols that it decodes); each gives the streams back.

    - slow: those in Python, too, on the first 131072 symbols of each stream.
    """
    found: dict[str, tuple[Call, int]] = {}
    everything = sum(own.size for own in streams)
    if importlib.util.find_spec("zstandard") is not None:
        found |= {name: (call, everything) for name, call in _zstandard(streams).items()}
    if slow:
        short = tuple(own[:SLOW_SYMBOLS] for own in streams)
        for package, maker in (("dahuffman", _dahuffman), ("bitarray", _bitarray)):
            if importlib.util.find_spec(package) is not None:
                found[package] = maker(short), sum(own.size for own in short)
    return found


def _zstandard(streams: tuple[Bytes, ...]) -> dict[str, Call]:
    zstandard = importlib.import_module("zstandard")
    literals = zstandard.ZstdCompressionParameters(
        strategy=zstandard.STRATEGY_FAST, min_match=7, hash_log=6, chain_log=6, window_log=17
    )
    calls: dict[str, Call] = {}
    for name, compressor in (
        (HUFF0, zstandard.ZstdCompressor(compression_params=literals)),
        ("zstandard (level 1)", zstandard.ZstdCompressor(level=1)),
    ):
        packed = [compressor.compress(own.tobytes()) for own in streams]
        reader = zstandard.ZstdDecompressor()

        def call(packed: list[bytes] = packed, reader: Any = reader) -> list[bytes]:
            return [reader.decompress(one) for one in packed]

        calls[name] = call
    return calls


def _dahuffman(streams: tuple[Bytes, ...]) -> Call:
    library = importlib.import_module("dahuffman")
    codecs = [library.HuffmanCodec.from_data(own.tobytes()) for own in streams]
    packed = [codec.encode(own.tobytes()) for codec, own in zip(codecs, streams, strict=True)]
    return lambda: [bytes(codec.decode(one)) for codec, one in zip(codecs, packed, strict=True)]


def _bitarray(streams: tuple[Bytes, ...]) -> Call:
    library, util = importlib.import_module("bitarray"), importlib.import_module("bitarray.util")
    packed = []
    for own in streams:
        symbols = own.tolist()
        code, counts, order = util.canonical_huffman(Counter(symbols))
        bits = library.bitarray()
        bits.encode(code, symbols)
        packed.append((bits, counts, order))
    return lambda: [bytes(util.canonical_decode(*one)) for one in packed]


def csr(layer: HuffmanLayer, x: Tensor) -> Tensor:
    """A decoder (huffman/decoders.py): linear layers go, as a whole at every call, to CSR, by which torch multiplies.

    Convolutions compute as ever.
    """
    if not isinstance(layer, HuffmanLinear):
        y: Tensor = layer(x)
        return y
    y = (_csr(layer) @ x.reshape(-1, layer.in_features).t()).t()
    if layer.bias is not None:
        y = y + layer.bias
    return y.reshape(*x.shape[:-1], layer.out_features)


def _csr(layer: HuffmanLinear) -> Tensor:
    with warnings.catch_warnings():  # torch calls its sparse layouts a beta
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        return ops.to_csr(layer.coded)


def linear_layers(layer: HuffmanLinear, weight: Tensor, x: Tensor) -> dict[str, tuple[Call, float]]:
    """Implementation → (the layer's output for x, the relative error that its number format explains).

    - weight: of the layer, decoded. x: (N, in_features).
    """
    bias = layer.bias
    assert bias is not None
    column, features = bias[:, None], x.t().contiguous()
    half, half_bias, half_x = weight.bfloat16(), bias.bfloat16(), x.bfloat16()
    sparse = _csr(layer)
    dense = torch.empty_like(weight)
    exact = 2.0**-18

    def decode_dense() -> Tensor:
        return F.linear(x, ops.decode(layer.coded, out=dense), bias)

    calls: dict[str, tuple[Call, float]] = {
        "torch.dense": (lambda: F.linear(x, weight, bias), exact),
        "torch.dense (feature-major)": (lambda: torch.addmm(column, weight, features).t(), exact),
        "torch.bf16": (lambda: F.linear(half_x, half, half_bias), 2.0**-6),
        "torch.csr, already decoded": (lambda: (sparse @ features + column).t(), exact),
        "decode → torch.csr": (lambda: csr(layer, x), exact),
        "decode → torch.dense": (decode_dense, exact),
        "leandnn": (lambda: layer(x), exact),
        "leandnn (feature-major)": (lambda: layer(features.t()), exact),
    }
    quantised = _int8(weight, bias)
    if quantised is not None:
        calls["torch.int8 (dynamic)"] = (lambda: quantised(x), 2.0**-3)
    return calls


def _int8(weight: Tensor, bias: Tensor) -> nn.Module | None:
    """Torch's dynamically quantised layer, None where this torch has none."""
    plain = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    plain.weight, plain.bias = nn.Parameter(weight, False), nn.Parameter(bias, False)
    try:
        with warnings.catch_warnings():  # it is called deprecated
            warnings.simplefilter("ignore")
            quantization = importlib.import_module("torch.ao.quantization")
            module: nn.Module = quantization.quantize_dynamic(nn.Sequential(plain), {nn.Linear}, torch.qint8)
            return module
    except (ImportError, AttributeError, RuntimeError):
        return None


def same(found: Iterable[bytes], streams: tuple[Bytes, ...]) -> bool:
    """Whether decoded streams are the given ones, or their beginnings."""
    return all(
        len(one) >= min(own.size, SLOW_SYMBOLS) and one == own[: len(one)].tobytes()
        for one, own in zip(found, streams, strict=True)
    )
