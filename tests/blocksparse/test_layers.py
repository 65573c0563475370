"""Layers against masked dense ones: the function, its gradients, training, and what a state dict holds."""

from __future__ import annotations

import copy
import io
import math
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leandnn.blocksparse import BlockSparseConv2d, BlockSparseLinear, Pattern, convert
from leandnn.blocksparse.layers import BlockSparse
from leandnn.train.checkpoint import weights_sha256


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pattern_of(kind: str, rows: int = 32, columns: int = 64) -> Pattern:
    if kind == "unstructured":
        return Pattern.random_unstructured(rows, columns, 0.75, generator())
    if kind == "block":
        return Pattern.random_blocks(rows, columns, (4, 4), 0.75, generator())
    if kind == "hierarchical":
        coarse = Pattern.random_blocks(rows, columns, (16, 16), 0.5, generator()).mask().numpy()
        fine = Pattern.random_blocks(rows // 4, columns // 4, (1, 1), 0.5, generator()).mask().numpy()
        return Pattern.hierarchical(coarse[::4, ::4] & fine, ((16, 16), (4, 4)))
    return Pattern.random_product(rows, columns, 0.75, (2, 1), (2, 4), generator())


KINDS = ("unstructured", "block", "hierarchical", "rbgp4")


def assert_near(found: Tensor, exact: Tensor) -> None:
    """Equal to FP32 tolerance, relative to the largest number."""
    assert found.dtype == torch.float32 and found.shape == exact.shape
    scale = max(1.0, exact.abs().max().item()) if exact.numel() else 1.0
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=1e-5 * scale)


def assert_step_equals(layer: BlockSparse, dense: nn.Module, x: Tensor) -> None:
    """Output and gradients of a layer equal those of the masked dense layer in float64."""
    x, x64 = x.detach().requires_grad_(), x.detach().double().requires_grad_()
    dense = dense.double()
    y, y64 = layer(x), dense(x64)
    assert_near(y, y64)
    dy = torch.randn(y.shape, generator=generator(5))
    y.backward(dy)
    y64.backward(dy.double())
    assert_near(x.grad, x64.grad)
    assert_near(layer.values.grad, layer.pattern.gather(dense.weight.grad))
    if layer.bias is not None:
        assert_near(layer.bias.grad, dense.bias.grad)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_linear_step_equals_masked_dense(kind: str, bias: bool):
    torch.manual_seed(0)
    layer = BlockSparseLinear(pattern_of(kind), bias)
    assert torch.equal(layer.weight_dense() != 0, layer.pattern.mask())
    for shape in ((64,), (1, 64), (7, 64), (3, 5, 64), (0, 64)):
        layer.zero_grad()
        assert_step_equals(layer, layer.to_dense(), torch.randn(shape))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding": 1},
        {"stride": 2, "padding": 1},
        {"stride": (2, 1), "padding": (0, 2), "dilation": (1, 2)},
        {"bias": False, "padding": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_convolution_step_equals_masked_dense(kind: str, options: dict):
    torch.manual_seed(0)
    layer = BlockSparseConv2d(pattern_of(kind, 32, 16 * 9), 16, 3, **options)
    for format in (torch.contiguous_format, torch.channels_last):
        layer.zero_grad()
        x = torch.randn(2, 16, 9, 8).to(memory_format=format)
        assert_step_equals(layer, layer.to_dense(), x)


def test_a_kernel_may_be_oblong_or_one():
    for kernel in ((1, 3), (3, 1), 1):
        columns = 16 * (1 if kernel == 1 else 3)
        layer = BlockSparseConv2d(pattern_of("block", 8, columns), 16, kernel, padding=1)
        assert_step_equals(layer, layer.to_dense(), torch.randn(2, 16, 6, 5))


def test_inputs_may_lie_in_memory_in_any_way():
    torch.manual_seed(0)
    linear = BlockSparseLinear(pattern_of("block"))
    for x in (
        torch.randn(64, 7).t(),  # feature-major, read as it lies
        torch.randn(7, 128)[:, ::2],
        torch.randn(14, 64)[::2],
        torch.randn(64, 5, 3).permute(2, 1, 0),
        torch.randn(1, 64).expand(7, 64),
    ):
        linear.zero_grad()
        assert_step_equals(linear, linear.to_dense(), x)
    convolution = BlockSparseConv2d(pattern_of("block", 32, 16 * 9), 16, 3)
    for x in (torch.randn(8, 16, 9, 2).permute(3, 1, 2, 0), torch.randn(2, 32, 9, 8)[:, ::2]):
        convolution.zero_grad()
        assert_step_equals(convolution, convolution.to_dense(), x)


def test_inputs_of_another_width_are_refused():
    with pytest.raises((ValueError, RuntimeError), match="63"):
        BlockSparseLinear(pattern_of("block"))(torch.randn(7, 63))


class Net(nn.Module):
    """A small net of both layers, with a batch-norm between."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(4, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2)
        )
        self.head = nn.Linear(32 * 9, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.features(x)).flatten(1))


def net_patterns(kind: str) -> dict[str, Pattern]:
    return {"features.3": pattern_of(kind, 32, 16 * 9), "head": pattern_of(kind, 16, 32 * 9)}


@pytest.mark.parametrize("kind", KINDS)
def test_training_equals_masked_dense_training(kind: str):
    """Ten steps of SGD with momentum and weight decay; masked dense has its gradients and weights masked."""
    torch.manual_seed(0)
    dense, patterns = Net(), net_patterns(kind)
    sparse = convert(copy.deepcopy(dense), patterns)
    masks = {f"{name}.weight": pattern.mask() for name, pattern in patterns.items()}
    weights = {n: (p, masks[n].reshape(p.shape)) for n, p in dense.named_parameters() if n in masks}
    for weight, mask in weights.values():
        weight.data *= mask
    dense.double()
    losses: list[list[float]] = [[], []]
    for found, model, dtype in zip(losses, (sparse, dense), (torch.float32, torch.float64), strict=True):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
        for step in range(10):
            x = torch.randn(16, 4, 8, 8, generator=generator(step)).to(dtype)
            target = torch.randint(0, 16, (16,), generator=generator(step))
            loss = F.cross_entropy(model(x), target)
            optimizer.zero_grad()
            loss.backward()
            if model is dense:
                for weight, mask in weights.values():
                    weight.grad *= mask
            optimizer.step()
            found.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for name, layer in sparse.named_modules():
        if isinstance(layer, BlockSparse):
            exact, _ = weights[f"{name}.weight"]
            assert_near(layer.weight_dense().detach(), exact.detach().flatten(1))
    for name, parameter in sparse.named_parameters():
        if not name.endswith("values"):
            assert_near(parameter.detach(), dense.get_parameter(name).detach())


def test_parameters_are_the_non_zeros_alone():
    layer = BlockSparseLinear(pattern_of("rbgp4"))
    assert {n: p.numel() for n, p in layer.named_parameters()} == {"values": 32 * 64 // 4, "bias": 32}
    assert BlockSparseLinear(pattern_of("rbgp4"), bias=False).bias is None


@pytest.mark.parametrize("kind", KINDS)
def test_initial_values_have_a_dense_layers_variance(kind: str):
    torch.manual_seed(0)
    pattern = pattern_of(kind, 256, 512)
    layer = BlockSparseLinear(pattern)
    bound = 1 / math.sqrt(pattern.nnz / 256)  # fan_in = the non-zeros of a row
    assert layer.values.abs().max().item() <= bound and layer.bias.abs().max().item() <= bound
    assert layer.values.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    outputs = layer(torch.randn(512, 512)).var().item()
    assert outputs == pytest.approx(nn.Linear(512, 256)(torch.randn(512, 512)).var().item(), rel=0.1)


def test_an_empty_pattern_gives_the_bias():
    layer = BlockSparseLinear(Pattern.unstructured(torch.zeros(4, 8, dtype=torch.bool)))
    assert torch.equal(layer(torch.randn(3, 8)), layer.bias.expand(3, 4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_from_dense_and_back(dtype: torch.dtype):
    linear = nn.Linear(64, 32, dtype=dtype).eval()
    linear.bias.requires_grad_(False)
    convolution = nn.Conv2d(16, 32, (3, 3), (2, 1), "valid", (1, 2), bias=False, dtype=dtype)
    for dense, cls in ((linear, BlockSparseLinear), (convolution, BlockSparseConv2d)):
        pattern = pattern_of("rbgp4", 32, dense.weight[0].numel())
        layer = cls.from_dense(dense, pattern)
        found = layer.to_dense()
        assert type(found) is type(dense)
        assert torch.equal(found.weight, dense.weight * pattern.mask().reshape(dense.weight.shape))
        assert (found.bias is None) == (dense.bias is None)
        if dense.bias is not None:
            assert torch.equal(found.bias, dense.bias)
        for module in (layer, found):
            assert module.training == dense.training
            assert {p.dtype for p in module.parameters()} == {dtype}
        flags = [p.requires_grad for p in dense.parameters()]
        assert [p.requires_grad for p in layer.parameters()] == flags
        assert [p.requires_grad for p in found.parameters()] == flags


def test_padding_of_the_same_size_is_kept():
    dense = nn.Conv2d(16, 32, (3, 5), padding="same", dilation=2)
    layer = BlockSparseConv2d.from_dense(dense, pattern_of("block", 32, 16 * 15))
    assert layer.padding == (2, 4)
    assert_step_equals(layer, layer.to_dense(), torch.randn(2, 16, 9, 8))
    with pytest.raises(ValueError, match="expected an odd kernel"):
        BlockSparseConv2d.from_dense(nn.Conv2d(16, 32, 2, padding="same"), pattern_of("block", 32, 64))


def test_layers_that_cannot_be_made_are_refused():
    pattern = pattern_of("block")
    with pytest.raises(ValueError, match=r"weight has shape \(32, 60\), the pattern is block 32×64"):
        BlockSparseLinear.from_dense(nn.Linear(60, 32), pattern)
    with pytest.raises(ValueError, match=r"weight has shape \(31, 4, 4, 4\), the pattern is block 32×64"):
        BlockSparseConv2d.from_dense(nn.Conv2d(4, 31, 4), pattern)
    with pytest.raises(ValueError, match=r"4 groups, expected 1"):
        BlockSparseConv2d.from_dense(nn.Conv2d(16, 32, 3, groups=4), pattern)
    with pytest.raises(ValueError, match=r"'reflect', expected 'zeros'"):
        BlockSparseConv2d.from_dense(nn.Conv2d(16, 32, 2, padding_mode="reflect"), pattern)
    with pytest.raises(ValueError, match=r"64 columns, expected 144 = 16 channels of a \(3, 3\) kernel"):
        BlockSparseConv2d(pattern, 16, 3)
    with pytest.raises(ValueError, match=r"torch.float64, expected torch.float32 or torch.bfloat16"):
        BlockSparseLinear.from_dense(nn.Linear(64, 32).double(), pattern)


# State


def test_a_state_dict_survives_a_file(tmp_path: Path):
    sparse, other = (convert(Net(), net_patterns("rbgp4")) for _ in range(2))
    buffer = io.BytesIO()
    torch.save(sparse.state_dict(), buffer)
    buffer.seek(0)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert weights_sha256(other) == weights_sha256(sparse)
    safetensors.torch.save_file(sparse.state_dict(), tmp_path / "model.safetensors")
    third = convert(Net(), net_patterns("rbgp4"))
    third.load_state_dict(safetensors.torch.load_file(tmp_path / "model.safetensors"))
    assert weights_sha256(third) == weights_sha256(sparse)


def test_a_state_dict_of_another_pattern_is_refused():
    here, there = net_patterns("rbgp4"), net_patterns("block")  # as many non-zeros
    model = convert(Net(), here)
    before = model.head.values.clone()
    with pytest.raises(RuntimeError) as error:
        model.load_state_dict(convert(Net(), there).state_dict())
    for name in here:
        assert f"{name}: the values belong to the pattern" in str(error.value)
        for pattern in (here[name], there[name]):
            assert pattern.digest()[:16] in str(error.value)
    assert torch.equal(model.head.values, before)
    with pytest.raises(RuntimeError, match="expected torch.uint8 of shape"):
        model.load_state_dict({**model.state_dict(), "head._extra_state": torch.zeros(3)})


def test_a_state_dict_without_a_pattern_is_incomplete():
    model = convert(Net(), net_patterns("block"))
    state = model.state_dict()
    del state["head._extra_state"]
    with pytest.raises(RuntimeError, match="head._extra_state"):
        model.load_state_dict(state)
    model.load_state_dict(state, strict=False)


def test_copies_have_their_own_values_and_share_the_pattern():
    layer = BlockSparseLinear(pattern_of("rbgp4"))
    x = torch.randn(3, 64)
    y = layer(x)
    copied = copy.deepcopy(layer)
    assert copied.pattern is layer.pattern
    with torch.no_grad():
        layer.values.zero_()
    assert torch.equal(copied(x), y)


def test_a_whole_layer_can_be_pickled_after_use():
    layer = BlockSparseLinear(pattern_of("hierarchical"))
    x = torch.randn(3, 64)
    y = layer(x)
    buffer = io.BytesIO()
    torch.save(layer, buffer)
    buffer.seek(0)
    assert torch.equal(torch.load(buffer, weights_only=False)(x), y)


# Types and compilation


def near_bf16(found: Tensor, exact: Tensor) -> bool:
    return found.dtype == torch.bfloat16 and torch.allclose(found.double(), exact, rtol=2**-7, atol=0.02)


def test_bfloat16_layers_and_autocast():
    torch.manual_seed(0)
    linear = BlockSparseLinear(pattern_of("rbgp4"))
    convolution = BlockSparseConv2d(pattern_of("rbgp4", 32, 16 * 9), 16, 3, padding=1)
    for layer, x in ((linear, torch.randn(7, 64)), (convolution, torch.randn(2, 16, 6, 5))):
        exact = layer.to_dense().double()(x.double())
        with torch.autocast("cpu", torch.bfloat16):
            y = layer(x)
        assert near_bf16(y, exact)
        y.float().square().sum().backward()
        assert {p.grad.dtype for p in layer.parameters()} == {torch.float32}
        narrow = copy.deepcopy(layer).to(torch.bfloat16)
        assert near_bf16(narrow(x.bfloat16()), exact)
        assert narrow.pattern is layer.pattern
        with torch.autocast("cpu", torch.float16):  # no product in float16
            assert torch.equal(layer(x.half()), layer(x.half().float()))
            assert layer(x.half()).dtype == torch.float32


def test_a_model_compiles_in_one_graph():
    torch.manual_seed(0)
    model = convert(Net(), net_patterns("rbgp4"))
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for enabled in (False, True):
        found = []
        for run in (compiled, model):
            model.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled):
                loss = run(torch.randn(4, 4, 8, 8, generator=generator())).float().square().sum()
            loss.backward()
            found.append([p.grad.clone() for p in model.parameters()])
        torch.testing.assert_close(*found)


def test_a_layer_says_what_it_is():
    assert repr(BlockSparseLinear(pattern_of("block"))) == (
        "BlockSparseLinear(block 32×64, 75.00% sparse, 4×4 blocks, bias=True)"
    )
    layer = BlockSparseConv2d(pattern_of("unstructured", 32, 16 * 9), 16, 3, stride=2)
    assert repr(layer) == (
        "BlockSparseConv2d(16, 32, kernel_size=(3, 3), stride=(2, 2), padding=(0, 0), dilation=(1, 1), "
        "bias=True, pattern=unstructured 32×144, 75.00% sparse)"
    )
