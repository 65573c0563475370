"""AlexNet's form is kept: what is pooled, what is dropped, and what a gradient reaches."""

from __future__ import annotations

import torch
from torch import nn

from leandnn.models.alexnet import SmallAlexNet


def test_it_has_alexnets_form():
    model = SmallAlexNet()
    assert sum(p.numel() for p in model.parameters()) == 452_794  # as its docstring says
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert [m.kernel_size[0] for m in convolutions] == [5, 5, 3, 3, 3]
    assert len([m for m in model.modules() if isinstance(m, nn.Linear)]) == 3
    kinds = [type(m) for m in model.features]
    pooled = [i for i, kind in enumerate(kinds) if kind is nn.MaxPool2d]
    behind = [kinds[: i + 1].count(nn.Conv2d) for i in pooled]
    assert behind == [1, 2, 5]
    assert all(m.kernel_size > m.stride for m in model.features if isinstance(m, nn.MaxPool2d))
    sides = [32]
    x = torch.randn(2, 3, 32, 32)
    for module in model.features:
        x = module(x)
        if isinstance(module, nn.MaxPool2d):
            sides.append(x.shape[-1])
    assert sides == [32, 16, 8, 4]


def test_dropout_depends_on_the_seed_and_ends_in_evaluation():
    torch.manual_seed(0)
    model = SmallAlexNet(classes=7)
    x = torch.randn(4, 3, 32, 32)

    def seeded(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return model(x).detach()

    assert seeded(1).shape == (4, 7)
    assert torch.equal(seeded(1), seeded(1))
    assert not torch.equal(seeded(1), seeded(2))
    model.eval()
    assert torch.equal(seeded(1), seeded(2))


def test_signals_neither_vanish_nor_explode_at_the_start():
    torch.manual_seed(0)
    model = SmallAlexNet(dropout=0.0)
    logits = model(torch.randn(64, 3, 32, 32))
    assert 0.3 < float(logits.detach().std()) < 10.0
    logits.square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert float(parameter.grad.norm()) > 1e-3, name
