"""The translators: their parts are the papers', padding has no influence, no token sees what comes after it."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leandnn.bf16 import Policy, emulate
from leandnn.models.language import (
    GNMT,
    AdditiveAttention,
    LibraryRecurrence,
    Memory,
    Recurrence,
    token_mask,
    with_fused_recurrence,
)
from leandnn.models.language_transformer import Attention, Transformer, positions

SYMBOLS = 20
LENGTHS = torch.tensor([7, 3, 5])


def gnmt(**options: int) -> GNMT:
    torch.manual_seed(0)
    return GNMT(SYMBOLS, **({"size": 16, "layers": 3, "units": 8} | options))


def transformer(**options: int) -> Transformer:
    torch.manual_seed(0)
    return Transformer(SYMBOLS, **({"size": 16, "heads": 2, "hidden": 24, "layers": 2} | options))


NETS: list[Callable[[], nn.Module]] = [gnmt, transformer]


def sentences() -> tuple[Tensor, Tensor]:
    """Sources of LENGTHS tokens, padded with 0, and 6 target tokens each."""
    generator = torch.Generator().manual_seed(1)
    source = torch.randint(4, SYMBOLS, (3, 7), generator=generator) * token_mask(LENGTHS, 7)
    return source, torch.randint(4, SYMBOLS, (3, 6), generator=generator)


# --- parts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("directions", [1, 2])
def test_the_unrolled_recurrence_is_torchs(directions: int):
    torch.manual_seed(0)
    ours = Recurrence(6, 10, directions).double()
    nn.init.normal_(ours.input.bias)
    theirs = LibraryRecurrence(ours).double()
    x = torch.randn(7, 3, 6, dtype=torch.float64)
    state = (
        torch.randn(directions, 3, 10 // directions, dtype=torch.float64),
        torch.randn(directions, 3, 10 // directions, dtype=torch.float64),
    )
    lengths = LENGTHS if directions == 2 else None
    found, after = ours(x, state, lengths)
    expected, last = theirs(x, state, lengths)
    inside = token_mask(LENGTHS, 7).t().unsqueeze(2) if directions == 2 else torch.ones(())
    torch.testing.assert_close(found * inside, expected)
    if directions == 1:  # torch's last state is each sentence's, ours the longest one's
        torch.testing.assert_close(after, last)
    whole, _ = ours(x[:3], lengths=torch.tensor([3, 3, 3]) if directions == 2 else None)
    again, _ = theirs(x[:3], lengths=torch.tensor([3, 3, 3]) if directions == 2 else None)
    torch.testing.assert_close(whole, again)


def test_forget_gates_start_open():
    layer = Recurrence(6, 4, 2)
    enter, keep, leave, candidate = layer.input.bias.detach().view(2, 4, 2).unbind(1)
    assert bool((keep == 1).all())
    assert not bool(torch.cat([enter, leave, candidate]).any())


def test_additive_attention_is_its_formula():
    torch.manual_seed(0)
    layer = AdditiveAttention(6, 5).double()
    nn.init.normal_(layer.key.bias)
    nn.init.constant_(layer.scale, 3.0)
    queries, values = torch.randn(2, 4, 6, dtype=torch.float64), torch.randn(2, 3, 6, dtype=torch.float64)
    mask = token_mask(torch.tensor([3, 2]), 3).unsqueeze(1)
    found = layer(queries, Memory(values, mask))
    direction = 3.0 * layer.direction / layer.direction.square().sum().sqrt()
    for b, count in enumerate((3, 2)):
        for t in range(4):
            scores = [
                direction @ torch.tanh(layer.query(queries[b, t]) + layer.key(values[b, s]))
                for s in range(count)
            ]
            weights = torch.stack(scores).softmax(0)
            torch.testing.assert_close(found[b, t], weights @ values[b, :count])


def test_dot_product_attention_is_torchs():
    torch.manual_seed(0)
    layer = Attention(12, 3).double()
    x, other = torch.randn(2, 5, 12, dtype=torch.float64), torch.randn(2, 4, 12, dtype=torch.float64)
    mask = token_mask(torch.tensor([4, 2]), 4).unsqueeze(1)
    heads = [
        t.unflatten(2, (3, 4)).transpose(1, 2) for t in (layer.query(x), layer.key(other), layer.value(other))
    ]
    expected = F.scaled_dot_product_attention(*heads, attn_mask=mask.unsqueeze(1))
    found = layer(x, *layer.project(other), mask)
    torch.testing.assert_close(found, layer.output(expected.transpose(1, 2).flatten(2)))


def test_positions_are_the_papers_in_another_order():
    found = positions(5, 6, start=3)
    assert found.shape == (5, 6)
    for row, place in enumerate(range(3, 8)):
        for i in range(3):
            angle = place / 10000 ** (2 * i / 6)
            assert float(found[row, i]) == pytest.approx(math.sin(angle), abs=1e-5)
            assert float(found[row, 3 + i]) == pytest.approx(math.cos(angle), abs=1e-5)


# --- nets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", NETS)
def test_padding_and_neighbours_do_not_change_a_sentence(build: Callable[[], nn.Module]):
    net, (source, inputs) = build().eval(), sentences()
    logits = net(source, LENGTHS, inputs)
    assert logits.shape == (3, 6, SYMBOLS)
    for i, count in enumerate(LENGTHS.tolist()):
        alone = net(source[i : i + 1, :count], LENGTHS[i : i + 1], inputs[i : i + 1])
        torch.testing.assert_close(logits[i : i + 1], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("build", NETS)
def test_no_token_sees_what_comes_after_it(build: Callable[[], nn.Module]):
    net, (source, inputs) = build().eval(), sentences()
    changed = inputs.clone()
    changed[:, 4:] = (changed[:, 4:] - 3) % (SYMBOLS - 4) + 4
    before, after = net(source, LENGTHS, inputs), net(source, LENGTHS, changed)
    torch.testing.assert_close(before[:, :4], after[:, :4], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(before[:, 4:], after[:, 4:], rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("build", NETS)
def test_every_source_token_matters(build: Callable[[], nn.Module]):
    net, (source, inputs) = build().eval(), sentences()
    net.requires_grad_(False)
    before = net(source, LENGTHS, inputs)
    for place in range(7):
        changed = source.clone()
        changed[0, place] = (changed[0, place] - 3) % (SYMBOLS - 4) + 4
        after = net(changed, LENGTHS, inputs)
        assert float((after[0] - before[0]).abs().amax()) > 1e-4
        assert torch.equal(after[1:], before[1:])


@pytest.mark.parametrize("build", NETS)
def test_decoding_in_parts_is_decoding_at_once(build: Callable[[], nn.Module]):
    net, (source, inputs) = build().eval(), sentences()
    whole = net(source, LENGTHS, inputs)
    memory, state, parts = net.encode(source, LENGTHS), None, []
    for part in inputs.split((1, 3, 2), dim=1):
        logits, state = net.decode(part, memory, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("build", [*NETS, lambda: gnmt(layers=1), lambda: transformer(layers=3, heads=4)])
def test_gradients_reach_every_weight(build: Callable[[], nn.Module]):
    net, (source, inputs) = build(), sentences()
    F.cross_entropy(net(source, LENGTHS, inputs).flatten(0, 1), inputs.flatten()).backward()
    unreached = [n for n, p in net.named_parameters() if p.grad is None or not bool(p.grad.any())]
    # A bias added to every key shifts all scores of a query alike, which the softmax undoes.
    if isinstance(net, Transformer):
        keys = {n for n, _ in net.named_parameters() if n.endswith("key.bias")}
        assert all(float(net.get_parameter(n).grad.abs().max()) < 1e-6 for n in keys)  # type: ignore[union-attr]
        unreached = [n for n in unreached if n not in keys]
    assert unreached == []


@pytest.mark.parametrize("build", NETS)
def test_dropout_is_for_training_alone(build: Callable[..., nn.Module]):
    net, (source, inputs) = build(dropout=0.5), sentences()
    assert not torch.equal(net(source, LENGTHS, inputs), net(source, LENGTHS, inputs))
    net.eval()
    torch.testing.assert_close(net(source, LENGTHS, inputs), build().eval()(source, LENGTHS, inputs))


@pytest.mark.parametrize("build", NETS)
def test_the_emulator_sees_every_product(build: Callable[[], nn.Module]):
    net, (source, inputs) = build(), sentences()
    with emulate(net, Policy.paper()):
        rounded = net(source, LENGTHS, inputs)
    exact = net(source, LENGTHS, inputs)
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, rtol=0.1, atol=0.1)
    calls: list[str] = []

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            calls.append(getattr(func, "__name__", ""))
            return func(*args, **(kwargs or {}))

    with Watch(), torch.profiler.profile() as profile:
        net(source, LENGTHS, inputs)
    # What torch computed with matrices, however it was asked for, is what was asked for in the open.
    kernels = {event.key: event.count for event in profile.key_averages()}
    products = sum(kernels.get(f"aten::{name}", 0) for name in ("mm", "addmm", "bmm", "baddbmm"))
    assert calls.count("linear") + calls.count("matmul") == products > 10
    assert calls.count("embedding") == kernels["aten::embedding"] == 2
    assert not {"lstm", "scaled_dot_product_attention", "multi_head_attention_forward"} & set(calls)


def test_the_librarys_recurrence_computes_the_same():
    net, (source, inputs) = gnmt(), sentences()
    expected = net(source, LENGTHS, inputs)
    fused = with_fused_recurrence(net)
    assert not any(isinstance(module, Recurrence) for module in fused.modules())
    found = fused(source, LENGTHS, inputs)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    found.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in fused.parameters())


def test_sizes_that_cannot_be_divided_are_refused():
    with pytest.raises(ValueError, match="size 10 is no multiple of the 4 heads"):
        Transformer(SYMBOLS, size=10)
    with pytest.raises(ValueError, match="size 9 is no multiple of the 2 directions"):
        GNMT(SYMBOLS, size=9)
