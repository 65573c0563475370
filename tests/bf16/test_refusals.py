"""What emulation refuses, what it exempts, and that it leaves nothing behind."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leandnn.bf16 import Policy, emulate
from leandnn.errors import LeandnnError
from leandnn.kernels import round_to

PAPER = Policy.paper()


def is_bf16(x: Tensor) -> bool:
    return torch.equal(x, round_to(x.detach(), "bf16"))


@pytest.mark.parametrize(
    "call",
    [
        lambda x, w: F.linear(x.double(), w.double()),
        lambda x, w: x.half() @ w.t().half(),
        lambda x, w: F.conv1d(x[None].bfloat16(), w[:, :, None].bfloat16()),
        lambda x, w: torch.mm(x.to(torch.complex64), w.t().to(torch.complex64)),
        lambda x, w: F.embedding(torch.tensor([0]), w.double()),
    ],
)
def test_other_dtypes_are_refused_with_both_named(call):
    x, w = torch.randn(4, 4), torch.randn(4, 4)
    with (
        emulate(nn.Identity(), PAPER),
        pytest.raises(ValueError, match=r"torch\.(\w+), expected torch.float32"),
    ):
        call(x, w)


@pytest.mark.parametrize("call", [F.linear, lambda x, w: x @ w])
def test_autocast_inside_is_refused(call):
    with (
        emulate(nn.Identity(), PAPER),
        torch.autocast("cpu", torch.bfloat16),
        pytest.raises(ValueError, match="autocast"),
    ):
        call(torch.randn(4, 4), torch.randn(4, 4))


@pytest.mark.parametrize(
    "call",
    [
        lambda a: torch.ops.aten.mm(a, a),
        lambda a: torch.ops.aten.mm.default(a, a),
        lambda a: torch.ops.aten.linear.default(a, a),
        lambda a: a.addmm_(a, a),
        lambda a: F.bilinear(a, a, torch.ones(1, 2, 2)),
        lambda a: torch.tensordot(a, a),
        lambda a: torch.linalg.multi_dot([a, a]),
        lambda a: torch.cdist(a, a),
    ],
)
def test_products_without_a_rule_are_refused(call):
    with emulate(nn.Identity(), PAPER), pytest.raises(NotImplementedError, match="no rule"):
        call(torch.ones(2, 2))


def test_what_is_missing_is_said_by_torch():
    with emulate(nn.Identity(), PAPER):
        for call in (F.linear, torch.matmul, F.embedding, F.embedding_bag):
            with pytest.raises(TypeError, match=r"missing|required"):
                call(torch.ones(2, 2))


def test_a_nested_emulation_is_refused_and_the_outer_one_goes_on():
    layer, x = nn.Linear(4, 4), torch.randn(2, 4)
    with emulate(layer, PAPER):
        for policy in (PAPER, Policy.fp32()):
            with pytest.raises(LeandnnError, match="inside another"), emulate(layer, policy):
                pass
        assert is_bf16(layer(x))
    with (
        emulate(layer, Policy.fp32()),
        pytest.raises(LeandnnError, match="inside another"),
        emulate(layer, PAPER),
    ):
        pass
    assert not is_bf16(layer(x))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
        self.head = nn.Linear(6, 3)
        self.scores = Scores()

    def forward(self, x: Tensor) -> Tensor:
        return self.scores(self.head(self.body(x)))


class Scores(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x @ x.t()


def roles(model: Net, policy: Policy, x: Tensor) -> dict[str, bool]:
    """Whether each layer's result came out rounded."""
    rounded = {}
    names = {"body.0": model.body[0], "body.1": model.body[1], "head": model.head, "scores": model.scores}
    handles = [
        module.register_forward_hook(lambda m, a, y, name=name: rounded.update({name: is_bf16(y)}))
        for name, module in names.items()
    ]
    with emulate(model, policy):
        model(x)
    for handle in handles:
        handle.remove()
    return rounded


@pytest.mark.parametrize(
    "exempt, fp32",
    [
        ((), set()),
        (("head",), {"head"}),
        (("body",), {"body.0", "body.1"}),
        (("body.*", "scores"), {"body.0", "body.1", "scores"}),
    ],
)
def test_exempt_modules_stay_fp32_with_all_below_them(exempt, fp32):
    found = roles(Net(), Policy(weights="bf16", activations_out="bf16", exempt=exempt), torch.randn(4, 6))
    assert {name for name, rounded in found.items() if not rounded} == fp32


def test_an_exempt_modules_weight_is_exempt_in_functional_calls():
    model, x = Net(), torch.randn(4, 6)
    head, body = model.head.weight, model.body[0].weight

    def calls() -> list[Tensor]:
        return [F.linear(x, head), x @ head.t(), F.linear(x, body)]

    plain = calls()
    with emulate(model, Policy(weights="bf16", exempt=("head",))):
        found = calls()
    assert [torch.equal(a, b) for a, b in zip(found, plain, strict=True)] == [True, True, False]


def test_an_exempt_name_of_no_module_is_refused_with_the_names():
    words = r"'fc' does not exist, the model has: body, body.0"
    with pytest.raises(ValueError, match=words), emulate(Net(), Policy(weights="bf16", exempt=("fc",))):
        pass
    with emulate(nn.Identity(), PAPER):
        pass  # the failed one has left nothing behind


def test_the_model_comes_out_untouched_of_an_exception():
    model, x = Net(), torch.randn(4, 6)
    plain = model(x)
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    state = {k: v.clone() for k, v in model.state_dict().items()}
    policy = Policy(weights="bf16", activations_out="bf16", exempt=("head",))
    with pytest.raises(RuntimeError), emulate(model, policy):
        model.head(torch.randn(4, 7))
    assert torch.equal(model(x), plain)
    assert hooks == [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    assert roles(model, policy, x) == {"body.0": True, "body.1": True, "head": False, "scores": True}
