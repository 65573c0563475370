"""The sparse convolution against torch's dense one in float64, and its refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leandnn.kernels import dispatch
from leandnn.kernels.panels import reference
from leandnn.kernels.panels.format import Graph, Panels
from leandnn.kernels.panels.ops import conv2d
from leandnn.kernels.panels.plan import Plan

PATHS = dispatch.supported()
one_or_two = st.tuples(st.integers(1, 2), st.integers(1, 2))


@given(
    seed=st.integers(0, 10**6), path=st.sampled_from(PATHS), images=st.integers(1, 5), height=st.integers(1, 4),
    channels=st.integers(1, 5), kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)), stride=one_or_two,
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)), dilation=one_or_two, relu=st.booleans(),
    size=st.tuples(st.integers(5, 14), st.integers(5, 14)), dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    threads=st.sampled_from([1, 2]),
)  # fmt: skip
@settings(max_examples=120, deadline=None)
def test_forward_and_gradients_equal_torchs_dense_convolution(
    seed, path, images, height, channels, kernel, stride, padding, dilation, relu, size, dtype, threads
):
    rng = np.random.default_rng(seed)
    mask = rng.random((3, channels * kernel[0] * kernel[1])) < 0.5
    panels = Panels(Graph.complete(1, 1), (1, 1), Graph.from_mask(mask), (height, 1))
    plan, generator = Plan(panels), torch.Generator().manual_seed(seed)
    shapes = [(panels.nnz,), (images, channels, *size), (panels.shape[0],)]
    ours = [torch.randn(s, generator=generator).to(dtype).requires_grad_() for s in shapes]
    theirs = [t.detach().double().requires_grad_() for t in ours]
    geometry = {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with dispatch.using(path):
            y = conv2d(ours[0], ours[1], plan, ours[2], relu=relu, **geometry)
            dy = torch.randn(y.shape, generator=generator).to(dtype)
            found = torch.autograd.grad(y, ours, dy)
    finally:
        torch.set_num_threads(before)
    exact = reference.conv2d(panels, *theirs[:2], theirs[2], relu, kernel, stride, padding, dilation)
    tolerance = {"atol": 1e-4, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 0.05, "rtol": 0.02}
    torch.testing.assert_close(y.double(), exact, **tolerance)
    if dtype == torch.float32 or not relu:  # in BF16 a rounding may cross the ReLU's corner
        wide = {"atol": 1e-3, "rtol": 1e-4} if dtype == torch.float32 else {"atol": 0.5, "rtol": 0.03}
        for a, b in zip(found, torch.autograd.grad(exact, theirs, dy.double()), strict=True):
            torch.testing.assert_close(a.double(), b, **wide)


def test_it_compiles_and_obeys_torchs_rules():
    panels = Panels(Graph.complete(1, 1), (1, 1), Graph.complete(2, 18), (4, 1))
    plan = Plan(panels)
    values = torch.randn(panels.nnz, requires_grad=True)
    x = torch.randn(3, 2, 8, 8, requires_grad=True)
    sizes = [3, 3, 1, 1, 1, 1, 1, 1]
    torch.library.opcheck(torch.ops.leandnn.panels_conv2d, (values, x, None, plan.number, False, sizes))
    compiled = torch.compile(
        lambda v, t: conv2d(v, t, plan, kernel_size=3, padding=1).tanh(), backend="aot_eager", fullgraph=True
    )
    torch.testing.assert_close(compiled(values, x), conv2d(values, x, plan, kernel_size=3, padding=1).tanh())


@pytest.mark.parametrize("path", [PATHS[0], PATHS[-1]])
@pytest.mark.parametrize(
    ("x", "geometry", "words"),
    [
        (torch.zeros(2, 3, 8, 8), {"kernel_size": 3}, "27 columns, expected 18"),
        (torch.zeros(2, 8, 8), {"kernel_size": 3}, r"shape \(2, 8, 8\), expected images"),
        (torch.zeros(2, 2, 2, 8), {"kernel_size": 3}, "0 × 6 pixels"),
        (torch.zeros(2, 2, 8, 8), {"kernel_size": 3, "stride": 0}, "stride is 0, expected"),
        (torch.zeros(2, 2, 8, 8), {"kernel_size": (3, 3, 3)}, "kernel_size is"),
        (
            torch.zeros(2, 2, 8, 8, dtype=torch.float64),
            {"kernel_size": 3},
            "float64 on cpu, expected torch.float32",
        ),
    ],
)
def test_what_does_not_fit_is_named(path, x, geometry, words):
    panels = Panels(Graph.complete(1, 1), (1, 1), Graph.complete(2, 18), (4, 1))
    with dispatch.using(path), pytest.raises(ValueError, match=words):
        conv2d(torch.zeros(panels.nnz), x, Plan(panels), **geometry)
