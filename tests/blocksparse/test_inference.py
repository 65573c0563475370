"""Folded nets compute what the nets in eval mode do, with fewer layers, and leave them as they were."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from leandnn.blocksparse import BlockSparseConv2d, BlockSparseLinear, Pattern, convert
from leandnn.blocksparse.inference import Folded, fold
from leandnn.models.vgg import VGG19
from leandnn.models.wide_resnet import WideResNet


def block(rows: int, columns: int) -> Pattern:
    return Pattern.random_blocks(rows, columns, (4, 4), 0.5, torch.Generator().manual_seed(0))


def lively(model: nn.Module) -> nn.Module:
    """Norms with statistics and affine parameters that are not their initial ones; eval mode."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in ((module.running_mean, -0.5), (module.running_var, 0.5)):
                assert tensor is not None
                tensor.copy_(low + torch.rand(tensor.shape, generator=generator))
            if module.affine:
                with torch.no_grad():
                    module.weight.copy_(torch.rand(module.weight.shape, generator=generator) - 0.3)
                    module.bias.copy_(torch.rand(module.bias.shape, generator=generator) - 0.5)
    return model.eval()


def kinds(model: nn.Module) -> list[str]:
    return [type(m).__name__ for m in model.modules()]


def vgg() -> nn.Module:
    return VGG19(((8, 2), (16, 1)))


def wide() -> nn.Module:
    return WideResNet(10, 1)


@pytest.mark.parametrize("make", [vgg, wide])
def test_whole_nets_keep_their_function(make):
    def rule(name: str, module: nn.Module) -> Pattern | None:
        fits = isinstance(module, nn.Conv2d) and module.in_channels % 4 == 0
        return block(module.out_channels, module.weight[0].numel()) if fits else None

    model = lively(convert(make(), rule))
    before = copy.deepcopy(model.state_dict())
    folded = fold(model)
    x = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(folded(x), model(x), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model.training and not folded.training
    assert "Folded" in kinds(folded)
    if make is vgg:
        assert "BatchNorm2d" not in kinds(folded)
        assert kinds(folded).count("ReLU") == 1, "that of the dense first convolution alone"


def test_norms_without_affine_and_layers_with_bias():
    convolution = BlockSparseConv2d(block(8, 36), 4, 3, stride=2, padding=1, dilation=1)
    model = lively(nn.Sequential(convolution, nn.BatchNorm2d(8, affine=False), nn.ReLU()))
    folded = fold(model)
    x = torch.randn(2, 4, 9, 9)
    torch.testing.assert_close(folded(x), model(x), rtol=1e-4, atol=1e-5)
    assert [m.relu for m in folded.modules() if isinstance(m, Folded)] == [True]
    assert len(list(folded.parameters())) == 0


def test_bfloat16_values_stay_bfloat16():
    model = lively(
        nn.Sequential(BlockSparseConv2d(block(8, 36), 4, 3), nn.BatchNorm2d(8), nn.ReLU())
    ).bfloat16()
    x = torch.randn(2, 4, 6, 6).bfloat16()
    found = fold(model)(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), model(x).float(), rtol=0.05, atol=0.05)


class Functions(nn.Module):
    """A ReLU as function and as method, a sparse linear layer, an output that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = BlockSparseLinear(block(8, 8)), BlockSparseLinear(block(8, 8))
        self.twice = BlockSparseLinear(block(8, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.second(F.relu(self.first(x))).relu()
        z = self.twice(y)
        return F.relu(z) + z


def test_relu_functions_are_folded_unless_their_input_is_needed():
    model = Functions().eval()
    folded = fold(model)
    x = torch.randn(5, 8)
    torch.testing.assert_close(folded(x), model(x))
    assert {name: m.relu for name, m in folded.named_modules() if isinstance(m, Folded)} == {
        "first": True,
        "second": True,
    }
    assert isinstance(folded.twice, BlockSparseLinear)


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.a, self.b = BlockSparseConv2d(block(8, 8), 8, 1), nn.BatchNorm2d(8), nn.BatchNorm2d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.conv(self.a(self.conv(x))))


def test_a_layer_with_two_norms_is_left_alone():
    model = lively(Shared())
    folded = fold(model)
    x = torch.randn(2, 8, 3, 3)
    torch.testing.assert_close(folded(x), model(x))
    assert "Folded" not in kinds(folded)


def test_a_norm_without_statistics_stays():
    model = nn.Sequential(
        BlockSparseConv2d(block(8, 36), 4, 3), nn.BatchNorm2d(8, track_running_stats=False)
    ).eval()
    x = torch.randn(2, 4, 6, 6)
    torch.testing.assert_close(fold(model)(x), model(x))


def test_training_mode_is_refused():
    with pytest.raises(ValueError, match="in training mode, expected eval mode"):
        fold(nn.Sequential(BlockSparseLinear(block(8, 8))))
