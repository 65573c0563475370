"""What a .lhuf file holds, and what is wrong with it: as much as can be told of a broken one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leandnn.errors import LeandnnError
from leandnn.files import unreadable
from leandnn.huffman import matrices, model, sections
from leandnn.huffman.bit_table import LayerBits, layer_bits
from leandnn.kernels.huffman.format import CodedError
from leandnn.kernels.huffman.ops import crc32c

KINDS = {sections.META: "META", sections.TENSORS: "TENSORS", sections.CODED: "CODED"}


@dataclass(frozen=True)
class SectionState:
    """One entry of the table of sections.

    - kind: "META", "TENSORS", "CODED", or "?" and a number. offset, nbytes: as the table says.
    - checksum: "right", "wrong", or "not there" where the file ends before the section does.
    """

    kind: str
    offset: int
    nbytes: int
    checksum: str


@dataclass
class Findings:
    """What was found.

    - nbytes: of the file. version: of the format, None where there is no header.
    - producer: the program that wrote it, "" where that cannot be read.
    - traced: whether the file says what the net computes; else its model's code is needed to load it.
    - sections; layers: bits of the coded layers that could be decoded.
    - problems: sentences; none for a file that `load` takes.
    """

    nbytes: int
    version: int | None = None
    producer: str = ""
    traced: bool = True
    sections: list[SectionState] = field(default_factory=list)
    layers: list[LayerBits] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def inspect(path: Path) -> Findings:
    """Look at a file piece by piece; LeandnnError only where it cannot be read at all."""
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise unreadable(path, error) from error
    found = Findings(data.size)
    names: dict[int, str] = {}
    coded = 0
    for state, content in _sections(data, found):
        found.sections.append(state)
        if state.checksum != "right":
            found.problems.append(f"the checksum of section {len(found.sections) - 1} is {state.checksum}")
        if state.kind == "META":
            names = _described(content, found)
        elif state.kind == "CODED":
            try:
                found.layers.append(layer_bits(names.get(coded, f"#{coded}"), matrices.from_bytes(content)))
            except CodedError as error:
                found.problems.append(f"coded layer {names.get(coded, f'#{coded}')}: {error}")
            coded += 1
    if found.traced and not found.problems:
        try:
            model.load(path)
        except LeandnnError as error:
            found.problems.append(str(error))
    return found


def _sections(data: NDArray[np.uint8], found: Findings) -> Iterator[tuple[SectionState, NDArray[np.uint8]]]:
    """Entries of the table with the bytes that are there, as far as header and table go."""
    header, entry = sections.HEADER, sections.ENTRY
    if data.size < header.size:
        found.problems.append(f"the file has {data.size} bytes, a header alone has {header.size}")
        return
    magic, version, count, size, _, crc = header.unpack(data[: header.size].tobytes())
    if magic != sections.MAGIC:
        found.problems.append(f"the file begins with {magic!r}, expected {sections.MAGIC!r}")
        return
    found.version = version
    if version != sections.VERSION:
        found.problems.append(f"the format's version is {version}, expected {sections.VERSION}")
        return
    if size != data.size:
        found.problems.append(f"the file has {data.size} bytes, its header says {size}")
    there = min(count, (data.size - header.size) // entry.size)
    table = data[header.size : header.size + there * entry.size].tobytes()
    if there < count:
        found.problems.append(f"the header says {count} sections, the file has room for the table of {there}")
    elif crc32c(np.frombuffer(data[: header.size - 4].tobytes() + table, np.uint8)) != crc:
        found.problems.append("the checksum of the header is wrong")
    for kind, own, offset, length, _ in entry.iter_unpack(table):
        content = data[offset : offset + length] if offset <= data.size else data[:0]
        checksum = "not there" if content.size < length else "right" if crc32c(content) == own else "wrong"
        yield SectionState(KINDS.get(kind, f"? {kind}"), offset, length, checksum), content


def _described(content: NDArray[np.uint8], found: Findings) -> dict[int, str]:
    """Names of the coded layers by number."""
    try:
        meta: dict[str, Any] = json.loads(content.tobytes())
        found.producer = str(meta["producer"])
        found.traced = meta["program"] is not None
        modules = meta["modules"].items()
        return {own["coded"]: str(name) for name, own in modules if type(own.get("coded")) is int}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        found.problems.append(f"the description cannot be read: {type(error).__name__}: {error}")
        return {}


def text(found: Findings, name: str) -> str:
    """The findings for a terminal; problems are left to the caller."""
    version = "no header" if found.version is None else f"version {found.version}"
    lines = [f"{name}: {found.nbytes} bytes, {version}, {found.producer or 'writer unknown'}"]
    if found.sections:
        lines.append(f"{'section':<9}{'kind':<10}{'offset':>12}{'bytes':>12}  checksum")
    for number, own in enumerate(found.sections):
        lines.append(f"{number:<9}{own.kind:<10}{own.offset:>12}{own.nbytes:>12}  {own.checksum}")
    return "\n".join(lines)
