"""The Triton decoder of "lanes" against the readable one; test_huffman_triton runs this file in the interpreter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.kernels import huffman_mutations

from leandnn.huffman import matrices
from leandnn.kernels import dispatch
from leandnn.kernels.huffman import gpu, ops, reference
from leandnn.kernels.huffman.encode import encode
from leandnn.kernels.huffman.format import LAYOUTS, Coded, CodedError


def coded(rows: int, columns: int, values: int, density: float, **how: object) -> Coded:
    random = np.random.default_rng(rows * columns)
    codebook = np.concatenate([[0], random.normal(size=values - 1)]).astype(np.float32)
    symbols = random.integers(1, values, (rows, columns)) * (random.random((rows, columns)) < density)
    return encode(symbols.astype(np.uint8), codebook, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rows", "columns", "values", "density", "how"),
    [
        (200, 60, 32, 0.2, {}),
        (128, 20, 16, 1.0, {"limit": 8}),
        (130, 30, 256, 0.5, {"index_bits": 8}),
        (5, 60, 2, 0.05, {"index_bits": 1}),
        (1, 1, 2, 1.0, {}),
        (200, 40, 8, 0.0, {}),
    ],
    ids=["narrow", "8-bit", "wide", "fillers", "one", "empty"],
)
def test_what_was_coded_comes_back(rows: int, columns: int, values: int, density: float, how: dict[str, int]):
    own = coded(rows, columns, values, density, **how)
    out = torch.full(own.shape, 7.0)
    assert gpu.decode(own, out) is out
    assert out.numpy().tobytes() == reference.dense(own).tobytes()


def test_every_damage_is_an_error_or_the_same_weights():
    seen = set()
    for seed in range(15):
        random = np.random.default_rng([2, seed])
        section = huffman_mutations.valid(random)
        for _ in range(4):
            try:
                own = matrices.from_bytes(np.frombuffer(huffman_mutations.mutate(section, random), np.uint8))
            except CodedError:
                continue
            if own.layout != "lanes" or own.counts.max() > 60:
                continue
            try:
                expected = reference.dense(own)
            except CodedError:
                with pytest.raises(CodedError):
                    gpu.decode(own, torch.empty(own.shape))
                seen.add("broken")
            else:
                found = gpu.decode(own, torch.empty(own.shape))
                assert found.numpy().tobytes() == expected.tobytes()
                seen.add("decoded")
    assert seen == {"broken", "decoded"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_dispatch_takes_the_kernel_for_lanes(layout: str, monkeypatch: pytest.MonkeyPatch):
    calls = []
    launch = gpu._run
    monkeypatch.setattr(gpu, "_run", lambda *arguments: (calls.append(1), launch(*arguments)))
    own = coded(20, 30, 4, 0.3, layout=layout)
    with dispatch.using("triton"):
        found = ops.decode(own)
    assert found.numpy().tobytes() == reference.dense(own).tobytes()
    assert len(calls) == (layout == "lanes")


def test_the_kernel_refuses_streams():
    own = coded(3, 3, 4, 0.5, layout="streams")
    with pytest.raises(ValueError, match="'streams', the kernel decodes 'lanes'"):
        gpu.decode(own, torch.empty(own.shape))
