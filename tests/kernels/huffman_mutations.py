"""Coded matrices with something wrong, and what every decoder must make of them: for tests and the fuzzer.

A case is the bytes of a CODED section (docs/lhuf.md). They are laid right before memory that may not be touched: a
read behind them ends the process.
"""

from __future__ import annotations

import ctypes
import mmap
import re
import struct
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from leandnn.huffman import matrices
from leandnn.kernels import dispatch
from leandnn.kernels.huffman import codes, ops
from leandnn.kernels.huffman.encode import encode
from leandnn.kernels.huffman.format import LAYOUTS, Coded, CodedError

HEAD = struct.Struct("<IIIIQQIIQ")
FIELDS = ("layout", "advances", "weights", "count_bytes", "rows", "columns", "offsets", "zero", "size")
INTERESTING = (0, 1, 2, 3, 4, 8, 31, 32, 127, 128, 255, 256, 257, 0xFFFF, 1 << 16, (1 << 31) - 1, 1 << 31)
LARGEST_DENSE = 1 << 20  # elements of a matrix that is decoded as a whole
PAGE = mmap.PAGESIZE
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

Random = np.random.Generator
Bytes = NDArray[np.uint8]
Kinds = list[tuple[str, Callable[[bytearray, Random, slice], None]]]


def before_the_edge(content: bytes) -> Bytes:
    """The bytes in memory that ends with them."""
    room = -(-max(len(content), 1) // PAGE) * PAGE
    memory = mmap.mmap(-1, room + PAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    memory[room - len(content) : room] = content
    assert LIBC.mprotect(address + room, PAGE, 0) == 0
    return np.frombuffer(memory, np.uint8, len(content), room - len(content))


def valid(random: Random) -> bytes:
    """A section of a small random matrix."""
    rows, columns = int(random.choice([1, 3, 40, 128, 130, 200])), int(random.choice([1, 9, 60, 300]))
    values = int(random.choice([2, 3, 16, 32, 33, 256]))
    density = float(random.choice([0.0, 0.02, 0.1, 0.5, 1.0]))
    shares = random.random(values - 1) ** 3 + 1e-3
    symbols = 1 + random.choice(values - 1, (rows, columns), p=shares / shares.sum())
    symbols *= random.random((rows, columns)) < density * random.random((rows, 1)) * 2
    codebook = np.concatenate([[0], random.normal(size=values - 1)]).astype(np.float32)
    index_bits = int(random.choice([1, 2, 4, 5, 8]))
    limit = int(random.choice([8, 9, 11] if max(values, 1 << index_bits) > 128 else [7, 8, 9, 11]))
    layout = str(random.choice(LAYOUTS))
    coded = encode(symbols.astype(np.uint8), codebook, layout=layout, index_bits=index_bits, limit=limit)
    return matrices.to_bytes(coded).tobytes()


def places(section: bytes) -> dict[str, slice]:
    """Where the arrays of a valid section lie."""
    head = dict(zip(FIELDS, HEAD.unpack_from(section), strict=True))
    sizes = {
        "advance lengths": head["advances"],
        "weight lengths": head["weights"],
        "codebook": 4 * head["weights"],
        "counts": head["count_bytes"] * head["rows"],
        "offsets": 4 * head["offsets"],
    }
    found, at = {"head": slice(0, HEAD.size)}, HEAD.size
    for name, size in sizes.items():
        found[name] = slice(at, at + size)
        at = -(-(at + size) // 4) * 4
    return found | {"streams": slice(len(section) - head["size"], len(section))}


def _number(random: Random, old: int) -> int:
    """Another number: a neighbour, one that is often wrong, or any."""
    kind = random.integers(3)
    if kind == 0:
        return old + int(random.choice([-2, -1, 1, 2]))
    return int(random.choice(INTERESTING)) if kind == 1 else int(random.integers(1 << 32))


def _flip(section: bytearray, random: Random, where: slice) -> None:
    for _ in range(int(random.integers(1, 9))):
        if where.stop > where.start:
            section[int(random.integers(where.start, where.stop))] ^= 1 << int(random.integers(8))


def _field(section: bytearray, random: Random, where: slice) -> None:
    fields = list(HEAD.unpack_from(section))
    which = int(random.integers(len(fields)))
    bits = 32 if FIELDS[which] in ("layout", "advances", "weights", "count_bytes", "offsets", "zero") else 64
    fields[which] = _number(random, fields[which]) % (1 << bits)
    HEAD.pack_into(section, 0, *fields)


def _item(letter: str) -> Callable[[bytearray, Random, slice], None]:
    """Change, exchange or copy numbers of an array."""

    def change(section: bytearray, random: Random, where: slice) -> None:
        array = np.frombuffer(
            section, letter, offset=where.start, count=(where.stop - where.start) // int(letter[-1])
        )
        if not array.size:
            return
        for _ in range(int(random.integers(1, 4))):
            a, b = random.integers(array.size, size=2)
            kind = random.integers(3)
            if kind == 0:
                array[[a, b]] = array[[b, a]]
            elif kind == 1:
                array[a] = array[b]
            else:
                array[a] = _number(random, int(array[a])) % (1 << 8 * array.itemsize)

    return change


def _codebook(section: bytearray, random: Random, where: slice) -> None:
    value = float(random.choice([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, 3e38]))
    struct.pack_into(
        "<f", section, where.start + 4 * int(random.integers((where.stop - where.start) // 4)), value
    )


def _code(section: bytearray, random: Random, where: slice) -> None:
    """Another table of code lengths: of one symbol, of many, of chains like Fibonacci's, or just other ones."""
    size = where.stop - where.start
    tables = (
        [1] + [0] * (size - 1),
        [1, 1] + [0] * (size - 2),
        [*range(1, size), size - 1],
        [min(i + 1, 11) for i in range(size)],
        [8] * size,
        [11] * size,
        [0] * size,
        random.integers(0, 13, size).tolist(),
    )
    section[where] = bytes(int(n) % 256 for n in tables[int(random.integers(len(tables)))])


def _other_code(section: bytearray, random: Random, where: slice) -> None:
    """A table that is right, of another code."""
    frequencies = random.integers(0, 1 + 2 ** int(random.integers(1, 16)), where.stop - where.start)
    section[where] = codes.code_lengths(frequencies, int(random.choice([8, 11]))).tobytes()


def _within(letter: str) -> Callable[[bytearray, Random, slice], None]:
    """Another number within its neighbours', so that an array that must rise does."""

    def change(section: bytearray, random: Random, where: slice) -> None:
        size = int(letter[-1])
        array = np.frombuffer(section, letter, offset=where.start, count=(where.stop - where.start) // size)
        if array.size > 2:
            at = int(random.integers(1, array.size - 1))
            low, high = sorted((int(array[at - 1]), int(array[at + 1])))
            array[at] = random.integers(low, high + 1)

    return change


def _streams(section: bytearray, random: Random, where: slice, last: int) -> None:
    """Fewer or more bytes of streams; the head's size, and the last offset at `last`, follow or not."""
    size = where.stop - where.start
    if random.integers(2):
        cut = int(random.integers(size + 1))
        del section[where.stop - cut :]
        size -= cut
    else:
        more = int(random.integers(1, 300))
        section += random.bytes(more)
        size += more
    if random.integers(4):
        struct.pack_into("<Q", section, 40, size)
        if random.integers(4):  # and the last offset
            struct.pack_into("<I", section, last, size // (2 if section[0] == 0 else 1))


def mutate(section: bytes, random: Random) -> bytes:
    """The section with one to three things wrong."""
    changed = bytearray(section)
    where = places(section)
    shallow: Kinds = [
        ("head", _field),
        ("head", _flip),
        ("advance lengths", _item("u1")),
        ("weight lengths", _item("u1")),
        ("advance lengths", _code),
        ("weight lengths", _code),
        ("codebook", _codebook),
        ("counts", _item(f"<u{section[12]}")),
        ("offsets", _item("<u4")),
    ]
    deep: Kinds = [  # what most checks of a section let pass
        ("advance lengths", _other_code),
        ("weight lengths", _other_code),
        ("counts", _within(f"<u{section[12]}")),
        ("offsets", _within("<u4")),
        ("streams", _flip),
        ("streams", _item("u1")),
    ]
    kinds = deep if random.integers(4) else shallow + deep
    for _ in range(int(random.integers(1, 4))):
        name, kind = kinds[int(random.integers(len(kinds)))]
        kind(changed, random, where[name])
    if not random.integers(6):
        _streams(changed, random, where["streams"], where["offsets"].stop - 4)
    if not random.integers(20):
        del changed[int(random.integers(len(changed))) :]
    return bytes(changed)


def _attempt(call: Callable[[], Any]) -> Any:
    """What a call gives: arrays, or the sentence of its refusal."""
    try:
        return call()
    except CodedError as error:
        return str(error)


def _csr(coded: Coded) -> tuple[NDArray[Any], ...]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        matrix = ops.to_csr(coded)
    return tuple(part.numpy() for part in (matrix.crow_indices(), matrix.col_indices(), matrix.values()))


def _slots(coded: Coded) -> tuple[NDArray[Any], ...]:
    found = ops.slots(coded)
    return found.counts, found.advances, found.weights


def _must_agree(name: str, found: Any, expected: Any) -> None:
    if isinstance(found, str) or isinstance(expected, str):
        assert isinstance(found, str) and isinstance(expected, str), f"{name}: {found!r} against {expected!r}"
        return
    for a, b in zip(found, expected, strict=True):
        assert a.tobytes() == b.tobytes(), f"{name}: results differ"


def outcome(section: bytes, *, against_reference: bool = True) -> str:
    """The class of what a section's bytes lead to; AssertionError where two implementations disagree.

    - against_reference: compare with the readable reference; else instruction sets with one another.
    """
    try:
        coded = matrices.from_bytes(before_the_edge(section))
    except CodedError as error:
        return f"refused: {sentence(error)}"
    calls: dict[str, Callable[[], Any]] = {
        "slots": lambda: _slots(coded),
        "symbols": lambda: (ops.symbols(coded),),
        "csr": lambda: _csr(coded),
    }
    small = coded.rows * coded.columns <= LARGEST_DENSE
    if small:
        calls["dense"] = lambda: (ops.decode(coded).numpy(),)
    expected: dict[str, Any] = {}
    paths = dispatch.supported()
    for path in paths if against_reference else paths[1:]:
        with dispatch.using(path):
            for name, call in calls.items():
                found = _attempt(call)
                _must_agree(f"{name} on {path}", found, expected.setdefault(name, found))
            if small and path != "reference":
                _product(coded, expected["dense"])
    return f"broken: {sentence(expected['slots'])}" if isinstance(expected["slots"], str) else "decoded"


def sentence(message: object) -> str:
    """A sentence without its numbers."""
    return re.sub(r"-?\d+(\.\d+)?(e[-+]?\d+)?|nan|inf", "#", str(message))


def _product(coded: Coded, dense: Any) -> None:
    if not isinstance(dense, str) and abs(dense[0]).max() > 1e30:
        return  # sums overflow, or not, by their order
    for tokens in (1, 3, 4, 16, 33):
        x = torch.arange(tokens * coded.columns, dtype=torch.float32).view(tokens, -1).remainder(7) - 3
        found = _attempt(lambda x=x: ops.linear(coded, x))
        if isinstance(dense, str) or isinstance(found, str):
            assert isinstance(dense, str) and isinstance(found, str), f"product: {found!r} against {dense!r}"
            continue
        w = torch.from_numpy(dense[0]).double()
        size = x.double().abs() @ w.abs().t()
        assert (
            (found.double() - x.double() @ w.t()).abs() <= (coded.columns + 2) * 2.0**-24 * size + 1e-37
        ).all()
