"""Recurrent layers and attention written out: torch's own results, and every product rounded."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from leandnn.bf16 import Policy, emulate
from leandnn.bf16.mode import EmulationMode
from leandnn.kernels import round_to

PAPER = Policy.paper()


def is_bf16(x: Tensor) -> bool:
    return torch.equal(x, round_to(x.detach(), "bf16"))


def flat(out: object) -> list[Tensor]:
    if isinstance(out, Tensor):
        return [out]
    return [] if out is None else [t for part in out for t in flat(part)]


def written_out(model: nn.Module, *inputs: object) -> tuple[list[Tensor], list[Tensor]]:
    """A model's results by torch, and by the emulation's own way of writing it out, nothing rounded."""
    with EmulationMode(model, Policy.fp32(), 0):
        own = model(*inputs)
    return flat(model(*inputs)), flat(own)


SEQUENCE = torch.linspace(-1, 1, 7 * 3 * 5).sin().view(7, 3, 5)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize(
    "options",
    [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False, "batch_first": True}],
    ids=["plain", "two layers, two ways", "no bias, batch first"],
)
@pytest.mark.parametrize("packed", [False, True])
def test_recurrent_layers_written_out_are_torchs(kind, options, packed: bool):
    layer, x = kind(5, 6, **options), SEQUENCE
    if packed:
        lengths = (
            torch.tensor([2, 7, 4]) if not options.get("batch_first") else torch.tensor([3, 1, 3, 2, 2, 1, 1])
        )
        x = pack_padded_sequence(x, lengths, options.get("batch_first", False), enforce_sorted=False)
    torchs, own = written_out(layer, x)
    assert len(torchs) == len(own)
    for a, b in zip(torchs, own, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6) if a.is_floating_point() else torch.equal(a, b)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.LSTMCell(5, 6),
        lambda: nn.GRUCell(5, 6, bias=False),
        lambda: nn.RNNCell(5, 6),
        lambda: nn.RNNCell(5, 6, nonlinearity="relu"),
        lambda: nn.RNN(5, 6, nonlinearity="relu"),
    ],
)
def test_cells_written_out_are_torchs(make):
    torchs, own = written_out(make(), SEQUENCE[0])
    for a, b in zip(torchs, own, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_a_projected_lstm_written_out_is_torchs():
    torchs, own = written_out(nn.LSTM(5, 6, proj_size=4, num_layers=2, bidirectional=True), SEQUENCE)
    for a, b in zip(torchs, own, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)


def test_recurrent_layers_have_dropout_between_in_training_alone():
    layer = nn.LSTM(5, 6, num_layers=2, dropout=0.5)
    with EmulationMode(layer, Policy.fp32(), 0):
        first, second = layer(SEQUENCE)[0], layer(SEQUENCE)[0]
        layer.eval()
        kept = layer(SEQUENCE)[0]
    assert not torch.allclose(first, second, atol=1e-4)
    assert torch.allclose(kept, layer(SEQUENCE)[0], atol=1e-6)


@pytest.mark.parametrize("make", [lambda: nn.LSTM(5, 6), lambda: nn.GRU(5, 6), lambda: nn.LSTMCell(5, 6)])
def test_every_product_of_a_recurrent_layer_is_rounded(make):
    layer = make()
    x = (SEQUENCE if isinstance(layer, nn.RNNBase) else SEQUENCE[0]).clone().requires_grad_()
    plain = flat(layer(x))[0]
    with emulate(layer, PAPER):
        y = flat(layer(x))[0]
    assert 1e-6 < float((y - plain).detach().abs().max()) < 0.02
    y.sum().backward()
    assert is_bf16(x.grad)
    assert not any(is_bf16(p.grad) for p in layer.parameters() if p.grad.any())


MASKS = {
    "none": {},
    "causal": {"is_causal": True},
    "added": {"attn_mask": torch.linspace(-2, 2, 36).view(6, 6)},
    "boolean": {"attn_mask": torch.ones(6, 6, dtype=torch.bool).triu()},
    "nothing to look at": {"attn_mask": torch.ones(6, 6, dtype=torch.bool).tril(-1)},
    "scaled": {"scale": 0.3},
}


@pytest.mark.parametrize("name", MASKS)
def test_attention_written_out_is_torchs(name: str):
    x, y, z = (torch.randn(2, 4, 6, 8) for _ in range(3))
    expected = F.scaled_dot_product_attention(x, y, z, **MASKS[name])
    with EmulationMode(nn.Identity(), Policy.fp32(), 0):
        found = F.scaled_dot_product_attention(x, y, z, **MASKS[name])
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_grouped_attention_written_out_is_torchs():
    x, y = torch.randn(2, 4, 6, 8), torch.randn(2, 2, 6, 8)
    expected = F.scaled_dot_product_attention(x, y, y, enable_gqa=True)
    with EmulationMode(nn.Identity(), Policy.fp32(), 0):
        assert torch.allclose(F.scaled_dot_product_attention(x, y, y, enable_gqa=True), expected, atol=1e-5)


def test_attention_is_rounded_as_the_same_products_by_hand():
    x, y, z = (torch.randn(2, 6, 8) for _ in range(3))
    with emulate(nn.Identity(), PAPER):
        found = F.scaled_dot_product_attention(x, y, z)
        scores = torch.matmul(x, y.transpose(1, 2)) * 8**-0.5
        by_hand = torch.matmul(torch.softmax(scores, -1), z)
    assert torch.equal(found, by_hand)
    assert is_bf16(found)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.MultiheadAttention(8, 2, add_bias_kv=True, add_zero_attn=True),
        lambda: nn.MultiheadAttention(8, 2, kdim=8, vdim=8, bias=False),
    ],
)
def test_multi_head_attention_written_out_is_torchs(make, train: bool):
    x = torch.randn(6, 3, 8)
    torchs, own = written_out(make().train(train), x, x, x)
    for a, b in zip(torchs, own, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("train", [True, False])
def test_torchs_transformer_runs_with_every_product_rounded(train: bool):
    model = nn.Transformer(8, 2, 1, 1, 16, dropout=0.0, batch_first=True).train(train)
    x = torch.randn(3, 6, 8)
    torchs, own = written_out(model, x, x)
    assert torch.allclose(torchs[0], own[0], rtol=1e-4, atol=1e-5)
    with emulate(model, PAPER):
        rounded = model(x, x)
    assert 1e-4 < float((rounded - torchs[0]).detach().abs().max()) < 0.2
