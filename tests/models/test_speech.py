"""The DeepSpeech2-type net: its recurrence is torch's, padding has no influence, no product is hidden."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from leandnn.bf16 import Policy, emulate
from leandnn.errors import LeandnnError
from leandnn.models.speech import Cell, DeepSpeech, Grid, Recurrence, with_fused_recurrence


def small(cell: Cell = "gru") -> DeepSpeech:
    torch.manual_seed(0)
    return DeepSpeech(channels=4, size=16, cell=cell)


@pytest.mark.parametrize(("cell", "kind"), [("gru", nn.GRU), ("tanh", nn.RNN)])
def test_the_unrolled_recurrence_is_torchs(cell: Cell, kind: type[nn.GRU] | type[nn.RNN]):
    torch.manual_seed(0)
    ours = Recurrence(6, 5, cell).double()
    ours.norm = nn.Identity()  # torch's layers have none
    theirs = kind(6, 5, bidirectional=True).double()
    input_ahead, input_back = ours.input.weight.data.chunk(2)
    theirs.weight_ih_l0.data.copy_(input_ahead)
    theirs.weight_ih_l0_reverse.data.copy_(input_back)
    for direction, suffix in zip(ours.recurrent.data, ("", "_reverse"), strict=True):
        getattr(theirs, f"weight_hh_l0{suffix}").data.copy_(direction.t())
        getattr(theirs, f"bias_hh_l0{suffix}").data.zero_()
        getattr(theirs, f"bias_ih_l0{suffix}").data.zero_()
    lengths = torch.tensor([7, 3, 5])
    frames = torch.randn(15, 6, dtype=torch.float64)
    packed = nn.utils.rnn.pack_sequence(list(frames.split(lengths.tolist())), enforce_sorted=False)
    out, _ = nn.utils.rnn.pad_packed_sequence(theirs(packed)[0], batch_first=True)
    ahead, back = out.chunk(2, dim=2)
    expected = torch.cat([(ahead + back)[i, :length] for i, length in enumerate(lengths)])
    torch.testing.assert_close(ours(frames, Grid.of(lengths, frames.device)), expected)


@pytest.mark.parametrize("cell", ["gru", "tanh"])
def test_padding_and_neighbours_do_not_change_an_utterance(cell: Cell):
    model = small(cell).eval()
    frames = torch.tensor([31, 9, 20])
    features = torch.randn(3, 31, 40) * (torch.arange(31) < frames[:, None])[:, :, None]
    logits, lengths = model(features, frames)
    assert logits.shape == (16, 3, 29)
    assert lengths.tolist() == [16, 5, 10]
    for i, (count, length) in enumerate(zip(frames.tolist(), lengths.tolist(), strict=True)):
        alone, _ = model(features[i : i + 1, :count], frames[i : i + 1])
        torch.testing.assert_close(logits[:length, i], alone[:, 0], rtol=1e-4, atol=1e-5)
        assert (logits[length:, i] == 0).all()


def test_gradients_reach_every_weight_and_other_sizes_work():
    model = DeepSpeech(bands=25, symbols=7, channels=3, size=8, layers=3, cell="tanh")
    logits, _ = model(torch.randn(2, 12, 25), torch.tensor([12, 11]))
    assert logits.shape == (6, 2, 7)
    logits.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters())


def test_the_emulator_sees_every_product():
    model = small()
    features, frames = torch.randn(2, 10, 40), torch.tensor([10, 8])
    with emulate(model, Policy.paper()):
        rounded, _ = model(features, frames)
    rounded.sum().backward()
    exact, _ = model(features, frames)
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, rtol=0.1, atol=0.1)

    # A product that passed unseen would keep a NaN-free FP32 result when every seen operand is NaN.
    calls: list[str] = []

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            calls.append(getattr(func, "__name__", ""))
            return func(*args, **(kwargs or {}))

    with Watch():
        model(features, frames)
    # Two convolutions; per layer the inputs' product and 5 of states; the output's.
    assert calls.count("conv2d") == 2
    assert calls.count("linear") == 2 + 1
    assert calls.count("bmm") == 2 * 5
    assert not {"gru", "lstm", "rnn_tanh", "gru_cell", "einsum", "baddbmm"} & set(calls)


@pytest.mark.parametrize("cell", ["gru", "tanh"])
def test_the_librarys_recurrence_computes_the_same(cell: Cell):
    model = small(cell)
    frames = torch.tensor([24, 7, 15])
    features = torch.randn(3, 24, 40) * (torch.arange(24) < frames[:, None])[:, :, None]
    for _ in range(3):  # statistics other than those of a new net
        model(features * 2 + 0.1, frames)
    for layer in model.recurrent:
        nn.init.normal_(layer.norm.weight, 1.0, 0.1)
        nn.init.normal_(layer.norm.bias, 0.0, 0.1)
    expected, _ = model.eval()(features, frames)
    fused = with_fused_recurrence(model)
    assert not any(isinstance(module, Recurrence) for module in fused.modules())
    torch.testing.assert_close(fused(features, frames)[0], expected, rtol=1e-4, atol=1e-5)
    fused.train()(features, frames)[0].square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in fused.parameters())


def test_an_empty_batch_and_an_empty_utterance_are_refused():
    model = small()
    with pytest.raises(LeandnnError, match="a batch has 0 utterances"):
        model(torch.randn(0, 10, 40), torch.tensor([], dtype=torch.int64))
    with pytest.raises(LeandnnError, match=r"2 utterances of \[5, 0\] frames"):
        model(torch.randn(2, 10, 40), torch.tensor([10, 0]))
