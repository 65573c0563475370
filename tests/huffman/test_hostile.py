"""Files that are damaged, hostile, or change while they are read: an error in one sentence, or what was saved."""

from __future__ import annotations

import json
import os
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.kernels import huffman_files
from torch import nn

from leandnn.errors import LeandnnError
from leandnn.huffman import compress, load
from leandnn.huffman.sections import META, TENSORS
from leandnn.kernels import dispatch
from leandnn.kernels.huffman.format import CodedError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "m.lhuf"


def refused(path: Path, data: bytes, match: str) -> None:
    path.write_bytes(data)
    for mmap in (False, True):
        with pytest.raises(LeandnnError, match=match):
            load(path, mmap=mmap)


def described(data: bytes, change: Any) -> bytes:
    """The file with its description changed in place by a function, all checksums right."""
    parts = huffman_files.split(data)
    meta = json.loads(parts[0][1])
    change(meta)
    return huffman_files.joined([(META, json.dumps(meta).encode()), *parts[1:]])


def test_every_truncation_and_every_damaged_byte_is_refused(path: Path):
    data = huffman_files.valid()[3]
    for size in range(0, len(data), 7):
        refused(path, data[:size], "cut off|damaged|no .lhuf")
    refused(path, data + b"\0", "cut off or damaged")
    for at in range(0, len(data), 5):
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        refused(path, bytes(changed), "damaged|no .lhuf|version")


def test_what_is_no_file_of_this_version_is_named(path: Path, tmp_path: Path):
    data = huffman_files.valid()[2]
    newer = bytearray(data)
    struct.pack_into("<I", newer, 8, 2)
    refused(path, huffman_files.signed(newer), "has version 2 of the format, this program reads version 1")
    refused(path, b"PK\3\4" + data[4:], "no .lhuf file")
    refused(path, b"", "0 bytes, too few")
    with pytest.raises(LeandnnError, match="cannot be read: No such file"):
        load(tmp_path / "none")
    with pytest.raises(LeandnnError, match="cannot be read: Is a directory"):
        load(tmp_path)


def _first(meta: dict[str, Any]) -> dict[str, Any]:
    own: dict[str, Any] = next(iter(meta["modules"].values()))
    return own


WRONG = {
    "a class of no table": (lambda m: m["modules"].update(x={"kind": "Module", "arguments": {}}), "KeyError"),
    "a path as a class": (
        lambda m: m["modules"].update(x={"kind": "os.system", "arguments": {}}),
        "KeyError",
    ),
    "a function of no table": (
        lambda m: m["program"].insert(1, ["function", "eval", [], {"dict": {}}]),
        "eval",
    ),
    "a private method": (
        lambda m: m["program"].insert(1, ["method", "__reduce__", [], {"dict": {}}]),
        "__reduce__",
    ),
    "a division by zero": (
        lambda m: m["modules"].update(
            x={
                "kind": "GroupNorm",
                "arguments": {"num_groups": 0, "num_channels": 4, "eps": 1.0, "affine": True},
            }
        ),
        "ZeroDivisionError",
    ),
    "a weight that is not there": (lambda m: _first(m).update(coded=7), "coded weight 7"),
    "a negative number of a weight": (lambda m: _first(m).update(coded=-1), "coded weight -1"),
    "a weight that nobody uses": (
        lambda m: m["modules"].pop(next(k for k, v in m["modules"].items() if "coded" in v)),
        "coded weights|KeyError|does not exist",
    ),
    "a layer without a shape": (
        lambda m: m["modules"].update(
            x={
                "kind": "Linear",
                "arguments": {"in_features": 1 << 40, "out_features": 1 << 40, "bias": False},
            }
        ),
        "RuntimeError|OverflowError",
    ),
    "a tensor behind the end": (lambda m: m["tensors"]["0.bias"].update(shape=[1 << 40]), "lies at"),
    "a tensor of negative size": (lambda m: m["tensors"]["0.bias"].update(shape=[-6]), "lies at"),
    "two tensors in one place": (lambda m: m["tensors"].update(x=m["tensors"]["0.bias"]), "lies at"),
    "a type of no table": (lambda m: m["tensors"]["0.bias"].update(dtype="object"), "KeyError"),
    "a step from behind": (
        lambda m: m["program"].__setitem__(1, ["module", "0", [{"step": 3}], {"dict": {}}]),
        "step",
    ),
    "no end": (lambda m: m["program"].pop(), "one output"),
}


@pytest.mark.parametrize("name", WRONG)
def test_hostile_descriptions(path: Path, name: str):
    change, match = WRONG[name]
    refused(path, described(huffman_files.valid()[2], change), match)


def test_a_description_nested_without_end(path: Path):
    parts = huffman_files.split(huffman_files.valid()[2])
    for text in (
        b"[" * 200_000,
        b'{"modules":' * 200_000,
        parts[0][1].replace(b'"program":', b'"program":' + b"[" * 9999),
    ):
        refused(path, huffman_files.joined([(META, text), *parts[1:]]), "describes no model")


def test_a_truth_value_is_0_or_1(path: Path):
    parts = huffman_files.split(huffman_files.valid()[0])
    offset = json.loads(parts[0][1])["tensors"]["kept"]["offset"]
    numbers = bytearray(parts[1][1])
    numbers[offset] = 2
    refused(path, huffman_files.joined([parts[0], (TENSORS, bytes(numbers)), *parts[2:]]), "truth value")


def test_loading_takes_memory_in_proportion_to_the_file(path: Path):
    """Descriptions that name huge things: none is made before its size was compared with the bytes there are."""
    data = huffman_files.valid()[2]
    for key in ("a tensor behind the end", "a layer without a shape", "two tensors in one place"):
        path.write_bytes(described(data, WRONG[key][0]))
        tracemalloc.start()
        with pytest.raises(LeandnnError):
            load(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 << 20


def test_a_replaced_file_stays_for_those_who_mapped_it(path: Path):
    torch.manual_seed(0)
    first, second = (compress(nn.Linear(200, 300), density=0.2) for _ in range(2))
    x = torch.randn(3, 200)
    first.save(path)
    mapped = load(path, mmap=True)
    expected = mapped(x)
    second.save(path)
    assert torch.equal(mapped(x), expected) and torch.equal(load(path, mmap=True)(x), second(x))


def test_a_file_overwritten_in_place_gives_an_error_at_worst(path: Path):
    torch.manual_seed(0)
    compress(nn.Linear(200, 300), density=0.2).save(path)
    mapped = load(path, mmap=True)
    size = path.stat().st_size
    random = np.random.default_rng(0)
    broken = 0
    for _ in range(6):
        with path.open("r+b") as stream:
            stream.write(random.bytes(size))
            stream.flush()
            os.fsync(stream.fileno())
        for isa in dispatch.supported():
            with dispatch.using(isa):
                try:
                    mapped(torch.ones(2, 200))
                except CodedError:
                    broken += 1
    assert broken
