"""One layer's whole step, rebuilt by hand in float64 and compared bit for bit.

The operands are chosen so that FP32 sums are exact in any order: rounded to p significant bits they are
integers of [2^(p-1), 2^p) times a power of two, and K products of two of them fit into 24 bits. So the float64
products, rounded once, are what the emulation must give to the last bit; nothing is left to a tolerance.
"""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leandnn.bf16 import Policy, emulate
from leandnn.kernels import round_to

BITS = {"bf16": 8, "fp16": 11}
POLICIES = {
    "paper": (Policy.paper(), "bf16", "nearest_even"),
    "truncate": (Policy.truncate(), "bf16", "toward_zero"),
    "fp16": (Policy.fp16(), "fp16", "nearest_even"),
}


def operand(shape: tuple[int, ...], fmt: str, scale: float) -> Tensor:
    """Numbers with more bits than the format has, whose roundings' products are summed exactly."""
    least = 2 ** (BITS[fmt] - 1)
    numbers = torch.rand(shape) * (least - 2) + least  # rounding up does not leave the binade
    return numbers * (torch.randint(2, shape) * 2 - 1) * scale


def by_hand(x: Tensor, fmt: str, mode: str) -> Tensor:
    """Rounded to p significant bits in float64, by the definition."""
    mantissa, exponent = torch.frexp(x.detach().double())
    steps = mantissa * 2 ** BITS[fmt]
    steps = torch.round(steps) if mode == "nearest_even" else torch.trunc(steps)  # torch.round: ties to even
    return torch.ldexp(steps / 2 ** BITS[fmt], exponent)


LAYERS = {
    "linear": (lambda: nn.Linear(4, 3), (4, 4)),
    "linear on sequences": (lambda: nn.Linear(4, 3), (2, 2, 4)),
    "conv1d": (lambda: nn.Conv1d(2, 2, 2), (1, 2, 4)),
    "conv2d": (lambda: nn.Conv2d(1, 2, 2, bias=False), (1, 1, 3, 3)),
    "conv_transpose2d": (lambda: nn.ConvTranspose2d(1, 2, 2, stride=2, bias=False), (1, 1, 2, 2)),
}


@pytest.mark.parametrize("policy_name", POLICIES)
@pytest.mark.parametrize("name", LAYERS)
def test_a_layers_step_is_bit_equal_to_float64_by_hand(name: str, policy_name: str):
    policy, fmt, mode = POLICIES[policy_name]
    make, shape = LAYERS[name]
    layer = make()
    lr = 2.0**-8
    with torch.no_grad():
        layer.weight.copy_(operand(layer.weight.shape, fmt, 2.0**-10))
        if layer.bias is not None:
            layer.bias.copy_(torch.randint(-64, 64, layer.bias.shape) / 16.0)
    x = operand(shape, fmt, 2.0**-8).requires_grad_()
    start, exact = layer.weight.detach().clone(), copy.deepcopy(layer).double()
    with emulate(layer, policy):
        y = layer(x)
    dy = operand(y.shape, fmt, 2.0**-12)
    y.backward(dy)
    torch.optim.SGD(layer.parameters(), lr=lr).step()

    exact.weight.data = by_hand(start, fmt, mode)
    x64 = by_hand(x, fmt, mode).requires_grad_()
    y64 = exact(x64)
    y64.backward(by_hand(dy, fmt, mode))

    assert torch.equal(y.double(), by_hand(y64, fmt, mode))
    assert torch.equal(x.grad.double(), by_hand(x64.grad, fmt, mode))
    assert torch.equal(layer.weight.grad.double(), exact.weight.grad), "the weight gradient stays FP32"
    if layer.bias is not None:
        assert torch.equal(layer.bias.grad.double(), exact.bias.grad), "so does the bias's"
    assert torch.equal(layer.weight, start - lr * exact.weight.grad.float()), "and so does the update"


@pytest.mark.parametrize("policy_name", POLICIES)
def test_a_product_of_two_activations_is_bit_equal_too(policy_name: str):
    policy, fmt, mode = POLICIES[policy_name]
    a = operand((2, 3, 4), fmt, 2.0**-8).requires_grad_()
    b = operand((2, 4, 4), fmt, 2.0**-9).requires_grad_()
    with emulate(nn.Identity(), policy):
        y = torch.matmul(a, b.transpose(1, 2))
    dy = operand(y.shape, fmt, 2.0**-11)
    y.backward(dy)
    a64, b64, dy64 = (by_hand(t, fmt, mode) for t in (a, b, dy))
    assert torch.equal(y.double(), by_hand(a64 @ b64.mT, fmt, mode))
    assert torch.equal(a.grad.double(), by_hand(dy64 @ b64, fmt, mode))
    assert torch.equal(b.grad.double(), by_hand(dy64.mT @ a64, fmt, mode))


def test_the_operands_make_sums_exact_and_rounding_real():
    x = operand((1000,), "bf16", 1.0)
    assert not torch.equal(x, round_to(x, "bf16"))
    assert torch.equal(by_hand(x, "bf16", "nearest_even").float(), round_to(x, "bf16"))
    assert torch.equal(by_hand(x, "bf16", "toward_zero").float(), round_to(x, "bf16", "toward_zero"))


def test_one_layer_hands_rounded_numbers_to_the_next():
    policy, fmt, mode = POLICIES["paper"]
    w1, w2 = (operand(s, fmt, 2.0**-8) for s in ((3, 4), (2, 3)))
    x = operand((2, 4), fmt, 2.0**-8)
    with emulate(nn.Identity(), policy):
        y = F.linear(F.linear(x, w1), w2)
    hidden = by_hand(by_hand(x, fmt, mode) @ by_hand(w1, fmt, mode).t(), fmt, mode)
    assert torch.equal(y.double(), by_hand(hidden @ by_hand(w2, fmt, mode).t(), fmt, mode))
