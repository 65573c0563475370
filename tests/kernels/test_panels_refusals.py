"""What the panel products refuse: operands, patterns and index arrays that would crash or mislead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tests.kernels.panels_cases import KINDS
from torch import Tensor

from leandnn.kernels import dispatch
from leandnn.kernels.panels.format import Graph, Panels
from leandnn.kernels.panels.ops import conv2d, matmul
from leandnn.kernels.panels.plan import Plan, Prepared

PATHS = dispatch.supported()
SQUARE = KINDS["block128x128"]
CONV = Plan(Panels(Graph.complete(1, 1), (1, 1), Graph.complete(2, 18), (4, 1)))


def prepared(x: Tensor, out: Tensor | None = None, values: Tensor | None = None) -> Tensor:
    return Prepared(Plan(SQUARE), torch.zeros(SQUARE.nnz) if values is None else values)(x, out)


def operator(name: str, *arguments: Any) -> Callable[[], Tensor]:
    images, sizes = torch.zeros(1, 2, 8, 8), arguments[-1]
    call = getattr(torch.ops.leandnn, name)
    if name == "panels_conv2d":
        return lambda: call(torch.zeros(144), images, None, CONV.number, False, sizes)
    return lambda: call(torch.zeros(1, 8, 6, 6).double(), images.double(), CONV.number, sizes)


def misaligned() -> Tensor:
    return torch.frombuffer(bytearray(4 * 256 * 2 + 2), dtype=torch.float32, offset=2).view(256, 2)


same = torch.zeros(256, 5)
REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: prepared(torch.tensor(1.0)), r"shape \(\), expected \(256, N\)"),
    (lambda: matmul(torch.zeros(SQUARE.nnz), torch.zeros(256), Plan(SQUARE)), r"shape \(256,\), expected"),
    (lambda: prepared(torch._neg_view(torch.ones(256, 5))), "x is a view that torch has yet to compute"),
    (lambda: prepared(same, values=torch._neg_view(torch.ones(SQUARE.nnz))), "values is a view"),
    (lambda: prepared(torch._efficientzerotensor((256, 5))), "x is a view that torch has yet to compute"),
    (lambda: prepared(misaligned()), "expected a multiple of 4"),
    (lambda: prepared(same, same), "out is x's memory"),
    (lambda: conv2d(torch.zeros(144), torch.zeros(1, 2, 8, 8), CONV, kernel_size=3.0), "two integers"),  # type: ignore[arg-type]
    (lambda: conv2d(torch.zeros(144), torch.zeros(0, 2, 8, 8), CONV, kernel_size=3, padding=1 << 30), "below 2"),
    (lambda: conv2d(torch.zeros(144), torch.zeros(1, 2, 8, 8), CONV, kernel_size=3, padding=1 << 62), "below 2"),
    (operator("panels_conv2d", [3, 3, 0, 0, 0, 0, 1, 1]), "the sizes are .* of at least"),
    (operator("panels_conv2d", [3, 3, 1, 1, -1, -1, 1, 1]), "the sizes are .* of at least"),
    (operator("panels_conv2d", [3, 3, 1, 1, 0, 0, 1]), "expected 8"),
    (operator("panels_conv2d_values", [3, 3, 1, 1, 0, 0, 1, 1]), "float64, expected torch.float32"),
    (lambda: Panels(Graph.complete(1, 1), (1 << 20, 1), Graph.complete(1, 1), (1, 1 << 20)), "non-zeros"),
    (lambda: Panels(Graph.complete(1, 1), (np.int32(1 << 20), 1), Graph.complete(1, 1), (np.int32(1 << 20), 1)),
     r"shape \(1099511627776, 1\)"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "words"), REFUSED)
@pytest.mark.parametrize("path", [PATHS[0], PATHS[-1]])
def test_what_would_crash_or_mislead_is_refused(call: Callable[[], object], words: str, path: str):
    with dispatch.using(path), pytest.raises(ValueError, match=words):
        call()


def test_an_operator_of_a_plan_that_is_gone_says_so():
    with pytest.raises(KeyError, match="plan 1000000000 is gone"):
        torch.ops.leandnn.panels_product(torch.zeros(1), torch.zeros(1, 1), None, 10**9, False)


def native_plan(**changes: Any) -> Any:
    native = pytest.importorskip("leandnn.kernels._native")
    sizes = {"rows": 4, "columns": 8, "n_o": 1, "n_i": 1, "m_r": 1, "m_b": 4, "h": 4}
    arrays = {"base_begin": [0, 1], "bases": [0], "offset_begin": [0, 2], "offsets": [0, 7], "starts": [0, 8]}
    sizes.update({k: v for k, v in changes.items() if k in sizes})
    arrays.update({k: v for k, v in changes.items() if k in arrays})
    made = {k: np.array(v, np.int64 if k == "starts" else np.int32) for k, v in arrays.items()}
    return native.Plan(**sizes, **made, pairs=False)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"starts": []}, "one number per panel"),
        ({"starts": [0, -(1 << 63)]}, "has -1 values, expected 8"),
        ({"rows": 1 << 40, "m_r": 1 << 20, "m_b": 1 << 20}, "fewer than 2"),
        ({"columns": 1 << 62}, "fewer than 2"),
        ({"n_o": -1, "rows": -4}, "at least 1"),
        ({"h": 3}, "chunks of 3"),
        ({"n_o": 2, "rows": 8, "base_begin": [0, 2, 1], "starts": [0, 8, 16]}, "must rise from 0 to 1"),
        ({"bases": [(1 << 31) - 1]}, "column 2147483654, expected below 8"),
    ],
)
def test_an_index_that_overflows_is_refused(changes: dict[str, Any], words: str):
    with pytest.raises(ValueError, match=words):
        native_plan(**changes)


@pytest.mark.parametrize(
    ("source", "sizes"),
    [([-1], (2, 4, 2, 8)), ([1], (2, 4, 2, 8)), ([0, 4], (2, 4, 2, 8)), ([0, 4], (4, 1, 4, 8)),
     ([0] * 4, (1, 2, -4, 8)), ([0] * 8, (1, 1, 0, 8)), ([], (1 << 30, 4, 1 << 30, 8))],
)  # fmt: skip
def test_tiles_that_reach_outside_or_do_not_fit_are_refused(source: list[int], sizes: tuple[int, ...]):
    plan = native_plan()
    plan.set_tiles(np.zeros(1, np.int32), 2, 4, 2, 8)
    with pytest.raises(ValueError, match="tile"):
        plan.set_tiles(np.array(source, np.int32), *sizes)
    with pytest.raises(TypeError):
        plan.set_tiles(np.zeros(1, np.int64), 2, 4, 2, 8)  # numbers that a narrower type may not hold


def test_views_and_geometries_that_are_none_are_refused():
    native = pytest.importorskip("leandnn.kernels._native")
    with pytest.raises(ValueError, match="layout 7"):
        native_plan().product(0, 0, 7, False, 1, 3, 0, 0, False, 3, 0, False, 1)
    with pytest.raises(ValueError, match="below 1"):
        native_plan().conv(0, 0, False, native.Geometry(*[0] * 14), 0, False, 0, False, 1)
