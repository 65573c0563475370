"""Working copies of weights, converters and their random bits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import leandnn.bf16.converters as converters
from leandnn.bf16 import Policy, Rounding, emulate
from leandnn.kernels import round_to

PAPER = Policy.paper()


def q(x: Tensor) -> Tensor:
    return round_to(x.detach(), "bf16")


@pytest.fixture
def rounded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of all tensors that are rounded, in order."""
    shapes: list[tuple[int, ...]] = []

    def counting(x: Tensor, *args: object, **kwargs: object) -> Tensor:
        shapes.append(tuple(x.shape))
        return round_to(x, *args, **kwargs)

    monkeypatch.setattr(converters, "round_to", counting)
    return shapes


# --- working copies ----------------------------------------------------------------------------------------


def test_a_weight_is_rounded_once_however_often_it_is_used(rounded):
    layer, x = nn.Linear(8, 8, bias=False), torch.randn(2, 8)
    with emulate(layer, Policy(weights="bf16")):
        y = layer(layer(x)) + x @ layer.weight.t() + F.linear(x, layer.weight[:, 2:4].repeat(1, 4))
    assert rounded == [(8, 8), (8, 8)], "the weight, and what was computed from a view of it"
    assert torch.isfinite(y).all()


@pytest.mark.parametrize(
    "view",
    [
        lambda w: w.t(),
        lambda w: w[1:3],
        lambda w: w.view(4, 4, 3)[:, 1],
        lambda w: w.chunk(3)[2][:, ::2],
        lambda w: w.unflatten(0, (3, 4))[1].mT,
    ],
)
def test_views_of_a_weight_are_views_of_its_working_copy(view):
    weight = nn.Parameter(torch.randn(12, 4))
    model = nn.ParameterList([weight])
    with emulate(model, Policy(weights="bf16")):
        used = view(weight)
        found = used @ torch.eye(used.shape[1])
    assert torch.equal(found, view(q(weight)))
    found.sum().backward()
    expected = torch.zeros(12, 4).requires_grad_()
    view(expected).sum().backward()
    assert torch.equal(weight.grad, expected.grad)


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.5),
    "sgd by lists": lambda p: torch.optim.SGD(p, lr=0.5, foreach=True),
    "fused sgd": lambda p: torch.optim.SGD(p, lr=0.5, fused=True),
    "fused adam": lambda p: torch.optim.Adam(p, lr=0.5, fused=True),
    "fused adamw": lambda p: torch.optim.AdamW(p, lr=0.5, fused=True),
}
CHANGES = {
    "in place": lambda layer: layer.weight.detach().mul_(2),
    "through data": lambda layer: layer.weight.data.mul_(2),
    "other data": lambda layer: setattr(layer.weight, "data", layer.weight.detach() * 2),
    "a state dict": lambda layer: layer.load_state_dict({"weight": torch.ones(4, 4), "bias": torch.ones(4)}),
    "another parameter": lambda layer: setattr(layer, "weight", nn.Parameter(torch.ones(4, 4))),
    "round_to": lambda layer: round_to(layer.weight, (4, 1), out=layer.weight),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_weight_that_the_optimizer_changes_is_rounded_anew(name: str):
    layer, x = nn.Linear(4, 4), torch.randn(2, 4)
    optimizer = OPTIMIZERS[name](layer.parameters())
    with emulate(layer, PAPER):
        layer(x).sum().backward()
        optimizer.step()
        found = layer(x)
    assert torch.equal(found, q(F.linear(q(x), q(layer.weight), layer.bias)))


@pytest.mark.parametrize("name", CHANGES)
def test_a_weight_that_anything_else_changes_is_rounded_anew(name: str):
    layer, x = nn.Linear(4, 4), torch.randn(2, 4)
    with torch.no_grad(), emulate(layer, PAPER):
        before = layer(x)
        CHANGES[name](layer)
        found = layer(x)
    assert torch.equal(found, q(F.linear(q(x), q(layer.weight), layer.bias.detach())))
    assert not torch.equal(found, before)


def test_a_weight_with_gaps_in_memory_is_rounded_too():
    wide = torch.randn(6, 8)
    layer = nn.Linear(4, 6, bias=False)
    layer.weight = nn.Parameter(wide[:, ::2])
    x = torch.randn(3, 4)
    with emulate(layer, Policy(weights="bf16")):
        assert torch.equal(layer(x), F.linear(x, q(layer.weight)))
        assert torch.equal(x @ layer.weight.t(), x @ q(layer.weight).t())


def test_inference_mode_and_parameters_made_in_it():
    plain = nn.Linear(4, 4)
    x = torch.randn(2, 4)
    with torch.inference_mode():
        made = nn.Linear(4, 4)
        for layer in (plain, made):
            with emulate(layer, PAPER):
                assert torch.equal(layer(x), q(F.linear(q(x), q(layer.weight), layer.bias)))
                assert torch.equal(x @ layer.weight.t(), q(q(x) @ q(layer.weight).t()))


# --- layouts -----------------------------------------------------------------------------------------------

LAYOUTS = {
    "dense": lambda x: x,
    "transposed": lambda x: x.transpose(1, 2),
    "reversed": lambda x: x.permute(3, 2, 1, 0),
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "with gaps": lambda x: x[:, ::2],
    "expanded": lambda x: x[:, :1].expand(-1, 5, -1, -1),
    "one number": lambda x: x[:1, :1, :1, :1],
    "empty": lambda x: x[:0],
}


@pytest.mark.parametrize("mode", ["nearest_even", "toward_zero"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_a_converter_rounds_any_layout_and_keeps_it(name: str, mode: str):
    x = LAYOUTS[name](torch.randn(2, 3, 4, 5))
    expected = round_to(x.contiguous(), "bf16", mode)
    convert = converters.deterministic(Rounding("bf16", mode))
    assert torch.equal(convert(x), expected)
    if name not in ("with gaps", "expanded"):
        assert convert(x).stride() == x.stride()
    if name != "expanded":
        own = x.clone()
        assert convert(own, own) is own
        assert torch.equal(own, expected)
        assert own.stride() == x.clone().stride()


def test_rounding_in_place_is_seen_by_autograd():
    x = torch.randn(3, 4).t()
    version = x._version
    converters.deterministic(Rounding("bf16"))(x, x)
    assert x._version > version


# --- random bits -------------------------------------------------------------------------------------------


def step(policy: Policy, number: int) -> list[Tensor]:
    """Result and gradients of one step of a small net, always from the same numbers."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
    x, dy = torch.randn(3, 6, requires_grad=True), torch.randn(3, 4)
    with emulate(net, policy, step=number):
        y = net(x)
    y.backward(dy)
    return [y.detach(), x.grad, *(p.grad for p in net.parameters())]


def equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(s, t) for s, t in zip(a, b, strict=True))


def test_random_bits_are_a_function_of_seed_and_step_alone():
    state = torch.get_rng_state()
    first = step(Policy.stochastic(seed=7), 3)
    torch.manual_seed(99)
    assert equal(step(Policy.stochastic(seed=7), 3), first)
    assert not equal(step(Policy.stochastic(seed=7), 4), first)
    assert not equal(step(Policy.stochastic(seed=8), 3), first)
    torch.set_rng_state(state)


def test_emulation_draws_nothing_from_torchs_generator():
    layer, x = nn.Linear(4, 4), torch.randn(2, 4)
    state = torch.get_rng_state()
    with emulate(layer, Policy.stochastic()):
        layer(x).sum().backward()
    assert torch.equal(torch.get_rng_state(), state)


def test_every_rounding_of_a_step_draws_bits_of_its_own():
    # Each of these starts from the same number between two BF16 values. Equal bits would give equal results.
    x = torch.full((64, 64), 1 + 2**-9)
    eye = torch.eye(64)
    calls = {
        "activations_in": lambda: x @ eye,
        "weights": lambda: F.linear(eye, x).t(),
        "activations_out": lambda: x @ eye,
    }
    for role, call in calls.items():
        with emulate(nn.Identity(), Policy(**{role: "bf16"}, mode="stochastic")):
            found = [call() for _ in range(4)]
        for i, a in enumerate(found):
            assert set(a.unique().tolist()) == {1.0, 1 + 2.0**-7}
            for b in found[i + 1 :]:
                assert 0.3 < float((a != b).float().mean()) < 0.45, (
                    "independent bits with P(up) = 1/4 differ in 3/8"
                )


def test_stochastic_products_are_right_on_average():
    layer = nn.Linear(8, 4, bias=False)
    x = torch.randn(3, 8)
    exact = F.linear(x, layer.weight).detach()
    with torch.no_grad():
        sums = torch.zeros_like(exact)
        for i in range(400):
            with emulate(layer, Policy.stochastic(), step=i):
                sums += layer(x)
    mean_error = (sums / 400 - exact).abs().max()
    assert float(mean_error) < 8 * 2**-8 * float(exact.abs().max()) / 400**0.5
    with torch.no_grad(), emulate(layer, PAPER):
        assert float((layer(x) - exact).abs().max()) > float(mean_error)
