"""Multiply-adds, counted against counts by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from leandnn.models import macs


def by_name(model: nn.Module, shape: tuple[int, ...]) -> dict[str, int]:
    return {f"{layer.name}:{layer.weight}": layer.macs for layer in macs.count(model, shape)}


def test_a_convolution_costs_kernel_times_places():
    model = nn.Sequential(nn.Conv2d(6, 8, (3, 5), stride=2, padding=1, groups=2, bias=True))
    places = 5 * 4  # of a 9 × 9 image: (9 + 2 - 3) // 2 + 1 and (9 + 2 - 5) // 2 + 1
    assert by_name(model, (6, 9, 9)) == {"0:weight": 8 * 3 * 3 * 5 * places}


def test_a_linear_layer_costs_its_weight_per_row():
    model = nn.Sequential(nn.Linear(7, 11), nn.ReLU(), nn.BatchNorm1d(5), nn.Linear(11, 3))
    assert by_name(model, (5, 7)) == {"0:weight": 5 * 77, "3:weight": 5 * 33}


def test_attention_costs_its_projections_and_both_products():
    model = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(16, 4, dim_feedforward=40, batch_first=True), 2, enable_nested_tensor=False
    )
    tokens = 10
    expected = {}
    for i in range(2):
        expected |= {
            f"layers.{i}.self_attn:in_proj_weight": tokens * 3 * 16 * 16,
            f"layers.{i}.self_attn:out_proj.weight": tokens * 16 * 16,
            f"layers.{i}.self_attn:None": 2 * tokens * tokens * 16,
            f"layers.{i}.linear1:weight": tokens * 16 * 40,
            f"layers.{i}.linear2:weight": tokens * 16 * 40,
        }
    assert by_name(model, (tokens, 16)) == expected


def test_a_module_used_twice_counts_twice():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            y = self.layer(self.layer(x))
            return y @ y.transpose(1, 2)

    assert by_name(Twice(), (4, 8)) == {":None": 4 * 4 * 8, "layer:weight": 2 * 4 * 64}


def test_density_is_that_of_the_weight_in_use():
    class Half(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return weight * (torch.arange(weight.numel(), device=weight.device).view_as(weight) % 2)

    model = nn.Sequential(nn.Linear(4, 4, bias=False))
    with torch.no_grad():
        model[0].weight.fill_(1.0)
    (dense,) = macs.count(model, (4,))
    parametrize.register_parametrization(model[0], "weight", Half())
    (half,) = macs.count(model, (4,))
    assert (dense.density, half.density) == (1.0, 0.5)
    assert dense.macs == half.macs == 16
    assert macs.forward_macs([half], {"0": half.density}) == 8
    assert macs.training_macs([half], examples=5) == 3 * 5 * 16


def test_counting_leaves_the_model_alone():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    macs.count(model, (3, 8, 8))
    assert model.training
    assert all(p.device.type == "cpu" for p in model.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_an_input_that_does_not_fit_is_refused_with_its_shape():
    with pytest.raises(ValueError, match=r"input of shape \(5,\)"):
        macs.count(nn.Linear(4, 4), (5,))
