"""compress on nets of any make: what it serves, what it loses nothing of, and what it refuses with a reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils import prune as torch_prune

from leandnn.errors import LeandnnError
from leandnn.huffman import compress, load
from leandnn.huffman.layers import HuffmanConv2d, HuffmanLinear
from leandnn.models.resnet_small import SmallResNet


class Functional(nn.Module):
    """Reads a layer's weight itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.layer.weight.t(), self.layer.bias) + self.layer(x)


class Nested(nn.Module):
    """Shared layers, groups, names three deep, a tensor of its own, list indexing."""

    def __init__(self) -> None:
        super().__init__()
        inner = nn.ModuleDict({"deep": nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6, bias=False))})
        self.parts = nn.ModuleList([inner, nn.Linear(6, 6)])
        self.register_buffer("unused", torch.arange(3))

    def forward(self, x: Tensor) -> Tensor:
        y = self.parts[0]["deep"](x)
        return self.parts[1](F.relu(self.parts[1](y)))[:, 1:5]


class Branches(nn.Module):
    """Looks at its data."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if bool(x.sum() > 0) else x


def transformer() -> nn.Module:
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 12, batch_first=True), 2)


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(4, 8, 3, padding="same", groups=2),
        nn.GroupNorm(2, 8),
        nn.Hardswish(),
        nn.Conv2d(8, 4, 3, padding=1, padding_mode="reflect"),
        nn.AdaptiveAvgPool2d((None, 2)),
        nn.Conv2d(4, 2, (1, 2), stride=(2, 1), dilation=(1, 1)),
    )


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], bool]] = {
    "functional": (Functional, (3, 6), False),
    "nested": (Nested, (3, 6), True),
    "branches": (Branches, (3, 6), False),
    "transformer": (transformer, (3, 4, 6), False),
    "convolutions": (convolutions, (2, 4, 6, 6), True),
    "residual": (lambda: SmallResNet(), (2, 3, 32, 32), True),
    "bare": (lambda: nn.Linear(6, 2), (3, 6), True),
    "weight norm": (lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 6))), (3, 6), True),
    "half": (lambda: nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6)).bfloat16(), (3, 6), True),
    "frozen": (lambda: nn.Sequential(nn.Linear(6, 6)).requires_grad_(False), (3, 6), True),
}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True", "ignore:.*nested tensors.*")
def test_it_computes_what_its_decoded_weights_do_and_survives_a_file(name: str, tmp_path: Path):
    make, shape, traced = NETS[name]
    torch.manual_seed(0)
    net, x = make().eval(), torch.rand(shape)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    compressed = compress(net, density=0.7, bits=4)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items()), "changed in place"
    assert (compressed.program is not None) == traced

    layers = compressed.layers()
    assert layers and all(isinstance(own, (HuffmanLinear, HuffmanConv2d)) for own in layers.values())
    plain = make().eval().float()
    known = dict(plain.named_modules())
    with torch.no_grad():
        if name != "weight norm":
            plain.load_state_dict(before)
            for key, layer in layers.items():
                known[key].weight.copy_(layer.weight)
            torch.testing.assert_close(compressed(x), plain(x), rtol=1e-4, atol=1e-5)
        compressed.save(tmp_path / "m.lhuf")
        loaded = load(tmp_path / "m.lhuf", into=None if traced else make().eval().float())
        assert torch.equal(loaded(x), compressed(x))
        loaded.save(tmp_path / "again.lhuf")
    if traced:
        assert (tmp_path / "again.lhuf").read_bytes() == (tmp_path / "m.lhuf").read_bytes()
    else:
        with pytest.raises(LeandnnError, match="load\\(path, into=model\\)"):
            load(tmp_path / "m.lhuf")


def weighted(value: float, where: str = "weight") -> nn.Module:
    layer = nn.Linear(4, 4)
    getattr(layer, where).data.view(-1)[0] = value
    return nn.Sequential(nn.ReLU(), layer)


def tied(other: nn.Module) -> nn.Module:
    layer = nn.Linear(4, 4)
    other.weight = layer.weight
    return nn.ModuleDict({"a": other, "b": layer})


def hooked() -> nn.Module:
    net = nn.Sequential(nn.Linear(4, 4))
    net[0].register_forward_hook(lambda module, inputs, output: -output)
    return net


def pruned_by_torch() -> nn.Module:
    net = nn.Sequential(nn.Linear(4, 4))
    torch_prune.l1_unstructured(net[0], "weight", 0.5)
    return net


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "NaN": (lambda: weighted(float("nan")), "^1: the weight has NaN or infinite values"),
    "infinity": (lambda: weighted(float("inf")), "^1: the weight has NaN or infinite values"),
    "tied to a layer": (lambda: tied(nn.Linear(4, 4)), "a and b share one weight"),
    "tied to an embedding": (lambda: tied(nn.Embedding(4, 4)), "a and b share one weight"),
    "hooks of a layer": (hooked, "^0: the layer has hooks"),
    "torch's own pruning": (pruned_by_torch, "cannot be copied; what torch.nn.utils.prune"),
    "no layers": (lambda: nn.ReLU(), "ReLU has no Linear or Conv2d layer"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str):
    make, match = REFUSED[name]
    with pytest.raises(ValueError, match=match):
        compress(make())


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("sides", [(0, 4), (4, 0)])
def test_layers_without_elements_are_refused_and_those_without_non_zeros_served(sides: tuple[int, int]):
    with pytest.raises(ValueError, match="the weight has shape .*, expected at least one element"):
        compress(nn.Linear(*sides))
    layer = nn.Linear(4, 3)
    assert torch.equal(compress(layer, density=0.0)(torch.ones(2, 4)), layer.bias.detach().expand(2, 3))


def test_a_net_with_a_hook_is_saved_without_a_program(tmp_path: Path):
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    net[1].register_forward_hook(lambda module, inputs, output: -output)
    compressed = compress(net)
    assert compressed.program is None and compressed.untraced == "1 has a hook, which no file can hold"
    compressed.save(tmp_path / "m.lhuf")
    assert torch.equal(load(tmp_path / "m.lhuf", into=net)(torch.ones(1, 4)), compressed(torch.ones(1, 4)))


def test_the_codebook_is_trained_by_summed_gradients():
    from leandnn.huffman.compress import prune_layers, share_layers

    torch.manual_seed(0)
    net, x, target = nn.Sequential(nn.Linear(20, 7, bias=False)), torch.randn(11, 20), torch.randn(11, 7)
    prune_layers(net, density=0.5)
    share_layers(net, bits=3)
    own = net[0].parametrizations.weight
    weight = net[0].weight.detach().clone().requires_grad_()
    (F.linear(x, weight) - target).square().mean().backward()
    (net(x) - target).square().mean().backward()
    symbols = own[0].symbols
    assert weight.grad is not None
    expected = [weight.grad[symbols == value].sum() for value in range(own.original.numel())]
    torch.testing.assert_close(own.original.grad[1:], torch.stack(expected)[1:])
    assert own.original.grad[0] == 0 and (symbols == 0).sum() == 70
