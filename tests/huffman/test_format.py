"""A second reader of .lhuf files, written from docs/lhuf.md alone: plain Python, nothing of the package's own."""

from __future__ import annotations

import json
import struct
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from leandnn.huffman import compress, load
from leandnn.kernels.huffman.format import LAYOUTS

Matrix = list[list[float]]


def crc32c(data: bytes) -> int:
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


def sections(data: bytes) -> list[tuple[int, bytes]]:
    assert data[:8] == bytes.fromhex("894C4855460D0A1A")
    version, count, size, zero, crc = struct.unpack_from("<IIQII", data, 8)
    assert (version, size, zero) == (1, len(data), 0)
    end = 32 + 32 * count
    assert crc32c(data[:28] + data[32:end]) == crc
    found = []
    for number in range(count):
        kind, crc, begin, length, zero = struct.unpack_from("<IIQQQ", data, 32 + 32 * number)
        assert begin == -(-end // 64) * 64
        assert not any(data[end:begin]) and zero == 0
        end = begin + length
        assert crc32c(data[begin:end]) == crc
        found.append((kind, data[begin:end]))
    assert end == len(data)
    return found


class Bits:
    """A queue of bits."""

    def __init__(self, data: bytes = b"") -> None:
        self.bits: deque[int] = deque()
        self.append(data)

    def append(self, data: bytes) -> None:
        self.bits += [byte >> i & 1 for byte in data for i in range(7, -1, -1)]

    def symbol(self, words: dict[tuple[int, ...], int]) -> int:
        word: tuple[int, ...] = ()
        while word not in words:
            assert len(word) < 11
            word = (*word, self.bits.popleft())
        return words[word]


def code(lengths: bytes) -> dict[tuple[int, ...], int]:
    """Symbols by their words."""
    words, value, before = {}, -1, 0
    for length, symbol in sorted((length, symbol) for symbol, length in enumerate(lengths) if length):
        value = value + 1 << length - before
        words[tuple(value >> i & 1 for i in range(length - 1, -1, -1))] = symbol
        before = length
    assert sum(2.0 ** -len(word) for word in words) == 1
    return words


def matrix(data: bytes) -> Matrix:
    layout, a, w, b, rows, columns, o, zero, size = struct.unpack_from("<IIIIQQIIQ", data)
    assert zero == 0
    parts, at = [], 48
    for length, alignment in ((a, 4), (w, 4), (4 * w, 4), (b * rows, 4), (4 * o, 4), (size, 64)):
        begin = -(-at // alignment) * alignment
        assert not any(data[at:begin])
        at = begin + length
        parts.append(data[begin:at])
    assert at == len(data)
    codebook = struct.unpack(f"<{w}f", parts[2])
    counts = struct.unpack(f"<{rows}{'H' if b == 2 else 'I'}", parts[3])
    offsets = struct.unpack(f"<{o}I", parts[4])
    narrow = max(a, w) <= 32 and max(parts[0] + parts[1]) <= 8
    read = lanes if layout == 0 else streams
    result = [[0.0] * columns for _ in range(rows)]
    for row, slots in read(Content(code(parts[0]), code(parts[1]), narrow, counts, offsets, parts[5])):
        column = -1
        for advance, weight in slots:
            column += advance + 1
            result[row][column] = codebook[weight]
    return result


Words = dict[tuple[int, ...], int]
Slots = list[tuple[int, int]]


class Content(NamedTuple):
    advances: Words
    weights: Words
    narrow: bool
    counts: tuple[int, ...]
    offsets: tuple[int, ...]
    data: bytes


def lanes(content: Content) -> Iterator[tuple[int, Slots]]:
    advances, weights, narrow, counts, offsets, data = content
    order = sorted(range(len(counts)), key=lambda row: (-counts[row], row))
    groups = [order[begin : begin + 128] for begin in range(0, len(order), 128)]
    assert len(offsets) == len(groups) + 1
    for number, rows in enumerate(groups):
        at = offsets[number]
        queues, slots = [Bits() for _ in rows], [Slots() for _ in rows]

        def refill(active: list[int], queues: list[Bits] = queues) -> None:
            nonlocal at
            for lane in active:
                if len(queues[lane].bits) < 16:
                    queues[lane].append(data[2 * at : 2 * at + 2][::-1])
                    at += 1

        for step in range(counts[rows[0]]):
            active = [lane for lane, row in enumerate(rows) if counts[row] > step]
            refill(active)
            first = [queues[lane].symbol(advances) for lane in active]
            if not narrow:
                refill(active)
            for lane, advance in zip(active, first, strict=True):
                slots[lane].append((advance, queues[lane].symbol(weights)))
        assert at == offsets[number + 1]
        yield from zip(rows, slots, strict=True)


def streams(content: Content) -> Iterator[tuple[int, Slots]]:
    advances, weights, _, counts, offsets, data = content
    groups: list[list[int]] = []
    for row, count in enumerate(counts):
        if not groups or sum(counts[other] for other in groups[-1]) + count > 16384:
            groups.append([])
        groups[-1].append(row)
    assert len(offsets) == 8 * len(groups) + 1
    for number, rows in enumerate(groups):
        n = sum(counts[row] for row in rows)
        part = -(-n // 4)
        symbols: list[list[int]] = [[], []]
        for i in range(8):
            begin, end = offsets[8 * number + i], offsets[8 * number + i + 1]
            string, size = Bits(data[begin:end]), min((i % 4 + 1) * part, n) - min(i % 4 * part, n)
            symbols[i // 4] += [string.symbol((advances, weights)[i // 4]) for _ in range(size)]
            assert len(string.bits) < 8
        slots = list(zip(*symbols, strict=True))
        for row in rows:
            yield row, slots[: counts[row]]
            slots = slots[counts[row] :]


def tensor(own: dict[str, Any], data: bytes) -> Any:
    size = int(np.prod(own["shape"]))
    letter = {"float32": "f", "float64": "d", "int64": "q", "bool": "?"}[own["dtype"]]
    return np.array(struct.unpack_from(f"<{size}{letter}", data, own["offset"])).reshape(own["shape"])


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 140, 3, groups=1, padding=1), nn.BatchNorm2d(140), nn.ReLU())
        self.last = nn.Linear(140, 7)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.first(x).mean((2, 3)))
        return y


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("bits", "index_bits"), [(5, None), (8, 7)], ids=["narrow", "wide"])
def test_the_document_is_enough_to_read_a_file(
    tmp_path: Path, layout: str, bits: int, index_bits: int | None
):
    torch.manual_seed(0)
    path = tmp_path / "m.lhuf"
    net = compress(Net(), density=0.4, bits=bits, index_bits=index_bits, layout=layout)
    net.save(path)
    (meta_kind, text), (tensors_kind, numbers), *coded = sections(path.read_bytes())
    assert (meta_kind, tensors_kind) == (1, 2) and {kind for kind, _ in coded} == {3}
    meta = json.loads(text)
    assert set(meta) == {"producer", "modules", "tensors", "program"}

    state, layers = net.model.state_dict(), net.layers()
    assert list(meta["tensors"]) == list(state)
    for name, own in meta["tensors"].items():
        assert np.array_equal(tensor(own, numbers), state[name].numpy())
    assert {name for name, own in meta["modules"].items() if "coded" in own} == set(layers)
    for name, layer in layers.items():
        own = meta["modules"][name]
        assert own["kind"] == type(layer).__name__ and own["bias"]
        found = matrix(coded[own["coded"]][1])
        assert np.array_equal(np.array(found, np.float32), layer.dense_weight().numpy())
    assert meta["modules"]["first.0"]["arguments"]["padding"] == [1, 1]
    assert [step[:2] for step in meta["program"]] == [
        ["input", "x"],
        ["module", "first.0"],
        ["module", "first.1"],
        ["module", "first.2"],
        ["method", "mean"],
        ["module", "last"],
        ["output", ""],
    ]
    assert meta["program"][4][2:] == [{"tuple": [{"step": 3}, {"tuple": [2, 3]}]}, {"dict": {}}]


def test_groups_of_many_slots_are_read(tmp_path: Path):
    """More than one group of each layout, one row alone in a group, and counts of four bytes."""
    weight = np.zeros((5, 70_000), np.float32)
    weight[0, :66_000] = weight[2, ::9] = weight[4, ::8] = 1.0
    layer = nn.Linear(70_000, 5, bias=False)
    layer.weight.data = torch.from_numpy(weight)
    for layout in LAYOUTS:
        compress(layer, bits=2, layout=layout).save(tmp_path / layout)
        content = sections((tmp_path / layout).read_bytes())[2][1]
        assert struct.unpack_from("<I", content, 12)[0] == 4
        assert np.array_equal(np.array(matrix(content), np.float32), weight)
        assert np.array_equal(load(tmp_path / layout).layers()[""].dense_weight().numpy(), weight)


def test_two_files_of_the_same_net_are_the_same_bytes(tmp_path: Path):
    torch.manual_seed(0)
    net = compress(Net(), bits=3)
    for name in ("a", "b"):
        net.save(tmp_path / name)
    load(tmp_path / "a").save(tmp_path / "c")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()
