"""The emulation: which values are rounded, which are not, against the same step by hand in float64."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from leandnn.bf16 import Policy, emulate
from leandnn.kernels import round_to
from leandnn.models.vision import SmallResNet


def is_bf16(x: Tensor) -> bool:
    return bool((x.contiguous().view(torch.int32) & 0xFFFF == 0).all())


def rounded64(x: Tensor) -> Tensor:
    return round_to(x.detach(), "bf16").double()


def close_to_rounded(found: Tensor, exact: Tensor) -> bool:
    """`found` is a BF16 rounding of a value near `exact`: off by at most one BF16 ulp."""
    return is_bf16(found) and torch.allclose(found.double(), exact, rtol=2.0**-7, atol=1e-5)


LAYERS = {
    "linear": (lambda: nn.Linear(24, 12), (6, 24)),
    "linear on sequences": (lambda: nn.Linear(24, 12), (3, 5, 24)),
    "conv1d": (lambda: nn.Conv1d(6, 8, 3), (2, 6, 20)),
    "conv2d strided": (lambda: nn.Conv2d(6, 8, 3, stride=2, padding=1), (2, 6, 9, 9)),
    "conv2d grouped, no bias": (lambda: nn.Conv2d(6, 8, 3, groups=2, bias=False), (2, 6, 9, 9)),
    "conv_transpose2d": (lambda: nn.ConvTranspose2d(6, 8, 3, stride=2), (2, 6, 5, 5)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layers_step_equals_float64_from_rounded_operands(name: str):
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    layer = make()
    x = torch.randn(shape, requires_grad=True)
    with emulate(layer, Policy.paper()):
        y = layer(x)
    dy = torch.randn_like(y)
    y.backward(dy)

    # The same layer in float64 on the rounded operands; its gradients are the exact products.
    exact = make().double()
    exact.weight.data = rounded64(layer.weight)
    if layer.bias is not None:
        exact.bias.data = layer.bias.detach().double()
    x64 = rounded64(x).requires_grad_()
    y64 = exact(x64)
    y64.backward(rounded64(dy))

    assert close_to_rounded(y, y64)
    assert close_to_rounded(x.grad, x64.grad)
    assert not is_bf16(layer.weight.grad), "the weight gradient stays FP32"
    assert torch.allclose(layer.weight.grad.double(), exact.weight.grad, rtol=1e-5, atol=1e-5)
    if layer.bias is not None:
        assert torch.allclose(layer.bias.grad.double(), exact.bias.grad, rtol=1e-5, atol=1e-5)


def test_matmul_of_two_activations_rounds_both_data_gradients():
    a, b = (torch.randn(4, 5, 6, requires_grad=True) for _ in range(2))
    with emulate(nn.Identity(), Policy.paper()):
        y = a @ b.transpose(1, 2)
    y.sum().backward()
    exact = rounded64(a) @ rounded64(b).transpose(1, 2)
    assert close_to_rounded(y, exact)
    assert is_bf16(a.grad)
    assert is_bf16(b.grad)


@pytest.mark.parametrize(
    "call",
    [
        lambda x, w: F.linear(x, w),
        lambda x, w: F.linear(input=x, weight=w),
        lambda x, w: F.linear(x, weight=w),
        lambda x, w: torch.matmul(x, other=w.t()),
        lambda x, w: x.mm(w.t()),
        lambda x, w: torch.mm(x, mat2=w.t()),
    ],
)
def test_functional_calls_are_rounded_however_they_are_called(call):
    torch.manual_seed(0)
    x, w = torch.randn(3, 8), torch.randn(5, 8)
    with emulate(nn.Identity(), Policy.paper()):
        y = call(x, w)
    assert close_to_rounded(y, rounded64(x) @ rounded64(w).t())


def test_a_transposed_weights_gradient_stays_fp32():
    torch.manual_seed(0)
    layer, x = nn.Linear(8, 5, bias=False), torch.randn(3, 8, requires_grad=True)
    with emulate(layer, Policy.paper()):
        y = x @ layer.weight.t()
    y.backward(torch.randn_like(y))
    assert is_bf16(x.grad)
    assert not is_bf16(layer.weight.grad)


def test_a_masked_weights_gradient_stays_fp32():
    torch.manual_seed(0)
    weight, mask = nn.Parameter(torch.randn(5, 8)), (torch.rand(5, 8) > 0.5).float()
    with emulate(nn.Identity(), Policy.paper()):
        y = F.linear(torch.randn(3, 8), weight * mask)
    y.backward(torch.randn_like(y))
    assert not is_bf16(weight.grad)


@pytest.mark.parametrize("call", [torch.dot, torch.inner, Tensor.dot, torch.linalg.vecdot])
def test_products_of_vectors_are_refused_too(call):
    with emulate(nn.Identity(), Policy.paper()), pytest.raises(NotImplementedError, match="no rule"):
        call(torch.ones(3), torch.ones(3))


def test_one_weight_used_twice_sums_two_fp32_gradients():
    torch.manual_seed(0)
    layer, x = nn.Linear(6, 6, bias=False), torch.randn(4, 6)
    with emulate(layer, Policy.paper()):
        h = layer(x)
        y = layer(h)
    dy = torch.randn_like(y)
    y.backward(dy)
    wq, dyq, hq, xq = (rounded64(t) for t in (layer.weight, dy, h, x))
    dh = rounded64((dyq @ wq).float())
    exact = dyq.t() @ hq + dh.t() @ xq
    assert torch.allclose(layer.weight.grad.double(), exact, rtol=1e-2, atol=1e-2)
    assert not is_bf16(layer.weight.grad)


@pytest.mark.parametrize("call", [F.linear, lambda x, w: x @ w.t()])
def test_differentiating_a_gradient_again_is_refused(call):
    layer, x = nn.Linear(4, 4), torch.randn(2, 4, requires_grad=True)
    with emulate(layer, Policy.paper()):
        y = call(x, layer.weight).sum()
    with pytest.raises(RuntimeError, match="create_graph"):
        torch.autograd.grad(y, x, create_graph=True)


def test_recomputed_activations_are_rounded_in_the_context():
    torch.manual_seed(0)
    layer = nn.Linear(8, 8)

    def contexts():
        return nullcontext(), emulate(layer, Policy.paper())

    gradients = []
    for recompute in (False, True):
        layer.zero_grad()
        x = torch.linspace(-1, 1, 16).view(2, 8).requires_grad_()
        with emulate(layer, Policy.paper()):
            y = checkpoint(layer, x, use_reentrant=False, context_fn=contexts) if recompute else layer(x)
        (y**2).sum().backward()
        gradients.append((x.grad, layer.weight.grad.clone()))
    assert torch.equal(gradients[0][0], gradients[1][0])
    assert torch.equal(gradients[0][1], gradients[1][1])


def test_inputs_and_master_weights_are_left_untouched():
    torch.manual_seed(0)
    layer, x = nn.Linear(8, 8), torch.randn(4, 8)
    before = layer.weight.detach().clone(), x.clone()
    with emulate(layer, Policy.paper()):
        layer(x).sum().backward()
    assert torch.equal(layer.weight, before[0])
    assert torch.equal(x, before[1])


def test_the_fp32_policy_changes_no_bit():
    torch.manual_seed(0)
    model, x = SmallResNet(), torch.randn(2, 3, 32, 32)
    with emulate(model, Policy.fp32()):
        inside = model(x)
    model.zero_grad()
    assert torch.equal(inside, model(x))


def test_a_shared_gradient_is_not_rounded_for_the_other_branch():
    # y = x + conv(x): the gradient of y reaches both branches as one tensor. Only the convolution rounds it.
    torch.manual_seed(0)
    conv, x = nn.Conv2d(4, 4, 1, bias=False), torch.randn(2, 4, 3, 3, requires_grad=True)
    with emulate(conv, Policy.paper()):
        y = x + conv(x)
    dy = torch.randn_like(y)
    kept = dy.clone()
    y.backward(dy)
    assert torch.equal(dy, kept)
    through_conv = x.grad - dy
    exact = F.conv_transpose2d(rounded64(dy), rounded64(conv.weight))
    assert torch.allclose(through_conv.double(), exact, rtol=2.0**-7, atol=1e-5)


def test_a_net_without_gradients_in_channels_last_is_rounded():
    torch.manual_seed(0)
    model = SmallResNet().eval().to(memory_format=torch.channels_last)
    x = torch.randn(2, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        exact = model(x)
        with emulate(model, Policy.paper()):
            rounded = model(x)
    assert 0 < float((rounded - exact).norm() / exact.norm()) < 0.05


def test_the_mode_ends_with_its_block_even_after_an_error():
    layer, x = nn.Linear(8, 8), torch.randn(2, 8)
    plain = layer(x)
    with pytest.raises(RuntimeError), emulate(layer, Policy.paper()):
        layer(torch.randn(2, 9))
    assert torch.equal(layer(x), plain)
