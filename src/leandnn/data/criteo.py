"""Criteo's own log: the file of the Display Advertising Challenge, or a day of the terabyte log.

One row per line, 40 fields with tabs between them: label (0 or 1), 13 integers, 26 categories as hexadecimal
32-bit hashes; integers and categories may be empty. Rows are in the order of time. The file has
terms of its own and is no part of this repository: the reader is tested on made-up lines.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from leandnn.data.clicks import MISSING, Clicks
from leandnn.data.clicks_synthesis import CATEGORIES, INTEGERS, SIZES
from leandnn.errors import LeandnnError
from leandnn.paths import relative

_FIELDS = 1 + INTEGERS + CATEGORIES
_LINES = 1 << 14  # lines turned into arrays at a time
_LONGEST = 1 << 12  # bytes; an honest line has fewer than 500
_LARGEST = (1 << 31) - 1

# What each kind of field looks like, and its name in a sentence. int() alone would take "0x1" and "1_0" too.
_LABEL = (rb"[01]", "a label, 0 or 1")
_INTEGER = (rb"(?:-?[0-9]{1,10})?", "an integer of 32 bits or nothing")
_HASH = (rb"[0-9a-fA-F]{0,8}", "a hexadecimal number of 32 bits or nothing")
_LINE = re.compile(
    _LABEL[0] + rb"(?:\t%b){%d}(?:\t%b){%d}\r?\n?" % (_INTEGER[0], INTEGERS, _HASH[0], CATEGORIES)
)


def read(path: Path, *, sizes: Sequence[int] = SIZES, count: int | None = None) -> Clicks:
    """The rows of a file as published, plain or `.gz`, with unknown probabilities.

    - sizes: table rows per category, 2 or more. Hash h becomes entry 1 + h mod (size - 1), an empty one 0.
    - count: the first rows only, None for all; LeandnnError if there are fewer.

    About 40 000 rows a second; 157 bytes of memory a row, twice that at the end.
    LeandnnError names the first broken line by its number; for a test set of later rows see clicks.split_days.
    """
    if len(sizes) != CATEGORIES or min(sizes) < 2:
        raise LeandnnError(
            f"{len(sizes)} table sizes from {min(sizes, default=0)} rows up were given, expected {CATEGORIES} "
            "from 2 rows up"
        )
    where, rows = relative(path), 0
    labels, integers, hashes = [], [], []
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            lines: Iterator[bytes] = islice(iter(lambda: stream.readline(_LONGEST), b""), count)
            while block := list(islice(lines, _LINES)):
                parsed = [_fields(line, rows + i, where) for i, line in enumerate(block, 1)]
                table = np.array(parsed, np.int64)
                labels.append(table[:, 0].astype(np.uint8))
                integers.append(table[:, 1 : 1 + INTEGERS].astype(np.int32))
                hashes.append(_entries(table[:, 1 + INTEGERS :], sizes))
                rows += len(block)
    except FileNotFoundError:
        raise LeandnnError(f"{where} is not there, expected Criteo's log as it is published") from None
    except (OSError, EOFError, zlib.error) as error:
        raise LeandnnError(
            f"{where} cannot be read after line {rows} ({error}): expected Criteo's log, plain or gzipped"
        ) from error
    if not rows or (count is not None and rows < count):
        raise LeandnnError(f"{where} has {rows} lines, expected {count or 'at least 1'}")
    joined = [torch.from_numpy(np.concatenate(part)) for part in (integers, hashes, labels)]
    return Clicks(joined[0], joined[1], joined[2], tuple(sizes))


def _fields(line: bytes, number: int, where: str) -> list[int]:
    """The 40 numbers of a line; MISSING for an empty integer, -1 for an empty category."""
    fields = line.rstrip(b"\r\n").split(b"\t")
    if len(fields) != _FIELDS:
        raise LeandnnError(
            f"line {number} of {where} has {len(fields)} fields, expected {_FIELDS} with tabs between them"
        )
    first = 1 + INTEGERS
    if _LINE.fullmatch(line):
        values = [int(fields[0])]
        values += [int(field) if field else MISSING for field in fields[1:first]]
        values += [int(field, 16) if field else -1 for field in fields[first:]]
        if max(values[1:first]) <= _LARGEST and min(values[1:first]) >= MISSING:
            return values
    kinds = (_LABEL, *[_INTEGER] * INTEGERS, *[_HASH] * CATEGORIES)
    for i, (field, (pattern, kind)) in enumerate(zip(fields, kinds, strict=True)):
        if not re.fullmatch(pattern, field) or (0 < i < first and field and abs(int(field)) > _LARGEST):
            shown = field[:40].decode("ascii", "backslashreplace")
            raise LeandnnError(
                f"line {number} of {where} has {shown!r} in field {i + 1} of {_FIELDS}, expected {kind}"
            )
    raise LeandnnError(f"line {number} of {where} ends in {line[-2:]!r}, expected one line break")


def _entries(hashes: npt.NDArray[np.int64], sizes: Sequence[int]) -> npt.NDArray[np.int32]:
    modulus = np.array(sizes, np.int64) - 1
    return np.where(hashes < 0, 0, 1 + hashes % modulus).astype(np.int32)
