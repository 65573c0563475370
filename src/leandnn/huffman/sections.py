"""The outer structure of a .lhuf file: a header, and sections with a checksum each (docs/lhuf.md)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from leandnn.errors import LeandnnError
from leandnn.files import replacing
from leandnn.kernels.huffman.ops import crc32c

Bytes = NDArray[np.uint8]

MAGIC = b"\x89LHUF\r\n\x1a"
VERSION = 1
META, TENSORS, CODED = 1, 2, 3
ALIGNMENT = 64
# Magic, version, number of sections, size of the file, zero, CRC32C of the rest and the table.
HEADER = struct.Struct("<8sIIQII")
# Kind, CRC32C, offset, length, zero.
ENTRY = struct.Struct("<IIQQQ")


@dataclass(frozen=True, eq=False)
class Section:
    """Bytes of one kind: META, TENSORS or CODED."""

    kind: int
    data: Bytes


def write(path: Path, sections: Sequence[Section]) -> None:
    """Write a file, atomically; LeandnnError where the disk refuses."""
    entries, at = [], HEADER.size + ENTRY.size * len(sections)
    for section in sections:
        at = _aligned(at)
        entries.append(ENTRY.pack(section.kind, crc32c(section.data), at, section.data.size, 0))
        at += section.data.size
    head = HEADER.pack(MAGIC, VERSION, len(sections), at, 0, 0)[:-4]
    checked = head + b"".join(entries)
    with replacing(path) as stream:
        stream.write(head + struct.pack("<I", _crc(checked)) + b"".join(entries))
        for section in sections:
            stream.write(bytes(-stream.tell() % ALIGNMENT))
            stream.write(section.data.data)


def read(data: Bytes, name: str) -> list[Section]:
    """The sections of a file's bytes, as views of them.

    - name: of the file, for messages.

    Every byte is checked: checksums cover header, table and sections, and what lies between must be zero. Raises
    LeandnnError for anything that `write` does not write, and for other versions.
    """
    if data.size < HEADER.size:
        raise LeandnnError(f"{name} has {data.size} bytes, too few for a .lhuf file: it is empty or cut off")
    magic, version, count, size, zero, crc = HEADER.unpack(data[: HEADER.size].tobytes())
    if magic != MAGIC:
        raise LeandnnError(f"{name} is no .lhuf file: it begins with {magic!r}, expected {MAGIC!r}")
    if version != VERSION:
        raise LeandnnError(
            f"{name} has version {version} of the format, this program reads version {VERSION}"
        )
    if size != data.size:
        raise LeandnnError(f"{name} has {data.size} bytes, its header says {size}: it is cut off or damaged")
    end = HEADER.size + ENTRY.size * count
    if end > data.size:
        raise LeandnnError(f"{name} is damaged: its header says {count} sections, for which it is too small")
    table = data[HEADER.size : end].tobytes()
    if zero != 0 or _crc(data[: HEADER.size - 4].tobytes() + table) != crc:
        raise LeandnnError(f"{name} is damaged: the checksum of its header is wrong")
    sections = []
    for number, (kind, own_crc, offset, length, reserved) in enumerate(ENTRY.iter_unpack(table)):
        if kind not in (META, TENSORS, CODED) or reserved != 0:
            raise LeandnnError(f"{name} is damaged: section {number} is of kind {kind}, which does not exist")
        if offset != _aligned(end) or length > data.size - offset or data[end:offset].any():
            raise LeandnnError(
                f"{name} is damaged: section {number} lies at {offset}, expected {_aligned(end)}"
            )
        end = offset + length
        content = data[offset:end]
        if crc32c(content) != own_crc:
            raise LeandnnError(f"{name} is damaged: the checksum of section {number} is wrong")
        sections.append(Section(kind, content))
    if end != data.size:
        raise LeandnnError(f"{name} is damaged: {data.size - end} bytes follow its last section")
    return sections


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT


def _crc(data: bytes) -> int:
    return crc32c(np.frombuffer(data, np.uint8))
