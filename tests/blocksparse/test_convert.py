"""Conversion of models: which layers are replaced, that they keep their function, and what is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from leandnn.blocksparse import BlockSparseConv2d, BlockSparseLinear, Pattern, convert, to_dense
from leandnn.models.vision import SmallResNet


def halves(rows: int, columns: int) -> Pattern:
    """Every other column."""
    mask = torch.zeros(rows, columns, dtype=torch.bool)
    mask[:, ::2] = True
    return Pattern.unstructured(mask)


def rule(name: str, module: nn.Module) -> Pattern | None:
    """Every linear layer and convolution but the first."""
    if not isinstance(module, nn.Linear | nn.Conv2d) or name == "conv":
        return None
    return halves(module.weight.shape[0], module.weight[0].numel())


def masked(model: nn.Module) -> nn.Module:
    """A copy whose weights are zero outside the patterns of the rule."""
    model = copy.deepcopy(model)
    for name, module in model.named_modules():
        if (pattern := rule(name, module)) is not None:
            module.weight.data *= pattern.mask().reshape(module.weight.shape)
    return model


def test_a_residual_net_keeps_its_function_and_comes_back():
    torch.manual_seed(0)
    model = SmallResNet(widths=(16, 32)).eval()
    exact, x = masked(model), torch.randn(2, 3, 32, 32)
    state = torch.get_rng_state()
    converted = convert(model, rule)
    assert converted is model
    assert torch.equal(torch.get_rng_state(), state)
    kinds = {type(m) for m in model.modules()}
    assert {BlockSparseLinear, BlockSparseConv2d} < kinds and nn.Linear not in kinds
    assert type(model.conv) is nn.Conv2d
    torch.testing.assert_close(model(x), exact(x), rtol=1e-4, atol=1e-5)
    assert not any(m.training for m in model.modules())
    assert to_dense(model) is model
    assert torch.equal(torch.get_rng_state(), state)
    assert model.state_dict().keys() == exact.state_dict().keys()
    for name, tensor in exact.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)


def test_a_dict_of_patterns_names_the_layers():
    model = nn.Sequential(nn.Linear(8, 4), nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)}))
    convert(model, {"0": halves(4, 8), "1.b": halves(4, 4)})
    assert type(model[0]) is BlockSparseLinear
    assert [type(m) for m in model[1].values()] == [nn.Linear, BlockSparseLinear]


def test_a_model_that_is_one_layer_is_returned_converted():
    layer = convert(nn.Linear(8, 4), rule)
    assert type(layer) is BlockSparseLinear
    assert type(to_dense(layer)) is nn.Linear


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.again = self.first
        self.list = nn.ModuleList([self.first, nn.Linear(8, 8)])

    def forward(self, x: Tensor) -> Tensor:
        return self.list[1](self.again(self.first(x)))


def test_a_shared_layer_is_converted_once_and_stays_shared():
    torch.manual_seed(0)
    for chosen in (rule, {"again": halves(8, 8)}, {"first": halves(8, 8), "list.0": halves(8, 8)}):
        model = Shared()
        exact, x = copy.deepcopy(model), torch.randn(3, 8)
        exact.first.weight.data *= halves(8, 8).mask()
        if chosen is rule:
            exact.list[1].weight.data *= halves(8, 8).mask()
        convert(model, chosen)
        assert type(model.first) is BlockSparseLinear
        assert model.again is model.first and model.list[0] is model.first
        torch.testing.assert_close(model(x), exact(x))
        to_dense(model)
        assert type(model.first) is nn.Linear
        assert model.again is model.first and model.list[0] is model.first


def test_a_shared_layer_takes_one_pattern():
    with pytest.raises(ValueError, match="first and again are one layer, with two patterns"):
        convert(Shared(), {"first": halves(8, 8), "again": Pattern.unstructured(halves(8, 8).mask().t())})


def test_a_rule_is_asked_once_for_each_module():
    asked = []
    convert(Shared(), lambda name, module: asked.append(name))
    assert asked == ["", "first", "list", "list.1"]


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(8, 8), nn.Linear(8, 8)
        self.head.weight = self.table.weight


def hooked() -> nn.Module:
    layer = nn.Linear(8, 8)
    layer.register_forward_hook(lambda *_: None)
    return nn.Sequential(layer)


@pytest.mark.parametrize(
    ("model", "name", "message"),
    [
        (nn.Sequential(nn.Linear(8, 8)), "1", "the model has no 1; near 1: 0"),
        (nn.Sequential(nn.Linear(9, 8)), "0", r"cannot convert 0: the weight has shape \(8, 9\), .* 8×8"),
        (nn.Sequential(nn.Conv2d(2, 8, 2, groups=2)), "0", "cannot convert 0: the convolution has 2 groups"),
        (nn.Sequential(nn.Conv1d(2, 8, 4)), "0", "it is a Conv1d, expected Linear or Conv2d"),
        (nn.Sequential(nn.Linear(8, 8)), "", "cannot convert the model: it is a Sequential"),
        (nn.Sequential(nn.MultiheadAttention(8, 2)), "0.out_proj", "NonDynamicallyQuantizableLinear"),
        (Tied(), "head", "cannot convert head: its parameters are tied to those of table"),
        (hooked(), "0", "it has hooks"),
        (nn.Sequential(nn.Linear(8, 8).half()), "0", "cannot convert 0: .*torch.float16"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_cannot_be_converted_is_named_and_unchanged(model: nn.Module, name: str, message: str):
    kinds = [type(m) for m in model.modules()]
    with pytest.raises(ValueError, match=message):
        convert(model, {name: halves(8, 8)})
    assert [type(m) for m in model.modules()] == kinds


def test_a_layer_is_left_alone_where_a_later_one_is_refused():
    model = nn.Sequential(nn.Linear(8, 8), nn.Conv1d(2, 8, 4))
    with pytest.raises(ValueError, match="Conv1d"):
        convert(model, {"0": halves(8, 8), "1": halves(8, 8)})
    assert type(model[0]) is nn.Linear
