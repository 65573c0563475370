"""Rounding to BF16: equal on every path, to torch, and to the nearest value in float64."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from leandnn.kernels import dispatch, round_to
from leandnn.kernels.rounding import reference


def bits(x: Tensor) -> Tensor:
    return x.contiguous().view(torch.int32)


def every_kind_of_float(n: int = 1 << 20) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(-(2**31), 2**31, (n,), generator=generator).to(torch.int32)
    edges = [
        0,
        1,
        0x7FFF,
        0x8000,
        0x8001,
        0x18000,
        0x007FFFFF,
        0x00800000,
        0x7F7F7FFF,
        0x7F7F8000,
        0x7F7FFFFF,
    ]
    edges += [0x7F800000, 0x7F800001, 0x7FC00000, 0x7FFFFFFF]
    signed = torch.tensor([*edges, *(e - (1 << 31) for e in edges)], dtype=torch.int64).to(torch.int32)
    return torch.cat([signed, drawn]).view(torch.float32)


@pytest.mark.parametrize("choice", dispatch.supported())
def test_every_kernel_of_this_cpu_gives_the_bits_of_the_reference(choice: str):
    x = every_kind_of_float()
    with dispatch.using(choice):
        assert torch.equal(bits(round_to(x, "bf16")), bits(reference.round_bf16(x)))


def test_bits_equal_torchs_cast_except_the_payload_of_nan():
    # torch's own cast writes 0x7fc0 or 0xffff for NaN, depending on the CPU's instruction set.
    x = every_kind_of_float()
    ours, torchs = round_to(x, "bf16"), x.to(torch.bfloat16).float()
    number = ~torch.isnan(x)
    assert torch.equal(bits(ours)[number], bits(torchs)[number])
    assert (bits(ours)[~number] == 0x7FC00000).all()
    assert torch.isnan(torchs[~number]).all()


def test_result_is_the_nearest_bf16_value_by_float64_and_ties_go_to_even():
    x = every_kind_of_float()
    x = x[torch.isfinite(x) & (x.abs() < 3.3e38)]
    low = (bits(x) & -0x10000).view(torch.float32).double()  # towards zero
    high = ((bits(x) & -0x10000) + 0x10000).view(torch.float32).double()  # one step away from zero
    to_low, to_high = (x.double() - low).abs(), (high - x.double()).abs()
    low_is_even = (bits(x) >> 16) & 1 == 0
    nearest = torch.where((to_low < to_high) | ((to_low == to_high) & low_is_even), low, high)
    assert torch.equal(round_to(x, "bf16").double(), nearest)


@given(st.floats(width=32, allow_nan=False))
@settings(max_examples=300, deadline=None)
def test_rounding_twice_changes_nothing_and_sign_carries_over(value: float):
    x = torch.tensor([value])
    once = round_to(x, "bf16")
    assert torch.equal(bits(round_to(once, "bf16")), bits(once))
    assert torch.equal(bits(round_to(-x, "bf16")), bits(-once))


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.randn(3, 5, 7),
        lambda: torch.randn(2, 3, 8, 8).contiguous(memory_format=torch.channels_last),
        lambda: torch.randn(8, 9).t(),
        lambda: torch.randn(10, 10)[::2, 1::3],
        lambda: torch.randn(4, 1).expand(4, 6),
        lambda: torch.randn(1, 5, 1, 4).permute(3, 0, 2, 1),
        lambda: torch.randn(()),
        lambda: torch.empty(0, 3),
    ],
    ids=["dense", "channels_last", "transposed", "gaps", "expanded", "permuted", "scalar", "empty"],
)
def test_any_layout_rounds_like_its_dense_copy(make):
    x = make()
    expected = reference.round_bf16(x.contiguous())
    assert torch.equal(round_to(x, "bf16"), expected)
    into = torch.empty(x.shape)
    assert round_to(x, "bf16", out=into) is into
    assert torch.equal(into, expected)


def test_in_place_and_partly_overlapping_outputs_are_right():
    x = torch.randn(1000)
    expected = reference.round_bf16(x)
    same = x.clone()
    round_to(same, "bf16", out=same)
    assert torch.equal(same, expected)
    buffer = torch.cat([x, torch.zeros(7)])
    round_to(buffer[:1000], "bf16", out=buffer[7:])
    assert torch.equal(buffer[7:], expected)


def test_only_the_first_n_elements_are_written():
    buffer = torch.full((100,), 1.00001)
    round_to(buffer[10:73], "bf16", out=buffer[10:73])
    untouched = torch.cat([buffer[:10], buffer[73:]])
    assert (untouched == torch.tensor(1.00001)).all()
    assert (buffer[10:73] == 1).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"fmt": "bf17"}, "bf17.*bf16"),
        ({"mode": "up"}, "up.*nearest_even"),
        ({"x": torch.zeros(3, dtype=torch.float64)}, "float64.*float32"),
        ({"out": torch.zeros(4)}, r"\(4,\).*\(3,\)"),
        ({"out": torch.zeros(3, dtype=torch.int32)}, "int32.*float32"),
    ],
)
def test_bad_arguments_are_refused_with_both_values(arguments, words):
    call = {"x": torch.zeros(3), "fmt": "bf16", **arguments}
    with pytest.raises(ValueError, match=words):
        round_to(call.pop("x"), call.pop("fmt"), **call)


@pytest.mark.parametrize(
    "choice", ["fastest", "avx512" if "avx512" not in dispatch.supported() else "avx1024"]
)
def test_a_kernel_the_machine_lacks_is_refused_by_name(choice: str):
    code = "import torch; from leandnn.kernels import round_to; round_to(torch.zeros(2), 'bf16')"
    answer = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "LEANDNN_KERNELS": choice},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode != 0
    assert choice in answer.stderr
    assert "expected one of" in answer.stderr or "this machine can run" in answer.stderr
