"""Attacks on the panel products: memory around every operand, odd strides, switches between calls."""

from __future__ import annotations

import ctypes
import mmap
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.panels_cases import KINDS, assert_close, columns, random_graph, random_panels
from torch import Tensor

from leandnn.kernels import dispatch
from leandnn.kernels.panels import convolution, reference
from leandnn.kernels.panels.format import Graph, Panels
from leandnn.kernels.panels.ops import conv2d, linear, matmul
from leandnn.kernels.panels.plan import Plan, Prepared

PATHS = dispatch.supported()
DTYPES = (torch.float32, torch.bfloat16)
MARK = 12352.0  # exact in bfloat16
PAGE = mmap.PAGESIZE
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def at_the_edge(content: Tensor, behind: bool) -> Tensor:
    """A copy whose storage ends where memory that may not be touched begins, or (not behind) starts where it ends."""
    size = content.numel() * content.element_size()
    if size == 0:
        return content.clone()
    room = -(-size // PAGE) * PAGE
    memory = mmap.mmap(-1, room + 2 * PAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    start = PAGE + room - size if behind else PAGE
    made = torch.frombuffer(memory, dtype=content.dtype, offset=start, count=content.numel()).view(
        content.shape
    )
    made.copy_(content)
    for edge in (address, address + PAGE + room):
        assert LIBC.mprotect(edge, PAGE, 0) == 0
    return made


class Framed:
    """A matrix inside a larger one full of `around`: the frame must not be read into results, nor written."""

    def __init__(self, content: Tensor, token: bool, gap: int, offset: int, around: float) -> None:
        inside = content.t() if token else content
        rows, width = inside.shape
        ld = width + gap
        flat = torch.full((offset + rows * ld + 1,), around, dtype=content.dtype)
        view = flat.as_strided((rows, width), (ld, 1), offset)
        view.copy_(inside)
        self.flat, self.view = flat, view.t() if token else view
        self.frame = torch.ones(flat.shape, dtype=torch.bool)
        self.frame.as_strided((rows, width), (ld, 1), offset).fill_(False)

    def untouched(self, around: float) -> bool:
        return bool((self.flat[self.frame] == around).all())


class Case:
    """A pattern with exact operands, float64 results, and the sizes of their sums."""

    def __init__(self, seed: int, n: int, dtype: torch.dtype) -> None:
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator).to(dtype)

        self.panels, self.dtype = random_panels(seed), dtype
        self.plan, (self.m, self.k) = Plan(self.panels), self.panels.shape
        self.values, self.bias = draw(self.panels.nnz), draw(self.m)
        self.x, self.dy = draw(self.k, n), draw(self.m, n)

    def check(self, y: Tensor, dx: Tensor, dw: Tensor) -> None:
        v, x, dy, b = (t.double() for t in (self.values, self.x, self.dy, self.bias))
        p = self.panels
        size = reference.product(p, v.abs(), x.abs(), b.abs(), False)
        assert_close(y, reference.product(p, v, x, b, True), size)
        assert_close(dx, reference.transposed(p, v, dy), reference.transposed(p, v.abs(), dy.abs()))
        assert_close(dw, reference.sampled(p, dy, x), reference.sampled(p, dy.abs(), x.abs()))


paths = st.sampled_from(PATHS)
cases = st.builds(Case, st.integers(0, 10**6), columns, st.sampled_from(DTYPES))


@given(case=cases, path=paths, token=st.booleans(), out_token=st.booleans(), gap=st.integers(0, 20),
       offset=st.integers(0, 17), threads=st.sampled_from([1, 2, 7]))  # fmt: skip
@settings(max_examples=75, deadline=None)
def test_what_lies_around_the_rows_is_neither_used_nor_written(
    case: Case, path: str, token: bool, out_token: bool, gap: int, offset: int, threads: int
):
    nan, n = float("nan"), case.x.shape[1]
    x, dy = (Framed(t, token, gap, offset, nan).view for t in (case.x, case.dy))
    y = Framed(torch.zeros(case.m, n, dtype=case.dtype), out_token, gap, offset, MARK)
    dx = Framed(torch.zeros(case.k, n, dtype=case.dtype), out_token, gap, offset, MARK)
    torch.set_num_threads(threads)
    with dispatch.using(path):
        case.plan.product(case.values, x, case.bias, relu=True, out=y.view)
        case.plan.transposed_product(case.values, dy, out=dx.view)
        case.check(y.view, dx.view, case.plan.sampled_product(dy, x))
    assert y.untouched(MARK)
    assert dx.untouched(MARK)


@given(case=cases, path=paths, token=st.booleans(), behind=st.booleans(), threads=st.sampled_from([1, 2]))
@settings(max_examples=75, deadline=None)
def test_no_byte_outside_an_operand_is_touched(
    case: Case, path: str, token: bool, behind: bool, threads: int
):
    """A masked load is out of AddressSanitizer's sight, not out of the processor's."""

    def guarded(content: Tensor) -> Tensor:
        return at_the_edge(content.t(), behind).t() if token else at_the_edge(content, behind)

    x, dy, y, dx = map(guarded, (case.x, case.dy, torch.zeros_like(case.dy), torch.zeros_like(case.x)))
    values, bias = (at_the_edge(t, behind) for t in (case.values, case.bias))
    torch.set_num_threads(threads)
    with dispatch.using(path):
        case.plan.product(values, x, bias, relu=True, out=y)
        case.plan.transposed_product(values, dy, out=dx)
        case.check(y, dx, case.plan.sampled_product(dy, x))


@given(
    seed=st.integers(0, 10**6), path=paths, dtype=st.sampled_from(DTYPES), behind=st.booleans(),
    images=st.integers(0, 3), channels=st.integers(1, 3), size=st.tuples(*[st.integers(1, 9)] * 2),
    kernel=st.tuples(*[st.integers(1, 4)] * 2), stride=st.tuples(*[st.integers(1, 12)] * 2),
    padding=st.tuples(*[st.integers(0, 12)] * 2), dilation=st.tuples(*[st.integers(1, 9)] * 2),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_convolutions_of_any_geometry_stay_within_their_images(
    seed, path, dtype, behind, images, channels, size, kernel, stride, padding, dilation
):
    """Strides, paddings and dilations larger than the image; kernels that see nothing but zeros."""
    mask = np.random.default_rng(seed).random((3, channels * kernel[0] * kernel[1])) < 0.5
    panels = Panels(Graph.complete(1, 1), (1, 1), Graph.from_mask(mask), (1 + seed % 4, 1))
    generator = torch.Generator().manual_seed(seed)
    shapes = [(panels.nnz,), (images, channels, *size), (panels.shape[0],)]
    drawn = [torch.randn(s, generator=generator).to(dtype) for s in shapes]
    ours = [at_the_edge(t, behind).requires_grad_() for t in drawn]
    theirs = [t.double().requires_grad_() for t in drawn]
    geometry = {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    plan = Plan(panels)
    with dispatch.using(path):
        if any(n + 2 * p <= d * (k - 1) for n, k, p, d in zip(size, kernel, padding, dilation, strict=True)):
            with pytest.raises(ValueError, match="expected at least 1 × 1"):
                conv2d(ours[0], ours[1], plan, ours[2], **geometry)
            return
        y = conv2d(ours[0], ours[1], plan, ours[2], **geometry)
        dy = at_the_edge(torch.randn(y.shape, generator=generator).to(dtype), behind)
        found = torch.autograd.grad(y, ours, dy)
    exact = reference.conv2d(panels, *theirs[:2], theirs[2], False, kernel, stride, padding, dilation)
    steps = {"atol": 0.5, "rtol": 0.03} if dtype == torch.bfloat16 else {"atol": 1e-3, "rtol": 1e-4}
    torch.testing.assert_close(y.double(), exact, **steps)
    for a, b in zip(found, torch.autograd.grad(exact, theirs, dy.double()), strict=True):
        torch.testing.assert_close(a.double(), b, **steps)


@given(
    seed=st.integers(0, 10**6), path=paths, behind=st.booleans(), threads=st.integers(1, 3), images=st.integers(1, 3),
    eights=st.integers(1, 4), height=st.integers(1, 9), kernel=st.tuples(*[st.integers(1, 4)] * 2),
    stride=st.tuples(*[st.integers(1, 4)] * 2), dilation=st.tuples(*[st.integers(1, 3)] * 2),
    border=st.tuples(*[st.integers(0, 5)] * 2), rows=st.sampled_from([1, 2, 4, 8, 16]), relu=st.booleans(),
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_convolutions_of_whole_vectors_read_within_their_images(
    seed, path, behind, threads, images, eights, height, kernel, stride, dilation, border, rows, relu
):
    """These are computed in place: the image is such that the output is 8, 16, 24 or 32 pixels wide."""
    rng = np.random.default_rng(seed)
    padding = tuple(int(rng.integers(0, b + 1)) for b in border)
    sides = [
        max(1, (out - 1) * s + d * (k - 1) + 1 - 2 * p + int(rng.integers(s)))
        for out, s, d, k, p in zip((height, 8 * eights), stride, dilation, kernel, padding, strict=True)
    ]
    channels = int(rng.integers(1, 5))
    blocks = rng.random((3, channels)) < 0.6
    panels = Panels(
        Graph.complete(1, 1), (1, 1), Graph.from_mask(blocks), (rows, kernel[0] * kernel[1])
    )  # as RBGP4 has them: whole windows
    generator = torch.Generator().manual_seed(seed)
    shapes = [(panels.nnz,), (images, channels, *sides), (panels.shape[0],)]
    drawn = [torch.randn(s, generator=generator) for s in shapes]
    ours = [at_the_edge(t, behind) for t in drawn]
    geometry = {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    torch.set_num_threads(threads)
    try:
        with dispatch.using(path):
            try:
                y = conv2d(ours[0], ours[1], Plan(panels), ours[2], relu=relu, **geometry)
            except ValueError as error:
                assert "expected at least 1 × 1" in str(error)  # padding that swallows the image
                return
    finally:
        torch.set_num_threads(1)
    theirs = [t.double() for t in drawn]
    exact = reference.conv2d(panels, *theirs, relu, kernel, stride, padding, dilation)
    torch.testing.assert_close(y.double(), exact, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("threads", [1, 2])
def test_images_too_large_for_a_cache_are_taken_in_strips(threads: int):
    torch.manual_seed(0)
    panels = Panels(Graph.complete(1, 1), (1, 1), random_graph(3, 96, 0.3, 1), (4, 9))
    plan, values, x = Plan(panels), torch.randn(panels.nnz), torch.randn(2, 96, 70, 80)
    torch.set_num_threads(threads)
    try:
        found = [conv2d(values, x, plan, kernel_size=3, padding=1, stride=s) for s in (1, 2)]
    finally:
        torch.set_num_threads(1)
    for y, stride in zip(found, (1, 2), strict=True):
        pair = [(n, n) for n in (3, stride, 1, 1)]
        exact = reference.conv2d(panels, values.double(), x.double(), None, False, *pair)
        torch.testing.assert_close(y.double(), exact, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("path", PATHS[1:])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("token", [False, True])
def test_rows_further_apart_than_32_bits_count(path: str, dtype: torch.dtype, token: bool, tmp_path: Path):
    """Three rows 2^31 numbers apart; pages that nobody touches take no memory."""
    ld, rows, n = 1 << 31, 3, 40
    size = (rows - 1) * ld + n
    with (tmp_path / "sparse").open("w+b") as file:
        file.truncate(size * dtype.itemsize)
        flat = torch.frombuffer(mmap.mmap(file.fileno(), 0), dtype=dtype, count=size)
    far = flat.as_strided((rows, n), (ld, 1))
    far.copy_(torch.randn(rows, n))
    k, m = (n, 8) if token else (rows, 8)
    panels = Panels(Graph.complete(1, 1), (1, 1), Graph.complete(2, k), (4, 1))
    values, x = torch.randn(panels.nnz).to(dtype), far.t() if token else far
    near = x.clone()
    with dispatch.using(path):
        plan = Plan(panels)
        y = matmul(values, x, plan)
        assert torch.equal(y, matmul(values, near, plan))
        dw = plan.sampled_product(y, x)
        assert torch.equal(dw, plan.sampled_product(y, near))
        expected = plan.transposed_product(values, y, out=torch.empty_like(near))
        plan.transposed_product(values, y, out=x)
        assert torch.equal(x, expected)
    assert m == y.shape[0]


@pytest.mark.parametrize("path", PATHS)
def test_a_step_between_the_numbers_is_no_obstacle(path: str):
    panels = KINDS["block4x4"]
    plan, values, (_, k) = Plan(panels), torch.randn(panels.nnz), panels.shape
    wide = torch.randn(5, 2 * k)
    with dispatch.using(path):
        x = wide[:, ::2]
        assert torch.equal(linear(values, x, plan), linear(values, x.contiguous(), plan))
        x = torch.randn(k, 2, 6)[:, 1, ::3]
        assert torch.equal(matmul(values, x, plan), matmul(values, x.clone(), plan))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_prepared_plan_outlives_every_change_of_the_kernels(dtype: torch.dtype):
    case = Case(7, 33, dtype)
    v, x, b = case.values.double(), case.x.double(), case.bias.double()
    exact, size = (
        reference.product(case.panels, *t, False) for t in ((v, x, b), (v.abs(), x.abs(), b.abs()))
    )
    for first in PATHS:
        with dispatch.using(first):
            prepared = Prepared(case.plan, case.values, case.bias)
        for path in (*PATHS, *reversed(PATHS)):
            with dispatch.using(path):
                assert_close(prepared(case.x), exact, size)


def test_threads_with_plans_of_their_own_do_not_meet():
    torch.set_num_threads(2)
    wrong: list[int] = []

    def work(seed: int) -> None:
        case = Case(seed, 100, torch.float32)
        expected = matmul(case.values, case.x, case.plan)
        for _ in range(20):
            if not torch.equal(matmul(case.values, case.x, case.plan), expected):
                wrong.append(seed)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_without_the_extension_the_reference_serves_all(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dispatch, "_extension", lambda: None)
    monkeypatch.setitem(sys.modules, "leandnn.kernels._native", None)
    monkeypatch.setattr(dispatch, "_warn_once", lambda: None)
    with dispatch.using("reference"):
        case = Case(3, 9, torch.bfloat16)
        y = Prepared(case.plan, case.values)(case.x.requires_grad_())
    assert y.shape == (case.m, 9)
    assert not y.requires_grad, "a prepared plan is without autograd on every path"


def test_autograd_sees_what_is_written_into_out():
    case = Case(3, 9, torch.float32)
    y = torch.zeros(case.m, 9)
    loss = (torch.ones(case.m, 9, requires_grad=True) * y).sum()
    Prepared(case.plan, case.values)(case.x, y)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("default", [torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("kind", ["rbgp4", "block8x1"])
def test_the_products_do_not_follow_torchs_default_dtype(default: torch.dtype, kind: str):
    """What the kernels write into is float32 on the CPU, whatever torch makes unless it is told."""
    plan, (m, k) = Plan(KINDS[kind]), KINDS[kind].shape
    values, x, dy = (torch.randn(size, dtype=torch.float32) for size in [(plan.nnz,), (k, 50), (m, 50)])
    image, sizes = torch.randn(2, k, 3, 5, dtype=torch.float32), [1, 1, 1, 1, 0, 0, 1, 1]
    dimage = torch.randn(2, m, 3, 5, dtype=torch.float32)

    def products() -> list[torch.Tensor]:
        return [
            plan.product(values, x, out=x.new_empty(m, 50)),
            plan.transposed_product(values, dy, out=x.new_empty(k, 50)),
            plan.sampled_product(dy, x),
            convolution.forward(plan, values, image, None, False, sizes),
            convolution.input_gradient(plan, values, dimage, list(image.shape), sizes),
            convolution.values_gradient(plan, dimage, image, sizes),
        ]

    expected, before = products(), torch.get_default_dtype()
    try:
        torch.set_default_dtype(default)
        found = products()
    finally:
        torch.set_default_dtype(before)
    assert all(a.dtype == torch.float32 and torch.equal(a, b) for a, b in zip(found, expected, strict=True))
