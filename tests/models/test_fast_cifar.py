"""The fast CIFAR net: its sizes by hand, what its first layer whitens, how it starts."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from leandnn.models import macs
from leandnn.models.fast_cifar import FastCifar, he_start, whitening


def net(widths: tuple[int, int, int] = (64, 128, 128), classes: int = 10) -> FastCifar:
    torch.manual_seed(0)
    return FastCifar(whitening(torch.randn(50, 3, 32, 32)), widths, classes)


def test_parameters_places_and_multiply_adds_by_hand():
    model = net()
    pairs = [(24, 64), (64, 64), (64, 128), (128, 128), (128, 128), (128, 128)]
    convolutions = [m for m in model.groups.modules() if isinstance(m, nn.Conv2d)]
    assert [m.weight.shape for m in convolutions] == [(out, inputs, 3, 3) for inputs, out in pairs]
    weights = 9 * sum(inputs * out for inputs, out in pairs)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == 24 + weights + sum(out for _, out in pairs) + 10 * 128 == 568_728
    sides = []
    for module in (model.whiten, *convolutions):
        module.register_forward_hook(lambda m, x, y: sides.append(y.shape[-1]))
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    assert sides == [31, 31, 15, 15, 7, 7, 3]
    places = [side**2 for side in sides[1:]]
    by_hand = 24 * 12 * 31**2 + sum(9 * i * o * n for (i, o), n in zip(pairs, places, strict=True)) + 1280
    assert macs.forward_macs(macs.count(model, (3, 32, 32))) == by_hand == 54_223_904


def test_other_widths_and_classes():
    assert net((8, 16, 24), classes=100)(torch.randn(3, 3, 32, 32)).shape == (3, 100)


def test_norms_do_not_scale_and_whitening_filters_stay():
    frozen = [name for name, p in net().named_parameters() if not p.requires_grad]
    norms = [f"groups.{i}.norm{j}.weight" for i in range(3) for j in (1, 2)]
    assert frozen == ["whiten.weight", *norms]


def test_whitened_patches_are_uncorrelated_and_of_variance_one():
    torch.manual_seed(1)
    # Neighbours alike, as in photographs: white noise, blurred.
    images = F.avg_pool2d(torch.randn(200, 3, 12, 12), 3, 1)
    filters = whitening(images, eps=0.0)
    assert filters.shape == (24, 3, 2, 2) and filters.dtype == torch.float32
    assert torch.equal(filters[:12], -filters[12:])
    seen = F.conv2d(images.double(), filters[:12].double()).transpose(0, 1).flatten(1)
    torch.testing.assert_close(seen @ seen.T / seen.shape[1], torch.eye(12).double(), atol=1e-5, rtol=0)
    smoothed = whitening(images)
    assert smoothed.norm() < filters.norm(), "eps keeps what hardly varies from being blown up"


def test_whitening_filters_do_not_depend_on_an_eigenvectors_sign():
    filters = whitening(torch.randn(20, 3, 8, 8))[:12].flatten(1)
    assert (filters.gather(1, filters.abs().argmax(1, keepdim=True)) > 0).all()


def test_convolutions_start_as_the_identity_of_their_inputs():
    model = net()
    for conv in (m for m in model.groups.modules() if isinstance(m, nn.Conv2d)):
        x = torch.randn(1, conv.in_channels, 5, 5)
        torch.testing.assert_close(conv(x)[:, : conv.in_channels], x)
        rest = conv.weight[conv.in_channels :]
        assert rest.numel() == 0 or rest.std() > 0


def test_masked_layers_start_with_he_weights_by_their_density():
    model = net()
    kept = model.groups[1].conv1.weight.clone()
    assert he_start(model, {"groups.2.conv1": 0.25}) is model
    assert torch.equal(model.groups[1].conv1.weight, kept)
    weight = model.groups[2].conv1.weight
    assert float(weight.detach().std()) == pytest.approx((2 / (128 * 9) / 0.25) ** 0.5, rel=0.02)
    assert weight.requires_grad
    with pytest.raises(AttributeError, match="no_such"):
        he_start(model, {"groups.no_such": 0.5})
