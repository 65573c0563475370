"""Huffman codes, matrices coded with them, checksums. Decoders against one another: test_huffman_hostile."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leandnn.kernels import dispatch
from leandnn.kernels.huffman import codes, ops, reference
from leandnn.kernels.huffman.checksum import crc32c
from leandnn.kernels.huffman.encode import encode
from leandnn.kernels.huffman.format import LAYOUTS, Coded


def best_cost(frequencies: list[int], limit: int) -> int:
    """Of all complete codes with at most `limit` bits, by trying the multisets of lengths."""
    ascending = sorted(frequencies)
    costs = []
    for lengths in itertools.combinations_with_replacement(range(limit, 0, -1), len(ascending)):
        if sum(1 << (limit - own) for own in lengths) == 1 << limit:
            costs.append(sum(f * own for f, own in zip(ascending, lengths, strict=True)))
    return min(costs)


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=7), st.integers(3, 6))
@settings(max_examples=60, deadline=None)
def test_no_code_of_limited_length_is_shorter(frequencies: list[int], limit: int):
    lengths = codes.code_lengths(frequencies, limit)
    codes.check_lengths(lengths, limit)
    assert codes.coded_bits(np.array(frequencies), lengths) == best_cost(frequencies, limit)


def test_a_code_of_halving_frequencies_reaches_the_entropy():
    frequencies = np.array([8, 4, 2, 1, 1, 0])
    lengths = codes.code_lengths(frequencies)
    assert codes.coded_bits(frequencies, lengths) == codes.entropy_bits(frequencies) == 30
    assert codes.entropy_bits(np.zeros(3, np.int64)) == 0


def test_hostile_frequencies():
    fibonacci = [1, 1]
    while len(fibonacci) < 80:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    lengths = codes.code_lengths(fibonacci, 11)
    codes.check_lengths(lengths)
    assert lengths.max() == 11
    many = codes.code_lengths(np.ones(1 << 16, np.int64), 16)
    assert (many == 16).all()
    for lonely in ([0, 0], [5, 0], [0, 0, 7]):
        codes.check_lengths(codes.code_lengths(lonely, 7), 7)
    for wrong in ([1], [1, -1], [0.5, 0.5], [1 << 62, 1 << 62]):
        with pytest.raises(ValueError, match="frequencies"):
            codes.code_lengths(np.array(wrong), 11)
    with pytest.raises(ValueError, match="do not fit"):
        codes.code_lengths(np.ones(9, np.int64), 3)


@pytest.mark.parametrize("lengths", [[1, 1, 1], [1, 2], [0, 1], [0, 0], [12, 1], [1]])
def test_tables_that_are_no_complete_code_are_refused(lengths: list[int]):
    with pytest.raises(ValueError, match="subscribed|bits|symbols"):
        codes.check_lengths(np.array(lengths, np.uint8))


def test_code_words_are_canonical_and_the_table_reads_them():
    lengths = np.array([2, 0, 1, 3, 3], np.uint8)
    assert codes.canonical(lengths).tolist() == [0b10, 0, 0b0, 0b110, 0b111]
    symbols, bits = codes.table(lengths, 4)
    assert symbols.tolist() == [2] * 8 + [0] * 4 + [3] * 2 + [4] * 2
    assert bits.tolist() == [1] * 8 + [2] * 4 + [3] * 4


def test_crc32c():
    check = np.frombuffer(b"123456789", np.uint8)
    assert crc32c(check) == 0xE3069283  # the catalogue's check value
    assert crc32c(np.zeros(32, np.uint8)) == 0x8A9136AA  # RFC 3720, B.4
    assert crc32c(np.arange(32, dtype=np.uint8)) == 0x46DD794E
    assert crc32c(np.zeros(0, np.uint8)) == 0


@pytest.mark.parametrize("size", [7, 4095, 4096, 5 * 1024 + 3, 70_001])
def test_long_inputs_have_the_same_checksum_on_all_paths(size: int):
    """The readable one takes 4096 bytes and more in chunks, side by side."""
    data = np.random.default_rng(size).integers(0, 256, size, np.uint8)
    expected = crc32c(data)
    state = 0xFFFFFFFF
    for byte in data.tolist():
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    assert expected == state ^ 0xFFFFFFFF
    for path in dispatch.supported():
        with dispatch.using(path):
            assert ops.crc32c(data) == expected


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("index_bits", [None, 1, 4, 8])
@pytest.mark.parametrize(
    ("rows", "columns", "density", "values"),
    [(70, 300, 0.1, 32), (1, 1, 1.0, 2), (5, 40, 0.0, 16), (130, 1000, 0.05, 256), (200, 3000, 0.004, 16)],
)
def test_what_was_coded_comes_back(layout, index_bits, rows, columns, density, values):
    random = np.random.default_rng(0)
    codebook = np.concatenate([[0], random.normal(size=values - 1)]).astype(np.float32)
    symbols = random.integers(1, values, (rows, columns)) * (random.random((rows, columns)) < density)
    coded = encode(symbols.astype(np.uint8), codebook, layout=layout, index_bits=index_bits)
    assert np.array_equal(reference.dense(coded), codebook[symbols])


@functools.cache
def ragged(layout: str) -> tuple[Coded, torch.Tensor]:
    """Rows that end at different places, and empty ones; coded, and dense in float64."""
    random = np.random.default_rng(0)
    symbols = random.integers(1, 32, (200, 900)) * (random.random((200, 900)) < random.random((200, 1)) / 4)
    symbols[[3, 150]] = 0
    codebook = np.concatenate([[0], random.normal(size=31)]).astype(np.float32)
    return encode(symbols.astype(np.uint8), codebook, layout=layout), torch.from_numpy(
        codebook[symbols]
    ).double()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("batch", [1, 2, 3, 4, 5, 8, 15, 16, 31, 48, 64, 70])
def test_products_on_all_paths(layout: str, batch: int):
    coded, w = ragged(layout)
    x = torch.randn(batch, 900, generator=torch.Generator().manual_seed(batch))
    bias = torch.arange(200.0)
    exact, size = x.double() @ w.t() + bias, x.double().abs() @ w.abs().t() + bias
    spread = torch.cat([x, x]).t().contiguous().t()[:batch]  # feature by feature, these further apart
    for path in dispatch.supported()[1:]:  # the reference multiplies the decoded matrix in torch
        with dispatch.using(path):
            for form in (x, x.t().contiguous().t(), spread):
                error = (ops.linear(coded, form, bias).double() - exact).abs()
                assert (error <= 900 * 2.0**-24 * size).all(), path
