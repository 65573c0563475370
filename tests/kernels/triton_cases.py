"""The Triton panel products against dense float64 ones; test_panels_triton runs this file in the interpreter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from leandnn.kernels.panels import gpu, gpu_launch
from leandnn.kernels.panels.format import Graph, Panels
from leandnn.kernels.panels.gpu_index import Operand

VARIANTS = ("panels", "tiles", "rows")
ONE = Graph.complete(1, 1)


def graph(left: int, right: int, density: float, seed: int = 0) -> Graph:
    """Random, with a vertex of no edges on each side where there are several."""
    mask = np.random.default_rng(seed).random((left, right)) < density
    if min(left, right) > 2:
        mask[1] = mask[:, 2] = False
    return Graph.from_mask(mask)


def regular(left: int, right: int, degree: int) -> Graph:
    return Graph.from_mask(np.array([[(j - i) % right < degree for j in range(right)] for i in range(left)]))


PATTERNS = {
    "rbgp4": Panels(graph(3, 4, 0.6), (4, 1), graph(6, 8, 0.5), (1, 1)),
    "rbgp4-held": Panels(regular(2, 3, 2), (2, 2), regular(3, 8, 6), (2, 2)),
    "rbgp4-wide": Panels(regular(2, 2, 1), (1, 2), graph(3, 12, 0.4), (4, 4)),
    "hierarchical-4×4": Panels(ONE, (1, 1), graph(6, 7, 0.4), (4, 4)),
    "blocks-16×16": Panels(ONE, (1, 1), graph(3, 4, 0.6), (16, 16)),
    "blocks-3×8": Panels(ONE, (1, 1), graph(5, 4, 0.6), (3, 8)),
    "blocks-6×1": Panels(ONE, (1, 1), graph(5, 20, 0.4), (6, 1)),
    "blocks-150×2": Panels(ONE, (1, 1), graph(2, 4, 0.5), (150, 2)),
    "unstructured": Panels(ONE, (1, 1), graph(20, 24, 0.2), (1, 1)),
}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def dense(panels: Panels, values: Tensor) -> Tensor:
    found = torch.zeros(panels.shape, dtype=torch.float64)
    found[tuple(map(torch.from_numpy, panels.coordinates()))] = values.double()
    return found


def assert_close(found: Tensor, expected: Tensor, size: Tensor, terms: int) -> None:
    """The textbook bound of a sum of `terms` products in FP32, size = the sum of their absolute values.

    BF16 results may differ by a whole unit in the last place: the interpreter cuts where hardware rounds.
    """
    last = 2.0**-7 if found.dtype == torch.bfloat16 else 2.0**-24
    allowed = (terms + 2) * 2.0**-24 * size + last * expected.abs() + 1e-37
    excess = ((found.double() - expected).abs() - allowed).max()
    assert found.shape == expected.shape
    assert excess <= 0, f"off by {excess:.3g} more than allowed"


def random(*shape: int, dtype: torch.dtype, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize(
    ("token_major", "tokens"), [(False, 130), (True, 19)], ids=["feature-major", "token-major"]
)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", PATTERNS)
def test_products(name: str, variant: str, dtype: str, token_major: bool, tokens: int):
    panels, kind = PATTERNS[name], DTYPES[dtype]
    rows, columns = panels.shape
    index = gpu.PanelsIndex.build(panels, "cpu")
    values = random(panels.nnz, dtype=kind, seed=1)
    x, dy = random(columns, tokens, dtype=kind, seed=2), random(rows, tokens, dtype=kind, seed=3)
    w = dense(panels, values)

    def turn(t: Tensor) -> Tensor:
        return t.t().contiguous() if token_major else t

    y = gpu.forward(index, values, turn(x), token_major=token_major, variant=variant)
    assert_close(turn(y), w @ x.double(), w.abs() @ x.double().abs(), columns)
    dx = gpu.grad_x(index, values, turn(dy), token_major, variant=variant)
    assert_close(turn(dx), w.t() @ dy.double(), w.t().abs() @ dy.double().abs(), rows)
    dw = gpu.grad_values(index, turn(dy), turn(x), token_major, variant=variant)
    r, c = map(torch.from_numpy, panels.coordinates())
    a, b = dy.double()[r], x.double()[c]
    assert_close(dw, (a * b).sum(1), (a * b).abs().sum(1), tokens)


@pytest.mark.parametrize("name", PATTERNS)
def test_values_of_the_transpose(name: str):
    panels = PATTERNS[name]
    values = torch.arange(1.0, panels.nnz + 1)
    index = gpu.PanelsIndex.build(panels, "cpu")
    turned = gpu.transposed_values(index, values)
    assert torch.equal(dense(index.transposed.panels, turned), dense(panels, values).t())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_bias_and_relu_are_fused(variant: str, dtype: str):
    panels, kind = PATTERNS["rbgp4"], DTYPES[dtype]
    values, x = random(panels.nnz, dtype=kind, seed=1), random(panels.shape[1], 9, dtype=kind, seed=2)
    bias = random(panels.shape[0], dtype=torch.float32, seed=3)
    w = dense(panels, values)
    index = gpu.PanelsIndex.build(panels, "cpu")
    out = torch.full((panels.shape[0], 20), 7, dtype=kind)[:, ::2][:, :9]
    y = gpu.forward(index, values, x, bias, True, out=out, variant=variant)
    assert y is out
    size = w.abs() @ x.double().abs() + bias.double().abs()[:, None]
    assert_close(y, (w @ x.double() + bias.double()[:, None]).relu(), size, panels.shape[1] + 1)


@pytest.mark.parametrize("variant", VARIANTS)
def test_relu_keeps_nan(variant: str):
    panels = PATTERNS["blocks-16×16"]
    index = gpu.PanelsIndex.build(panels, "cpu")
    y = gpu.forward(
        index,
        torch.full((panels.nnz,), torch.nan),
        torch.ones(panels.shape[1], 2),
        None,
        True,
        variant=variant,
    )
    used = torch.from_numpy(panels.mask().any(1))
    assert y[used].isnan().all() and not y[~used].isnan().any()


@pytest.mark.parametrize(("variant", "splits"), [("panels", 2), ("tiles", 100), ("rows", 3)])
def test_a_walk_in_parts_adds_up(variant: str, splits: int):
    panels = PATTERNS["rbgp4"]
    index = gpu.PanelsIndex.build(panels, "cpu")
    dy, x = (random(n, 70, dtype=torch.float32, seed=n) for n in panels.shape)
    found = gpu.grad_values(index, dy, x, variant=variant, splits=splits)
    r, c = map(torch.from_numpy, panels.coordinates())
    terms = dy.double()[r] * x.double()[c]
    assert_close(found, terms.sum(1), terms.abs().sum(1), 70 + splits)


def test_any_strides_and_wide_offsets(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Operand, "wide", True)
    panels = PATTERNS["rbgp4"]
    rows, columns = panels.shape
    index = gpu.PanelsIndex.build(panels, "cpu")
    values = random(panels.nnz, dtype=torch.float32, seed=1)
    w = dense(panels, values)
    x = random(2 * columns, 3, dtype=torch.float32, seed=2)[::2, ::3]  # one token
    dy = torch.ones(1, 1).expand(rows, 1)
    for variant in VARIANTS:
        y = gpu.forward(index, values, x, variant=variant)
        assert_close(y, w @ x.double(), w.abs() @ x.double().abs(), columns)
        dx = gpu.grad_x(index, values, dy, variant=variant)
        assert_close(dx, w.t() @ dy.double(), w.t().abs() @ dy.double(), rows)
        dw = gpu.grad_values(index, dy, x, variant=variant)
        taken = x.double()[torch.from_numpy(panels.coordinates()[1])]
        assert_close(dw, taken.sum(1), taken.abs().sum(1), 1)


def test_nothing_to_do():
    panels = PATTERNS["rbgp4"]
    index, values = gpu.PanelsIndex.build(panels, "cpu"), torch.ones(panels.nnz)
    rows, columns = panels.shape
    assert gpu.forward(index, values, torch.ones(columns, 0)).shape == (rows, 0)
    assert gpu.grad_x(index, values, torch.ones(rows, 0)).shape == (columns, 0)
    dw = gpu.grad_values(index, torch.ones(rows, 0), torch.ones(columns, 0))
    assert torch.equal(dw, torch.zeros(panels.nnz))
    empty = Panels(ONE, (1, 1), Graph.from_mask(np.zeros((3, 4), bool)), (2, 2))
    index, values = gpu.PanelsIndex.build(empty, "cpu"), torch.ones(0)
    for variant in VARIANTS:
        y = gpu.forward(index, values, torch.ones(8, 5), torch.full((6,), 2.0), variant=variant)
        assert torch.equal(y, torch.full((6, 5), 2.0))
        assert torch.equal(gpu.grad_x(index, values, torch.ones(6, 5), variant=variant), torch.zeros(8, 5))
    assert gpu.grad_values(index, torch.ones(6, 5), torch.ones(8, 5)).shape == (0,)


CONVOLUTIONS = {
    "3×3-strided": ((3, 3), {"stride": (2, 2), "padding": (1, 1)}),
    "2×3-dilated": ((2, 3), {"dilation": (2, 1), "padding": (0, 2), "stride": (1, 2)}),
    "1×1": ((1, 1), {}),
    "1×1-strided": ((1, 1), {"stride": (2, 1)}),
}


@pytest.mark.parametrize(
    ("dtype", "last"), [("fp32", False), ("bf16", True)], ids=["fp32-channels-first", "bf16-channels-last"]
)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name: str, variant: str, dtype: str, last: bool):
    kernel, how = CONVOLUTIONS[name]
    kind, window = DTYPES[dtype], kernel[0] * kernel[1]
    panels = Panels(regular(2, 2, 1), (4, 1), regular(2, 4, 3), (2, window))  # whole kernels of 8 channels
    index = gpu.PanelsIndex.build(panels, "cpu")
    values = random(panels.nnz, dtype=kind, seed=1)
    order = torch.channels_last if last else torch.contiguous_format
    x = random(2, 8, 6, 5, dtype=kind, seed=2).to(memory_format=order)
    bias = random(panels.shape[0], dtype=kind, seed=3)
    weight = dense(panels, values).reshape(-1, 8, *kernel).requires_grad_()
    exact = x.double().requires_grad_()
    expected = functional.conv2d(exact, weight, **how)
    size = functional.conv2d(exact.abs(), weight.abs(), bias.double().abs(), **how).detach()

    y = gpu.conv2d(index, values, x, kernel, bias, True, **how, variant=variant)
    biased = (expected + bias.double()[:, None, None]).relu().detach()
    assert_close(y, biased, size, 8 * window + 1)
    assert y.is_contiguous(memory_format=order)
    dy = random(*y.shape, dtype=kind, seed=4).to(memory_format=order)
    dx, dw = torch.autograd.grad(expected, (exact, weight), dy.double())
    size_x, size_w = torch.autograd.grad(
        functional.conv2d(exact.abs(), weight.abs(), **how), (exact, weight), dy.double().abs()
    )
    found = gpu.conv2d_grad_values(index, dy, x, kernel, **how, variant=variant)
    places = tuple(map(torch.from_numpy, panels.coordinates()))
    assert_close(found, dw.flatten(1)[places], size_w.flatten(1)[places].abs(), y.numel())
    found = gpu.conv2d_grad_x(index, values, dy, (6, 5), kernel, **how, variant=variant)
    # Up to window + 1 roundings to the narrow type: of each window's part, and of every sum in fold.
    steps = (window + 1) * (2.0**-7 if kind == torch.bfloat16 else 2.0**-23)
    assert ((found.double() - dx).abs() <= (steps + 2.0**-24 * panels.shape[0]) * size_x.abs() + 1e-37).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_autotuner_is_called_rightly(variant: str, monkeypatch: pytest.MonkeyPatch):
    """Its way to the kernels on a GPU, with a clock that always shows the same."""
    seen: list[int] = []

    def launch(name: str, blocks: int, over_tokens: bool, arguments: dict[str, Any]) -> None:
        tuner, tokens = gpu_launch.tuned(name), arguments["tokens"]
        tuner._do_bench = lambda call, quantiles: (seen.append(1), call(), [1.0] * 3)[-1]
        tuner[lambda meta: (blocks * (-(-tokens // meta["BN"]) if over_tokens else 1),)](**arguments)

    monkeypatch.setattr(gpu_launch, "_launch", launch)
    panels = PATTERNS["blocks-3×8"]
    index = gpu.PanelsIndex.build(panels, "cpu")
    values = random(panels.nnz, dtype=torch.float32, seed=1)
    x = random(panels.shape[1], 130, dtype=torch.float32, seed=2)
    w = dense(panels, values)
    for _ in range(2):
        tried = len(seen)
        y = gpu.forward(index, values, x, variant=variant)
        assert_close(y, w @ x.double(), w.abs() @ x.double().abs(), panels.shape[1])
        dw = gpu.grad_values(index, y, x, variant=variant)
        assert dw.shape == values.shape
    assert 0 < tried == len(seen), "the second call must not tune again"


def test_wrong_operands_are_named():
    panels = PATTERNS["rbgp4"]
    index, values = gpu.PanelsIndex.build(panels, "cpu"), torch.ones(panels.nnz)
    rows, columns = panels.shape
    x = torch.ones(columns, 3)
    wrong: list[tuple[str, Any]] = [
        (f"expected \\({panels.nnz},\\)", lambda: gpu.forward(index, values[1:], x)),
        ("dtype torch.float64", lambda: gpu.forward(index, values.double(), x)),
        (f"expected \\({columns}, N\\)", lambda: gpu.forward(index, values, x.t())),
        (f"expected \\(N, {columns}\\)", lambda: gpu.forward(index, values, x, token_major=True)),
        ("expected torch.float32 on cpu", lambda: gpu.forward(index, values, x.bfloat16())),
        ("bias is", lambda: gpu.forward(index, values, x, torch.ones(rows + 1))),
        ("out is", lambda: gpu.forward(index, values, x, out=torch.ones(rows, 4))),
        ("variant is 'other'", lambda: gpu.forward(index, values, x, variant="other")),
        (f"expected \\({rows}, N\\)", lambda: gpu.grad_x(index, values, x)),
        ("dy has 4 tokens, x has 3", lambda: gpu.grad_values(index, torch.ones(rows, 4), x)),
        ("channels × 3 × 3", lambda: gpu.conv2d(index, values, torch.ones(1, 2, 9, 9), (3, 3))),
        ("has an output of", lambda: gpu.conv2d(index, values, torch.ones(1, 8, 2, 9), (4, 1))),
    ]  # fmt: skip
    for message, call in wrong:
        with pytest.raises(ValueError, match=message):
            call()
