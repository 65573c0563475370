""".lhuf files with something wrong, and what `load` must make of them: for tests and the fuzzer."""

from __future__ import annotations

import functools
import json
import re
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tests.kernels import huffman_mutations
from tests.kernels.huffman_mutations import Random
from torch import Tensor, nn

from leandnn.errors import LeandnnError
from leandnn.huffman import compress, load, sections
from leandnn.huffman.sections import CODED, META, TENSORS
from leandnn.kernels.huffman.format import LAYOUTS, CodedError
from leandnn.kernels.huffman.ops import crc32c

HEAD, ENTRY = 32, 32
VALUES: tuple[Any, ...] = (
    *(0, 1, -1, 2, 3, 255, 1 << 31, 1 << 62, 1 << 63, 10**30, 0.5, -1.0, 1e400, float("nan")),
    *("", "x", "same", "bias", "Linear", "HuffmanLinear", "__class__", "forward", "eval", "0", "a.b", "a..b"),
    *(None, True, False, [], {}, [1, 2], [[]], {"step": 0}, {"step": 99}, {"tuple": []}, {"slice": [1]}),
)


class Net(nn.Module):
    """Convolutions, a residual, functional calls, and a tensor of each type that a file holds."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.out = nn.Linear(16, 5)
        self.register_buffer("kept", torch.ones(3, dtype=torch.bool))
        self.register_buffer("exact", torch.zeros(2, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        y = self.features(x)
        y = torch.flatten(nn.functional.adaptive_avg_pool2d(y + y, (2, 2)), 1)
        result: Tensor = self.out(y)
        return result


@functools.cache
def valid() -> tuple[bytes, ...]:
    """Files of small nets: of both layouts, of a net that has no program, and of a bare layer."""
    torch.manual_seed(0)
    nets = [compress(Net(), density=0.5, layout=layout, bits=4) for layout in LAYOUTS]
    nets += [compress(nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3, bias=False)), bits=3)]
    nets += [compress(nn.Linear(7, 9), bits=2)]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for net in nets:
            net.save(Path(folder) / "m.lhuf")
            found.append((Path(folder) / "m.lhuf").read_bytes())
    return tuple(found)


def split(data: bytes) -> list[tuple[int, bytes]]:
    """(kind, bytes) of the sections of a valid file."""
    return [(own.kind, own.data.tobytes()) for own in sections.read(np.frombuffer(data, np.uint8), "m")]


def joined(parts: list[tuple[int, bytes]]) -> bytes:
    """A file of these sections, all its checksums right."""
    with tempfile.TemporaryDirectory() as folder:
        made = [sections.Section(kind, np.frombuffer(content, np.uint8)) for kind, content in parts]
        sections.write(Path(folder) / "m.lhuf", made)
        return (Path(folder) / "m.lhuf").read_bytes()


def signed(data: bytearray) -> bytes:
    """The file with the checksum of its header made right."""
    if len(data) >= HEAD:
        end = HEAD + ENTRY * struct.unpack_from("<I", data, 12)[0]
        content = np.frombuffer(bytes(data[:28] + data[HEAD:end]), np.uint8)
        struct.pack_into("<I", data, 28, crc32c(content))
    return bytes(data)


def _nodes(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of everything inside JSON data."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [own for key in list(keys) for own in ((value, key), *_nodes(value[key]))]


def _described(text: bytes, random: Random) -> bytes:
    """The description with one to three things exchanged, lost, added or repeated."""
    meta = json.loads(text)
    for _ in range(int(random.integers(1, 4))):
        nodes = _nodes(meta)
        container, key = nodes[int(random.integers(len(nodes)))]
        other, other_key = nodes[int(random.integers(len(nodes)))]
        kind = int(random.integers(5))
        if kind == 0:
            del container[key]
        elif kind == 1 and isinstance(container, dict):
            container[str(random.choice([v for v in VALUES if isinstance(v, str)]))] = container.pop(key)
        elif kind == 2:
            container[key] = json.loads(json.dumps(other[other_key]))
        elif kind == 3 and type(container[key]) is int:
            container[key] += int(random.choice([-1, 1]))
        else:
            container[key] = VALUES[int(random.integers(len(VALUES)))]
    return json.dumps(meta).encode()


def mutate(data: bytes, random: Random) -> bytes:
    """The file with something wrong, in half of the cases behind checksums that are right."""
    kind = int(random.integers(8))
    if kind <= 1:  # damage
        changed = bytearray(data)
        if random.integers(3):
            for _ in range(int(random.integers(1, 5))):
                changed[int(random.integers(len(changed)))] ^= 1 << int(random.integers(8))
        elif random.integers(2):
            del changed[int(random.integers(len(changed))) :]
        else:
            changed += random.bytes(int(random.integers(1, 100)))
        return bytes(changed)
    if kind == 2:  # a header or a table that was meant
        changed = bytearray(data)
        end = HEAD + ENTRY * struct.unpack_from("<I", changed, 12)[0]
        at = 4 * int(random.integers(2, end // 4))
        old = struct.unpack_from("<I", changed, at)[0]
        new = int(random.choice([old + 1, old - 1, old + 64, 0, 1, 2, 3, 4, (1 << 31) - 1, (1 << 32) - 1]))
        struct.pack_into("<I", changed, at, new % (1 << 32))
        return signed(changed)
    parts = split(data)
    if kind == 3:  # sections exchanged, lost or repeated
        a, b = (int(n) for n in random.integers(len(parts), size=2))
        parts[a], parts[b] = parts[b], parts[a]
        if random.integers(2):
            parts = parts[:-1] if random.integers(2) else [*parts, parts[b]]
        return joined(parts)
    which = int(random.choice([i for i, own in enumerate(parts) if own[0] == (META if kind <= 5 else CODED)]))
    content = parts[which][1]
    parts[which] = (
        parts[which][0],
        _described(content, random) if kind <= 5 else huffman_mutations.mutate(content, random),
    )
    if kind == 7:
        numbers = bytearray(parts[1][1])
        for _ in range(3):
            numbers[int(random.integers(len(numbers)))] ^= 1 << int(random.integers(8))
        parts[1] = TENSORS, bytes(numbers)
    return joined(parts)


def _net(data: bytes) -> tuple[Any, Any]:
    """What a file says of the net: its modules and its program."""
    meta = json.loads(split(data)[0][1])
    return meta["modules"], meta["program"]


def outcome(data: bytes, path: Path) -> str:
    """The class of what loading a file leads to, and running it where its net is one of `valid`.

    - path: where to write it.
    """
    path.write_bytes(data)
    try:
        net = load(path, mmap=True)
    except LeandnnError as error:
        # Of descriptions that are no model's, the kind of error alone: they are wrong in any number of ways.
        reason = re.sub(
            r"(no model: \w+|program is broken|it begins with).*",
            r"\1",
            str(error).replace(path.name, "file"),
        )
        return f"refused: {huffman_mutations.sentence(reason)}"
    if _net(data) not in [_net(own) for own in valid()]:
        return "loaded"
    layer = next(iter(net.layers().values()))
    shape = (2, 2, 6, 6) if "features.0" in net.layers() else (2, layer.coded.columns)
    try:
        with torch.no_grad():
            net(torch.ones(shape))
    except (ValueError, RuntimeError) as error:  # of the streams, or of sides that no longer fit one another
        kind = huffman_mutations.sentence(error) if isinstance(error, CodedError) else "sides do not fit"
        return f"broken: {kind}"
    return "ran"
