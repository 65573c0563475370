"""Rounding to narrower formats: equal on every path, to torch, and to the neighbours found in float64."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from leandnn.kernels import Format, dispatch, round_to
from leandnn.kernels.rounding import reference
from leandnn.kernels.rounding.format import MODES, format_of

FMTS = ["bf16", "fp16", Format(5, 2), Format(8, 10), Format(4, 3), Format(7, 22), Format(2, 1), Format(8, 1)]
NAN = 0x7FC00000
NATIVE = [choice for choice in dispatch.supported() if choice != "reference"]


def name_of(fmt: str | Format) -> str:
    return fmt if isinstance(fmt, str) else "e{}m{}".format(*fmt)


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
    # Halves of the least FP16 and E5M2 values, their last finite values, and the first beyond.
    edges += [0x33000000, 0x33000001, 0x33800000, 0x387FC000, 0x387FE000, 0x477FE000, 0x477FEFFF, 0x477FF000]
    edges += [0x477FFFFF, 0x47800000, 0x37000000, 0x37000001, 0x47600000, 0x476FFFFF, 0x47700000]
    edges += [0x7F800000, 0x7F800001, 0x7FC00000, 0x7FFFFFFF]
    signed = torch.tensor([*edges, *(e - (1 << 31) for e in edges)], dtype=torch.int64).to(torch.int32)
    return torch.cat([signed, drawn]).view(torch.float32)


def near(fmt: Format, n: int = 1 << 16) -> Tensor:
    """Values inside a format's range, a third of them subnormal in it."""
    generator = torch.Generator().manual_seed(1)
    lowest, highest = 1 - fmt.bias - fmt.mantissa_bits - 3, fmt.bias + 2
    wide = torch.randint(lowest, highest, (n,), generator=generator)
    low = torch.randint(lowest, 2 - fmt.bias, (n,), generator=generator)
    exponents = torch.where(torch.rand(n, generator=generator) < 0.3, low, wide).clamp(-148, 127)
    fraction = 1 + torch.rand(n, generator=generator)
    return torch.ldexp(fraction.double(), exponents).float() * torch.randn(n, generator=generator).sign()


def neighbours(x: Tensor, fmt: Format) -> tuple[Tensor, Tensor]:
    """The format's values around x, toward zero and away from it, in float64, as if no exponent were too large."""
    value = x.double()
    exponent = (torch.frexp(value.abs())[1] - 1).clamp(min=1 - fmt.bias)
    step = torch.ldexp(torch.ones_like(value), exponent - fmt.mantissa_bits)
    down = (value / step).trunc() * step
    return down, torch.where(down == value, down, down + value.sign() * step)


@pytest.mark.parametrize("choice", NATIVE)
@pytest.mark.parametrize("fmt", FMTS, ids=name_of)
@pytest.mark.parametrize("mode", MODES)
def test_every_kernel_of_this_cpu_has_the_references_bits(choice: str, fmt, mode: str):
    x = torch.cat([every_kind_of_float(1 << 17), near(format_of(fmt))])
    for flush in (False, True):
        expected = reference.round_to(x, fmt, mode, seed=11, flush_subnormals=flush)
        with dispatch.using(choice):
            found = round_to(x, fmt, mode, seed=11, flush_subnormals=flush)
        assert torch.equal(bits(found), bits(expected))


@pytest.mark.parametrize(
    ("fmt", "dtype"),
    [("bf16", torch.bfloat16), ("fp16", torch.float16), (Format(5, 2), torch.float8_e5m2)],
    ids=["bf16", "fp16", "e5m2"],
)
def test_bits_equal_torchs_cast_but_for_nan(fmt, dtype):
    x = every_kind_of_float()
    ours, torchs = round_to(x, fmt), x.to(dtype).float()
    number = ~torch.isnan(x)
    assert torch.equal(bits(ours)[number], bits(torchs)[number])
    assert (bits(ours)[~number] == NAN).all()
    assert torch.isnan(torchs[~number]).all()


def test_bf16_has_the_bits_of_torchs_scalar_code_nan_included():
    code = """
import torch
from leandnn.kernels import round_to
assert torch.backends.cpu.get_cpu_capability() == "DEFAULT"
patterns = torch.randint(-(2**31), 2**31, (1 << 20,), generator=torch.Generator().manual_seed(0)).int()
x = torch.cat([patterns, patterns | 0x7F800000, -patterns.abs()]).view(torch.float32)
assert torch.isnan(x).any()
for each in (x, x[::3], x[: 1 << 20].view(1024, 1024).t(), x[:5]):
    ours, torchs = round_to(each, "bf16"), each.to(torch.bfloat16).float()
    assert torch.equal(ours.contiguous().view(torch.int32), torchs.contiguous().view(torch.int32))
"""
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "default"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


@pytest.mark.parametrize("fmt", FMTS, ids=name_of)
def test_results_are_the_neighbours_that_float64_finds(fmt):
    form = format_of(fmt)
    x = torch.cat([every_kind_of_float(1 << 17), near(form)])
    x = x[torch.isfinite(x)]
    down, up = neighbours(x, form)
    to_down, to_up = (x.double() - down).abs(), (up - x.double()).abs()
    exponent = (torch.frexp(x.double().abs())[1] - 1).clamp(min=1 - form.bias)
    down_is_even = torch.ldexp(down, form.mantissa_bits - exponent) % 2 == 0
    nearest = torch.where((to_down < to_up) | ((to_down == to_up) & down_is_even), down, up)
    bounded = torch.where(nearest.abs() > form.largest, nearest.sign() * math.inf, nearest)
    assert torch.equal(round_to(x, fmt).double(), bounded)
    assert torch.equal(round_to(x, fmt, "toward_zero").double(), down.clamp(-form.largest, form.largest))
    drawn = round_to(x, fmt, "stochastic", seed=5).double()
    beyond = drawn.isinf() & (up.abs() > form.largest) & (drawn.sign() == x.sign())
    assert ((drawn == down) | (drawn == up) | beyond).all()


@given(
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.integers(2, 8),
    st.integers(1, 22),
    st.integers(0, 2**64 - 1),
)
@settings(max_examples=300, deadline=None)
def test_any_format_rounds_as_exact_fractions_do(value: float, exponent_bits: int, mantissa_bits: int, seed):
    form = Format(exponent_bits, mantissa_bits)
    exact = abs(Fraction(value))
    exponent = max(math.frexp(value)[1] - 1, 1 - form.bias) if value else 1 - form.bias
    step = Fraction(2) ** (exponent - mantissa_bits)
    whole, rest = divmod(exact, step)

    def placed(steps: int, overflow: float) -> float:
        result = steps * step
        return math.copysign(float(result) if result <= Fraction(form.largest) else overflow, value)

    up = 2 * rest > step or (2 * rest == step and whole % 2 == 1)
    high, low = reference.random_halves(torch.Size([1]), seed)
    threshold = int(rest / step * 2**64)  # rounded down
    drawn_up = (int(high) << 32) + int(low) + threshold >= 2**64
    expected = {
        "nearest_even": placed(whole + up, math.inf),
        "toward_zero": placed(whole, form.largest),
        "stochastic": placed(whole + drawn_up, math.inf),
    }
    for mode, right in expected.items():
        for choice in dispatch.supported():
            with dispatch.using(choice):
                found = round_to(torch.tensor([value]), form, mode, seed=seed)
                assert bits(found).item() == bits(torch.tensor([right])).item(), (mode, choice)
                small = 0 < abs(right) < form.least_normal
                flushed = round_to(torch.tensor([value]), form, mode, seed=seed, flush_subnormals=True)
                kept = math.copysign(0.0, value) if small else right
                assert bits(flushed).item() == bits(torch.tensor([kept])).item(), (mode, choice)


@pytest.mark.parametrize("choice", dispatch.supported())
@pytest.mark.parametrize(
    ("value", "fmt", "low", "step"),
    [
        (1 + 2**-7 / 3, "bf16", 1.0, 2**-7),
        (-3.0 - 2**-10, "bf16", -3.0, -(2**-6)),
        (1e-40, "bf16", 0x00010000, None),  # subnormal in FP32 too: neighbours are given by their bits
        (1 + 2**-10 * 0.9, "fp16", 1.0, 2**-10),
        (2**-24 * 0.3, "fp16", 0.0, 2**-24),
        (2**-24 * 5.75, "fp16", 2**-24 * 5, 2**-24),
        (2**-32.5, "fp16", 0.0, 2**-24),
        (65504 + 8.0, "fp16", 65504.0, 32.0),
        (2**-16 * 0.125, Format(5, 2), 0.0, 2**-16),
    ],
)
def test_stochastic_goes_up_as_often_as_the_distance_says(choice: str, value, fmt, low, step):
    n = 1 << 18
    x = torch.full((n,), value)
    if step is None:
        low = torch.tensor(int(bits(x)[0]) & -0x10000, dtype=torch.int32).view(torch.float32).item()
        step = 2.0**-133
    chance = (x[0].double().item() - low) / step
    with dispatch.using(choice):
        drawn = round_to(x, fmt, "stochastic", seed=3)
    up = (drawn != low).double().mean().item()
    high = torch.tensor(low + step).item()
    assert set(drawn.unique().tolist()) <= {low, high if high < 65520 else math.inf}
    assert abs(up - chance) < 5 * math.sqrt(chance * (1 - chance) / n) + 1e-9


def test_stochastic_is_right_on_average_with_independent_errors():
    x = torch.randn(1 << 20, generator=torch.Generator().manual_seed(2))
    a, b = (round_to(x, "bf16", "stochastic", seed=seed) - x for seed in (0, 1))
    for error in (a, b):
        assert abs(error.mean().item()) < 5 * error.std().item() / 2**10
        assert abs(torch.corrcoef(torch.stack([error[1:], error[:-1]]))[0, 1]) < 0.005
    assert abs(torch.corrcoef(torch.stack([a, b]))[0, 1]) < 0.005


def test_stochastic_depends_on_seed_and_index_alone():
    x = torch.randn(6, 5, 257, 131, generator=torch.Generator().manual_seed(4))
    assert x.numel() > 1 << 19  # enough for several threads
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(round_to(x, "fp16", "stochastic", seed=9))
    finally:
        torch.set_num_threads(threads)
    for choice in dispatch.supported():
        with dispatch.using(choice):
            results.append(round_to(x, "fp16", "stochastic", seed=9))
    results.append(
        round_to(x.contiguous(memory_format=torch.channels_last), "fp16", "stochastic", seed=9).contiguous()
    )
    results.append(round_to(x.permute(3, 1, 0, 2).clone().permute(2, 1, 3, 0), "fp16", "stochastic", seed=9))
    into = torch.empty(x.numel() + 3)[3:].view(x.shape)  # at an odd address
    results.append(round_to(x, "fp16", "stochastic", seed=9, out=into))
    assert all(torch.equal(result, results[0]) for result in results[1:])
    assert not torch.equal(round_to(x, "fp16", "stochastic", seed=10), results[0])


def test_without_a_seed_torchs_generator_decides():
    x = torch.randn(1000)
    torch.manual_seed(1)
    first, second = round_to(x, "bf16", "stochastic"), round_to(x, "bf16", "stochastic")
    torch.manual_seed(1)
    again = round_to(x, "bf16", "stochastic")
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


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
        lambda: torch.randn(7, dtype=torch.complex64).conj().imag,
    ],
    ids=[
        "dense",
        "channels_last",
        "transposed",
        "gaps",
        "expanded",
        "permuted",
        "scalar",
        "empty",
        "negated",
    ],
)
def test_any_layout_rounds_like_its_dense_copy(make):
    x = make()
    for mode in MODES:
        expected = reference.round_to(x.clone(memory_format=torch.contiguous_format), "bf16", mode, seed=1)
        assert torch.equal(round_to(x, "bf16", mode, seed=1), expected)
        into = torch.empty(x.shape)
        assert round_to(x, "bf16", mode, seed=1, out=into) is into
        assert torch.equal(into, expected)


def test_in_place_and_partly_overlapping_outputs_are_right():
    x = torch.randn(1000)
    expected = reference.round_to(x, "bf16")
    same = x.clone()
    round_to(same, "bf16", out=same)
    assert torch.equal(same, expected)
    for shift in (7, 700):
        buffer = torch.cat([x, torch.zeros(shift)])
        round_to(buffer[:1000], "bf16", out=buffer[shift:])
        assert torch.equal(buffer[shift:], expected)


@pytest.mark.parametrize("offset", range(0, 18, 5))
def test_large_results_are_right_at_any_address(offset: int):
    n = (1 << 22) + 37  # stored past the caches, a vector's alignment apart
    x = torch.randn(n, generator=torch.Generator().manual_seed(0))
    buffer = torch.zeros(n + 40)
    round_to(x, "bf16", out=buffer[offset : offset + n])
    assert torch.equal(buffer[offset : offset + n], x.to(torch.bfloat16).float())
    assert (buffer[:offset] == 0).all()
    assert (buffer[offset + n :] == 0).all()


def test_autograd_notices_a_value_that_was_rounded_under_it():
    x = torch.randn(3, requires_grad=True)
    y = x.exp()  # keeps its result for the backward pass
    round_to(y, "bf16", out=y.detach())
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()
    with torch.inference_mode():
        z = torch.ones(2)
        assert round_to(z, "bf16", out=z) is z


def test_flushing_of_subnormals_by_the_processor_changes_nothing():
    x = every_kind_of_float(1 << 16)
    expected = [round_to(x, fmt, mode, seed=2) for fmt in FMTS for mode in MODES]
    if not torch.set_flush_denormal(True):
        pytest.skip("NOT CHECKED: this processor cannot flush subnormals")
    try:
        for choice in dispatch.supported():
            with dispatch.using(choice):
                found = [round_to(x, fmt, mode, seed=2) for fmt in FMTS for mode in MODES]
            assert all(torch.equal(bits(a), bits(b)) for a, b in zip(found, expected, strict=True))
    finally:
        torch.set_flush_denormal(False)


def test_a_format_knows_its_range():
    assert (Format(5, 10).largest, Format(5, 10).least_normal, Format(5, 10).least) == (65504, 2**-14, 2**-24)
    assert Format(8, 7).largest == torch.finfo(torch.bfloat16).max
    assert torch.equal(round_to(torch.tensor([3.14159]), (8, 7)), round_to(torch.tensor([3.14159]), "bf16"))


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
        ({"fmt": (9, 7)}, "9 exponent bits, expected 2 to 8"),
        ({"fmt": (8, 23)}, "23 mantissa bits, expected 1 to 22"),
        ({"fmt": (8, 7, 1)}, r"\(8, 7, 1\), expected a name or"),
        ({"fmt": 16}, "16, expected a name or"),
        ({"mode": "stochastic", "seed": -1}, "seed is -1, expected 0 to"),
        ({"x": torch.zeros(3, dtype=torch.float64)}, "float64.*float32"),
        ({"out": torch.zeros(4)}, r"\(4,\).*\(3,\)"),
        ({"out": torch.zeros(3, dtype=torch.int32)}, "int32.*float32"),
    ],
)
def test_bad_arguments_are_refused_with_both_values(arguments, words):
    call = {"x": torch.zeros(3), "fmt": "bf16", **arguments}
    with pytest.raises(ValueError, match=words):
        round_to(call.pop("x"), call.pop("fmt"), **call)


def test_the_best_kernels_of_this_cpu_serve_by_default(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("LEANDNN_KERNELS", raising=False)
    slowest_first = [choice for choice in dispatch.CHOICES if choice in dispatch.supported()]
    assert dispatch.active() == slowest_first[-1]


@pytest.mark.slow
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
