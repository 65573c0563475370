"""Coded matrices with something wrong, on every decoder: the right weights or an error, on all of them alike."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.kernels import huffman_files, huffman_mutations
from tests.kernels.huffman_mutations import FIELDS, HEAD, before_the_edge, outcome, places

from leandnn.huffman import matrices
from leandnn.kernels import dispatch
from leandnn.kernels.huffman import ops
from leandnn.kernels.huffman.encode import encode
from leandnn.kernels.huffman.format import LAYOUTS, CodedError

CORPUS = sorted((Path(__file__).parent / "corpus" / "huffman").iterdir())
KINDS = {"narrow": (32, 5, 7), "8-bit": (32, 5, 8), "wide": (100, 8, 11)}


def section(layout: str, kind: str = "narrow", rows: int = 150, columns: int = 60) -> bytes:
    values, index_bits, limit = KINDS[kind]
    random = np.random.default_rng(5)
    symbols = np.minimum(random.geometric(0.2, (rows, columns)), values - 1)
    symbols *= random.random((rows, columns)) < 0.3 * random.random((rows, 1))
    codebook = np.concatenate([[0], random.normal(size=values - 1)]).astype(np.float32)
    coded = encode(symbols.astype(np.uint8), codebook, layout=layout, index_bits=index_bits, limit=limit)
    return matrices.to_bytes(coded).tobytes()


def edited(data: bytes, part: str, change: Callable[[bytearray], bytes | bytearray]) -> bytes:
    """The section with one array changed to another of the same length."""
    where = places(data)[part]
    return data[: where.start] + bytes(change(bytearray(data[where]))) + data[where.stop :]


def headed(data: bytes, **fields: int) -> bytes:
    """The section with fields of its head changed."""
    head = dict(zip(FIELDS, HEAD.unpack_from(data), strict=True)) | fields
    return HEAD.pack(*head.values()) + data[HEAD.size :]


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_corpus(path: Path, tmp_path: Path):
    """What the fuzzer found: the first input of every outcome, and whatever has gone wrong. A name says what is due."""
    data = path.read_bytes()
    if path.suffix == ".lhuf":
        found = huffman_files.outcome(data, tmp_path / "m.lhuf")
    else:
        found = outcome(data)
    assert found.split(":")[0] == path.name.split("-")[0]


def test_the_corpus_holds_every_kind_of_outcome():
    assert {(path.name.split("-")[0], path.suffix) for path in CORPUS} >= {
        *((word, ".section") for word in ("refused", "broken", "decoded")),
        *((word, ".lhuf") for word in ("refused", "broken", "loaded", "ran")),
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_paths_decode_the_same_bits(layout: str, kind: str):
    assert outcome(section(layout, kind)) == "decoded"
    assert outcome(section(layout, kind, rows=1, columns=700)) == "decoded"


@pytest.mark.parametrize("seed", range(15))
def test_random_damage(seed: int):
    random = np.random.default_rng([11, seed])
    own = huffman_mutations.valid(random)
    assert outcome(own) == "decoded"
    for _ in range(4):
        outcome(huffman_mutations.mutate(own, random))


@pytest.mark.parametrize("kind", ["narrow", "wide"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_truncation_is_an_error(layout: str, kind: str):
    own = section(layout, kind, rows=9, columns=30)
    where = places(own)
    unit = 2 if layout == "lanes" else 1
    for size in range(0, where["streams"].stop - where["streams"].start, unit):
        ends = np.frombuffer(own[where["offsets"]], "<u4")
        offsets = np.minimum(ends, size // unit).astype("<u4").tobytes()
        cut = edited(own, "offsets", lambda _, offsets=offsets: offsets)[: where["streams"].start + size]
        cut = headed(cut, size=size)
        assert outcome(cut, against_reference=size % 8 == 0).split(":")[0] in ("refused", "broken")
        assert outcome(own[: where["streams"].start + size]).startswith("refused")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_wrong_counts_are_errors_or_what_all_paths_agree_on(layout: str):
    own = section(layout)

    def changed(row: int, by: int) -> Callable[[bytearray], bytes]:
        def change(counts: bytearray) -> bytes:
            numbers = np.frombuffer(counts, "<u2").astype(np.int64)
            numbers[row] += by
            return numbers.astype("<u2").tobytes()

        return change

    counts = np.frombuffer(own[places(own)["counts"]], "<u2")
    rows = int(counts.argmax()), int(np.flatnonzero(counts == np.sort(counts)[100])[0])
    found = [outcome(edited(own, "counts", changed(row, by))) for row in rows for by in (1, -1, -3)]
    # Bits left over may serve a slot that was never coded: that is what the checksum of the section is for.
    assert found.count("decoded") <= 2


TABLES = {
    "one symbol": ([1] + [0] * 31, "under-subscribed"),
    "one symbol of no bits": ([0] * 32, "under-subscribed"),
    "over-subscribed": ([1, 1, 1] + [0] * 29, "over-subscribed"),
    "under-subscribed": ([2, 2, 2] + [0] * 29, "under-subscribed"),
    "one too long": ([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 12] + [0] * 19, "12 bits"),
    "longest number": ([255] * 32, "255 bits"),
    "Fibonacci's": ([*range(1, 12), 11] + [0] * 20, ""),
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("which", ["advance", "weight"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_hostile_code_tables(layout: str, which: str, name: str):
    lengths, message = TABLES[name]
    own = edited(section(layout), f"{which} lengths", lambda _: bytes(lengths))
    if message:
        with pytest.raises(CodedError, match=message):
            matrices.from_bytes(before_the_edge(own))
    else:
        outcome(own)  # a code like another, of which the streams make what they do


@pytest.mark.parametrize("symbols", [0, 1, 257, 1 << 16, (1 << 32) - 1])
@pytest.mark.parametrize("which", ["advances", "weights"])
def test_alphabets_of_other_sizes_are_refused(which: str, symbols: int):
    own = section("lanes")
    with pytest.raises(CodedError, match="section has|symbols|not zero"):
        matrices.from_bytes(before_the_edge(headed(own, **{which: symbols})))
    longer = headed(own, **{which: symbols}) + bytes(5 * symbols if symbols <= 1 << 16 else 0)
    with pytest.raises(CodedError):
        matrices.from_bytes(before_the_edge(longer))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.0])
def test_a_codebook_that_is_not_finite_or_has_no_zero_is_refused(value: float):
    own = edited(section("lanes"), "codebook", lambda book: struct.pack("<f", value) + book[4:])
    with pytest.raises(CodedError, match="codebook"):
        matrices.from_bytes(before_the_edge(own))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_offsets_out_of_range_are_refused(layout: str):
    own = section(layout)
    for wrong in (lambda o: o[::-1], lambda o: np.full_like(o, 1 << 31), lambda o: o + 1, lambda o: o * 0):
        changed = edited(own, "offsets", lambda o, wrong=wrong: wrong(np.frombuffer(o, "<u4")).tobytes())
        with pytest.raises(CodedError, match="offsets must rise"):
            matrices.from_bytes(before_the_edge(changed))


@pytest.mark.parametrize("field", ["rows", "columns", "offsets", "size"])
@pytest.mark.parametrize("value", [1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, (1 << 64) - 1])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_huge_sizes_allocate_nothing(layout: str, field: str, value: int):
    own = before_the_edge(
        headed(section(layout), **{field: value % (1 << (32 if field == "offsets" else 64))})
    )
    matrices.from_bytes(before_the_edge(section(layout)))  # what is made once
    tracemalloc.start()
    try:
        coded = matrices.from_bytes(own)
    except CodedError:
        assert field != "columns" or value >= 1 << 31
    else:
        assert field == "columns" and coded.columns == value
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize("layout", LAYOUTS)
def test_more_slots_than_bits_are_refused_at_once(layout: str):
    columns = 1 << 17
    symbols = np.zeros((2, columns), np.uint8)
    symbols[0, : (1 << 16) + 9] = 1
    own = matrices.to_bytes(encode(symbols, np.array([0, 1], np.float32), layout=layout)).tobytes()
    huge = (1 << 31) - 1
    own = headed(edited(own, "counts", lambda c: struct.pack("<2I", huge, huge)), columns=huge)
    tracemalloc.start()
    try:
        with pytest.raises(CodedError, match="2147483647 slots of at least|4294967294 slots of at least"):
            matrices.from_bytes(before_the_edge(own))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_two_threads_give_the_same_weights_and_the_same_errors(layout: str):
    own = section(layout, rows=600)
    broken = edited(own, "streams", lambda data: data[:-2] + bytes(2))
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            for path in dispatch.supported()[1:]:
                with dispatch.using(path):
                    coded = matrices.from_bytes(before_the_edge(own))
                    expected = ops.decode(coded)
                    assert torch.equal(expected, ops.decode(coded))
                    with pytest.raises(CodedError):
                        ops.decode(matrices.from_bytes(before_the_edge(headed(broken, columns=40))))
    finally:
        torch.set_num_threads(before)


def test_what_was_checked_is_no_view_of_the_file():
    """A file overwritten in place cannot change what sizes were derived from: only the streams are mapped."""
    memory = np.frombuffer(section("lanes"), np.uint8).copy()
    coded = matrices.from_bytes(memory)
    expected = ops.decode(coded)
    where = places(memory.tobytes())
    memory[: where["streams"].start] = 255
    assert torch.equal(ops.decode(coded), expected)
    memory[where["streams"]] = 255
    for path in dispatch.supported():
        with dispatch.using(path), pytest.raises(CodedError):
            ops.slots(coded)
