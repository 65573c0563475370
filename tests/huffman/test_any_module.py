"""compress on nets of any make: what it serves, what it loses nothing of, and what it refuses with a reason."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
from leandnn.kernels.huffman import ops
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
def test_it_computes_as_its_decoded_weights_and_survives_a_file(name: str, tmp_path: Path):
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
def test_layers_without_elements_are_refused_all_zeros_served(sides: tuple[int, int]):
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


class Viewing(nn.Module):
    """Takes views of its layers' results, as attention does."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(4, 6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x).view(*x.shape[:-1], 2, 4)
        return self.second(y).view(-1, 12)


def test_results_are_contiguous_as_plain_layers_are():
    net, x = Viewing().eval(), torch.randn(3, 5, 6)
    compressed = compress(net, density=1.0, bits=8)
    assert compressed(x).shape == net(x).shape == (15, 12)
    assert compressed.layers()["first"](x).is_contiguous()


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16])
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
def test_torchs_defaults_of_dtype_and_device_change_nothing(default: torch.dtype):
    """The kernels write float32 to the memory that they are given."""
    net = compress(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(288, 10)), density=0.5)
    x, layer = torch.randn(2, 3, 8, 8), net.layers()["2"]
    expected, dense, csr = net(x), layer.dense_weight(), ops.to_csr(layer.coded).to_dense()
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(default)
        with torch.device("meta"):
            again = copy.deepcopy(net)  # with a workspace that is not there yet
            assert torch.equal(again(x), expected)
            assert torch.equal(layer.dense_weight(), dense) and torch.equal(
                ops.to_csr(layer.coded).to_dense(), csr
            )
    finally:
        torch.set_default_dtype(before)


def test_a_model_computes_in_several_threads_at_once():
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(16, 16, 3, padding=1) for _ in range(4)]
    net = compress(nn.Sequential(*convolutions), density=0.5)
    inputs = [torch.randn(1, 16, 12, 12) for _ in range(4)]
    with torch.inference_mode():
        expected = [net(x) for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            for found, due in zip(pool.map(net, inputs), expected, strict=True):
                assert torch.equal(found, due)


def test_a_model_that_does_not_fit_is_left_as_it_was(tmp_path: Path):
    compress(nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6)), density=1.0).save(tmp_path / "m.lhuf")
    for other, message in (
        (
            nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(5)),
            r"1.bias is of shape \(5,\) in the model, of shape \(6,\)",
        ),
        (nn.Sequential(nn.Linear(6, 6)), r"1.bias is nothing in the model, of shape \(6,\) in the file"),
    ):
        before = copy.deepcopy(other.state_dict())
        with pytest.raises(LeandnnError, match=message):
            load(tmp_path / "m.lhuf", into=other)
        assert type(other[0]) is nn.Linear
        assert all(torch.equal(t, before[name]) for name, t in other.state_dict().items())
