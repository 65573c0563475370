"""The recipes' hooks: Lookahead by hand, parameters that stop, and both resumed to equal bits."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from leandnn.errors import LeandnnError
from leandnn.train.hooks import Freeze, Lookahead


def small() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def disturb(model: nn.Module) -> None:
    """Stands for an update: every number of the model moves."""
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point():
                tensor.add_(torch.randn_like(tensor))


def test_lookahead_by_hand():
    model, optimizer = small()
    hook = Lookahead(every=2, decay=0.9)
    hook.attach(model, optimizer)
    slow = {name: t.clone() for name, t in model.state_dict().items() if t.is_floating_point()}
    for update in range(6):
        disturb(model)
        before = {name: t.clone() for name, t in model.state_dict().items()}
        hook.after_update(update / 6)
        now = model.state_dict()
        if update % 2 == 1:
            kept = 0.9**2 * (update / 6) ** 3
            slow = {name: kept * t + (1 - kept) * before[name] for name, t in slow.items()}
        for name, t in slow.items():
            torch.testing.assert_close(now[name], t if update % 2 == 1 else before[name])


def test_an_epochs_end_exchanges_the_rest_and_loses_no_update():
    model, optimizer = small()
    hook = Lookahead(every=5, decay=0.9)
    hook.attach(model, optimizer)
    slow = model[0].weight.detach().clone()
    for update in range(3):
        disturb(model)
        hook.after_update((update + 1) / 4)
    trained = model[0].weight.detach().clone()
    hook.epoch_trained()
    kept = 0.9**3 * 0.75**3
    expected = kept * slow + (1 - kept) * trained
    torch.testing.assert_close(model[0].weight.detach(), expected)
    exchanged = model[0].weight.detach().clone()
    hook.epoch_trained()
    assert torch.equal(model[0].weight, exchanged)


def test_what_is_pruned_leaves_the_slow_weights_at_once():
    model, optimizer = small()
    hook = Lookahead(every=1)
    hook.attach(model, optimizer)
    with torch.no_grad():
        model[0].weight[0] = 0.0
    hook.after_update(0.9)
    assert not model[0].weight[0].any() and model[0].weight[1:].all()
    hook.epoch_trained()
    assert not model[0].weight[0].any()


def test_lookahead_leaves_alone_what_does_not_train():
    model, optimizer = small()
    model[0].bias.requires_grad_(False)
    hook = Lookahead(every=1)
    hook.attach(model, optimizer)
    disturb(model)
    moved = model[0].bias.clone()
    hook.after_update(0.9)
    assert torch.equal(model[0].bias, moved)


def test_a_frozen_parameter_stops_in_the_update_of_its_share():
    model, optimizer = small()
    hook = Freeze("0.b*", 0.5)
    hook.attach(model, optimizer)
    values = []
    for update in range(4):
        model(torch.randn(8, 3)).pow(2).sum().backward()
        hook.before_update(update / 4)
        optimizer.step()
        optimizer.zero_grad()
        values.append(model[0].bias.clone())
    assert not torch.equal(values[0], values[1])
    assert torch.equal(values[1], values[2]) and torch.equal(values[2], values[3])
    assert not model[0].bias.requires_grad and model[0].weight.requires_grad


def test_what_cannot_be_is_told_in_a_sentence():
    model, optimizer = small()
    with pytest.raises(LeandnnError, match="^Lookahead has every 0 and decay 0.95, expected 1 or more and"):
        Lookahead(every=0)
    with pytest.raises(LeandnnError, match="every 5 and decay 1, expected 1 or more and 0 ≤ decay < 1$"):
        Lookahead(decay=1)
    with pytest.raises(
        LeandnnError, match=r"^whiten.bias stops after 1.5 of training, expected a share in \[0, 1\]$"
    ):
        Freeze("whiten.bias", 1.5)
    with pytest.raises(
        LeandnnError,
        match="^'whiten.bias' should stop training, but the trained parameters are 0.weight, 0.bias, 1.weight, 1.bias$",
    ):
        Freeze("whiten.bias", 0.5).attach(model, optimizer)
