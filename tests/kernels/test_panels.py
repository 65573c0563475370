"""The panel products: every path of this CPU against float64, any pattern, any layout, any N."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.panels_cases import KINDS, assert_close, columns, random_panels
from torch import Tensor

from leandnn.kernels import dispatch
from leandnn.kernels.panels import reference
from leandnn.kernels.panels.format import Graph, Panels
from leandnn.kernels.panels.ops import linear, matmul
from leandnn.kernels.panels.plan import Plan, Prepared
from leandnn.kernels.panels.tiles import column_pairs, transposed_tiles

PATHS = dispatch.supported()
DTYPES = (torch.float32, torch.bfloat16)


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def check_products(
    panels: Panels, n: int, dtype: torch.dtype, token: bool, relu: bool, seed: int = 0
) -> None:
    """All three products of one case against float64."""
    generator = torch.Generator().manual_seed(seed)
    plan, (m, k) = Plan(panels), panels.shape

    def draw(rows: int) -> Tensor:
        if token:
            return torch.randn(n, rows, generator=generator).to(dtype).t()
        return torch.randn(rows, n + 3, generator=generator).to(dtype)[:, 1 : n + 1]

    values = torch.randn(panels.nnz, generator=generator).to(dtype)
    x, dy, bias = draw(k), draw(m), torch.randn(m, generator=generator).to(dtype)
    v, xd, dyd, b = (t.double() for t in (values, x, dy, bias))
    y = matmul(values, x, plan, bias, relu)
    size = reference.product(panels, v.abs(), xd.abs(), b.abs(), False)
    assert_close(y, reference.product(panels, v, xd, b, relu), size)
    if n > 1 and k > 1 and m > 1:
        assert (y.stride(0) == 1) == token, "the result has the layout of x"
    dx = plan.transposed_product(values, dy, out=torch.empty((k, n), dtype=dtype))
    assert_close(dx, reference.transposed(panels, v, dyd), reference.transposed(panels, v.abs(), dyd.abs()))
    dw = plan.sampled_product(dy, x)
    assert_close(dw, reference.sampled(panels, dyd, xd), reference.sampled(panels, dyd.abs(), xd.abs()))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_products_of_every_kind_on_every_path_equal_float64(path: str, dtype: torch.dtype, kind: str):
    with dispatch.using(path):
        for n in (1, 5, 8, 64, 100):
            check_products(KINDS[kind], n, dtype, token=n % 2 == 0, relu=n == 100)
        check_products(KINDS[kind], 1, dtype, token=True, relu=False)  # a column of neighbours


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["rbgp4", "block128x128", "block16x1", "unstructured"])
def test_sums_over_more_columns_than_a_block_are_whole(path: str, kind: str):
    with dispatch.using(path):
        check_products(KINDS[kind], 700, torch.float32, token=False, relu=False)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("token", [False, True])
def test_bfloat16_results_halfway_between_two_are_even(path: str, token: bool):
    panels = KINDS["dense"]
    values = torch.zeros(panels.shape)
    values[:, 0], values[:, 1] = 1.0, 2.0**-8  # half of the last place
    x = torch.zeros(panels.shape[1], 40)
    x[0], x[1] = 1 + torch.arange(40) * 2.0**-7, 1.0
    x[:2, 20:] *= -1
    x = (x.t().contiguous().t() if token else x).to(torch.bfloat16)
    rows, places = map(torch.from_numpy, panels.coordinates())
    with dispatch.using(path):
        y = matmul(values[rows, places].to(torch.bfloat16), x, Plan(panels))
    assert torch.equal(y, (values @ x.float()).to(torch.bfloat16))


@given(
    seed=st.integers(0, 10**6), n=columns, path=st.sampled_from(PATHS), dtype=st.sampled_from(DTYPES),
    token=st.booleans(), relu=st.booleans(), count=st.sampled_from([1, 2, 3]),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_any_pattern_any_width_any_layout(
    seed: int, n: int, path: str, dtype: torch.dtype, token: bool, relu: bool, count: int
):
    torch.set_num_threads(count)
    with dispatch.using(path):
        check_products(random_panels(seed), n, dtype, token, relu, seed)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=100, deadline=None)
def test_coordinates_mask_and_transpose_agree(seed: int):
    panels = random_panels(seed)
    rows, found = panels.coordinates()
    mask = np.zeros(panels.shape, bool)
    mask[rows, found] = True
    assert (mask == panels.mask()).all()
    assert rows.size == panels.nnz == panels.starts[-1] == mask.sum()
    assert (panels.transpose().mask() == mask.T).all()
    transposed = panels.transpose()
    tiles = transposed_tiles(panels, transposed)
    assert tiles.source.size * tiles.height * tiles.width == panels.nnz


def test_columns_of_odd_tiles_are_filled_with_zero():
    odd = Panels(Graph.complete(2, 2), (1, 1), Graph.complete(2, 3), (4, 1))
    assert column_pairs(odd) is None
    halves = column_pairs(KINDS["unstructured"])
    assert halves is not None and halves.source is not None
    assert (halves.source == KINDS["unstructured"].nnz).any()
    whole = column_pairs(KINDS["rbgp4"])
    assert whole is not None and whole.source is None


def test_the_result_does_not_depend_on_the_number_of_threads():
    panels = KINDS["rbgp4_8"]
    plan, values = Plan(panels), torch.randn(panels.nnz)
    x, dy = torch.randn(panels.shape[1], 500), torch.randn(panels.shape[0], 500)
    found = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        dx = plan.transposed_product(values, dy, out=torch.empty_like(x))
        found.append((matmul(values, x, plan), dx, plan.sampled_product(dy, x)))
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_nan_and_infinity_reach_just_the_results_using_them():
    panels = KINDS["block4x4"]
    plan, values = Plan(panels), torch.ones(panels.nnz)
    mask = torch.from_numpy(panels.mask())
    x = torch.zeros(panels.shape[1], 50)
    x[5, 7] = float("nan")
    for path in PATHS[1:]:
        with dispatch.using(path):
            y = matmul(values, x, plan, relu=True)
            assert torch.equal(torch.isnan(y[:, 7]), mask[:, 5])
            assert not torch.isnan(y[:, :7]).any()
            assert not torch.isnan(y[:, 8:]).any()


def test_calls_from_many_threads_at_once_are_right():
    panels = KINDS["rbgp4"]
    plan, values, x = Plan(panels), torch.randn(panels.nnz), torch.randn(panels.shape[1], 300)
    expected, wrong = matmul(values, x, plan), []

    def work() -> None:
        for _ in range(30):
            if not torch.equal(matmul(values, x, plan), expected):
                wrong.append(1)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def _in_child(queue: multiprocessing.Queue[bool]) -> None:
    panels = KINDS["rbgp4"]
    x = torch.ones(panels.shape[1], 300)
    y = Prepared(Plan(panels), torch.ones(panels.nnz))(x)
    queue.put(bool((y[:, 0] == torch.from_numpy(panels.mask()).sum(1)).all()))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own():
    torch.set_num_threads(2)
    panels = KINDS["rbgp4"]
    Prepared(Plan(panels), torch.ones(panels.nnz))(torch.ones(panels.shape[1], 300))  # the pool exists
    context = multiprocessing.get_context("fork")
    queue: multiprocessing.Queue[bool] = context.Queue()
    child = context.Process(target=_in_child, args=(queue,))
    child.start()
    assert queue.get(timeout=60)
    child.join()


def test_gradients_equal_those_of_the_dense_layer():
    panels = KINDS["rbgp4"]
    plan, (m, k) = Plan(panels), panels.shape
    tensors = [torch.randn(panels.nnz), torch.randn(2, 9, k), torch.randn(m)]
    ours = [t.requires_grad_() for t in tensors]
    theirs = [t.detach().double().requires_grad_() for t in tensors]
    y = linear(ours[0], ours[1], plan, ours[2], relu=True)
    exact = torch.nn.functional.linear(theirs[1], reference.dense(panels, theirs[0]), theirs[2]).relu()
    torch.testing.assert_close(y.double(), exact, atol=1e-4, rtol=1e-5)
    dy = torch.randn_like(y)
    for a, b in zip(
        torch.autograd.grad(y, ours, dy), torch.autograd.grad(exact, theirs, dy.double()), strict=True
    ):
        torch.testing.assert_close(a.double(), b, atol=1e-4, rtol=1e-5)


def test_operators_obey_torchs_rules_and_compile():
    panels = KINDS["rbgp4"]
    plan = Plan(panels)
    values = torch.randn(panels.nnz, requires_grad=True)
    x = torch.randn(70, panels.shape[1], requires_grad=True)
    bias = torch.randn(panels.shape[0], requires_grad=True)
    leaf = x.detach().t().requires_grad_()
    arguments = (values, leaf, bias, plan.number, True)
    torch.library.opcheck(torch.ops.leandnn.panels_product, arguments)
    with torch.no_grad():
        torch.library.opcheck(
            torch.ops.leandnn.panels_sampled, (torch.randn(plan.shape[0], 70), leaf, plan.number)
        )
        torch.library.opcheck(
            torch.ops.leandnn.panels_transposed, (values, torch.randn(plan.shape[0], 70), plan.number)
        )
    compiled = torch.compile(lambda v, t: linear(v, t, plan, bias).sin(), backend="aot_eager", fullgraph=True)
    found, expected = compiled(values, x), linear(values, x, plan, bias).sin()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found.sum(), values)[0], torch.autograd.grad(expected.sum(), values)[0]
    )


def test_a_prepared_plan_writes_where_told_and_sees_changes():
    panels = KINDS["rbgp4"]
    plan, values = Plan(panels), torch.randn(panels.nnz)
    prepared, x = Prepared(plan, values), torch.randn(panels.shape[1], 70)
    out = torch.empty(panels.shape[0], 70)
    assert prepared(x, out) is out
    torch.testing.assert_close(out, reference.product(panels, values, x, None, False), atol=1e-4, rtol=1e-4)
    values.zero_()
    assert (prepared(x) == 0).all()


def bad(**changes: object) -> dict[str, object]:
    panels = KINDS["block4x4"]
    return {"values": torch.zeros(panels.nnz), "x": torch.zeros(panels.shape[1], 6), "bias": None, **changes}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (bad(values=torch.zeros(5)), r"values have shape \(5,\), expected \(\d+,\)"),
        (
            bad(values=torch.zeros(KINDS["block4x4"].nnz, dtype=torch.float64)),
            "float64, expected torch.float32",
        ),
        (bad(values=torch.zeros(2 * KINDS["block4x4"].nnz)[::2]), "stride 2, expected 1"),
        (bad(x=torch.zeros(27, 6)), r"x has shape \(27, 6\), expected \(28, N\)"),
        (bad(x=torch.zeros(28)), r"x has shape \(28,\), expected \(28, N\)"),
        (bad(x=torch.zeros(28, 6, dtype=torch.bfloat16)), "bfloat16, expected torch.float32"),
        (bad(x=torch.zeros(56, 12)[::2, ::2]), r"strides \(24, 2\), expected 1"),
        (bad(x=torch.zeros(28, 6, device="meta")), "on meta, expected cpu"),
        (bad(bias=torch.zeros(35)), r"\(35,\) on cpu, expected torch.float32 \(36,\)"),
        (bad(bias=torch.zeros(36, dtype=torch.float64)), "float64"),
    ],
)
@pytest.mark.parametrize("path", [PATHS[0], PATHS[-1]])
def test_what_does_not_fit_is_named_with_both_values(call: dict[str, Tensor], words: str, path: str):
    plan = Plan(KINDS["block4x4"])
    with dispatch.using(path), pytest.raises(ValueError, match=words):
        Prepared(plan, call["values"], call["bias"])(call["x"])


@pytest.mark.parametrize("shape", [(35, 6), (36, 7), (36,)])
def test_a_wrong_output_is_refused(shape: tuple[int, ...]):
    prepared = Prepared(Plan(KINDS["block4x4"]), torch.zeros(KINDS["block4x4"].nnz))
    with pytest.raises(ValueError, match=r"out has shape .* expected \(36, 6\)"):
        prepared(torch.zeros(28, 6), torch.zeros(shape))
    overlapping = torch.zeros(6).expand(36, 6)
    with pytest.raises(ValueError, match="no overlap"):
        prepared(torch.zeros(28, 6), overlapping)


@pytest.mark.parametrize(
    ("ptr", "idx", "words"),
    [
        ([0, 2], [0, 5], "ends at 0 or 5, expected 0 to 3"),
        ([0, 2], [-1, 2], "ends at -1"),
        ([0, 2], [2, 1], "ascend"),
        ([0, 2], [1, 1], "double"),
        ([0, 3], [0, 1], "from 0 to the 2 edges"),
        ([1, 2], [0, 1], "goes from 1"),
        ([0], [], "0 × 4"),
    ],
)
def test_a_graph_that_is_none_is_refused(ptr: list[int], idx: list[int], words: str):
    with pytest.raises(ValueError, match=words):
        Graph(4, np.array(ptr, np.int64), np.array(idx, np.int64))


def test_the_extension_refuses_an_index_that_reaches_outside():
    native = pytest.importorskip("leandnn.kernels._native")

    def plan(offsets: list[int], starts: list[int], rows: int = 4) -> object:
        small = [np.array(a, np.int32) for a in ([0, 1], [0], [0, len(offsets)], offsets)]
        return native.Plan(rows, 8, 1, 1, 1, 4, 4, *small, np.array(starts, np.int64), False)

    plan([0, 7], [0, 8])
    with pytest.raises(ValueError, match="column 8, expected below 8"):
        plan([0, 8], [0, 8])
    with pytest.raises(ValueError, match="negative"):
        plan([-1, 0], [0, 8])
    with pytest.raises(ValueError, match="12 values, expected 8"):
        plan([0, 7], [0, 12])
    with pytest.raises(ValueError, match="4 rows, expected 5"):
        plan([0, 7], [0, 8], rows=5)


TRITON = """
import torch
from leandnn.kernels import dispatch
from leandnn.kernels.panels.ops import linear, conv2d
from leandnn.kernels.panels.plan import Plan
from tests.kernels.panels_cases import KINDS
assert dispatch.active() == "triton"
plan = Plan(KINDS["rbgp4"])
values, x = torch.randn(plan.nnz, requires_grad=True), torch.randn(3, plan.shape[1], requires_grad=True)
image = torch.randn(1, plan.shape[1], 3, 2, requires_grad=True)

def results():
    y = linear(values, x, plan, relu=True)
    z = conv2d(values, image, plan, kernel_size=1)
    return y, z, *torch.autograd.grad(y.square().sum() + z.square().sum(), [values, x, image])

found = results()
with dispatch.using("reference"):
    for a, b in zip(found, results(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-4)
"""


@pytest.mark.slow
def test_triton_serves_the_operators_when_it_is_asked_for():
    pytest.importorskip("triton")
    environment = {**os.environ, "LEANDNN_KERNELS": "triton", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", TRITON]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "needs TRITON_INTERPRET=1" in answer.stderr
    environment["TRITON_INTERPRET"] = "1"
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
