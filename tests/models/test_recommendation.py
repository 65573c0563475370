"""Click predictors: the formulas of their papers, and every product where the emulator can see it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from leandnn.bf16.emulate import emulate
from leandnn.bf16.policy import Policy
from leandnn.data.clicks_synthesis import SIZES
from leandnn.models.recommendation import DLRM, DeepAndCross, Tables

SMALL = (5, 3, 4)


def inputs(sizes: tuple[int, ...], rows: int = 6, dense: int = 13) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    entries = [torch.randint(0, size, (rows,), generator=generator) for size in sizes]
    return torch.rand(rows, dense, generator=generator), torch.stack(entries, 1)


def test_tables_are_side_by_side_in_one_weight():
    tables = Tables(SMALL, 2)
    assert tables.weight.shape == (12, 2)
    read = tables(torch.tensor([[4, 2, 3], [0, 0, 0]]))
    assert torch.equal(read, tables.weight[torch.tensor([[4, 7, 11], [0, 5, 8]])])
    assert list(tables.state_dict()) == ["weight"]


def test_dlrm_is_the_papers_formula():
    torch.manual_seed(0)
    model = DLRM(SMALL, width=4, bottom=(6,), top=(7,))
    dense, entries = inputs(SMALL)
    z = model.bottom(dense)
    vectors = [z, *(model.tables.weight[entries[:, f] + start] for f, start in enumerate((0, 5, 8)))]
    products = [(vectors[i] * vectors[j]).sum(1) for i in range(4) for j in range(i)]
    expected = model.output(model.top(torch.cat([z, torch.stack(products, 1)], 1)))[:, 0]
    assert torch.allclose(model(dense, entries), expected, atol=1e-6)


def test_deep_and_cross_is_the_papers_formula():
    torch.manual_seed(0)
    model = DeepAndCross(SMALL, width=4, crosses=2, deep=(7,))
    with torch.no_grad():
        for shift in model.shifts:
            shift.normal_()
    dense, entries = inputs(SMALL)
    x0 = torch.cat([model.tables(entries).flatten(1), dense], 1)
    x = x0
    for weigh, shift in zip(model.crosses, model.shifts, strict=True):
        x = torch.stack([a * (b @ weigh.weight[0]) + shift + b for a, b in zip(x0, x, strict=True)])
    expected = model.output(torch.cat([x, model.deep(x0)], 1))[:, 0]
    assert torch.allclose(model(dense, entries), expected, atol=1e-5)


@pytest.mark.parametrize("build", [DLRM, DeepAndCross])
def test_the_laptop_nets_are_small_and_all_of_them_learns(build: type[nn.Module]):
    torch.manual_seed(0)
    model = build(SIZES)
    assert sum(p.numel() for p in model.parameters()) < 1_000_000
    dense, entries = inputs(SIZES)
    logits = model(dense, entries)
    assert logits.shape == (6,) and logits.dtype == torch.float32
    logits.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.parameters())


@pytest.mark.parametrize("build", [DLRM, DeepAndCross])
def test_emulation_reaches_every_product(build: type[nn.Module]):
    torch.manual_seed(0)
    model = build(SMALL)
    dense, entries = inputs(SMALL)
    plain = model(dense, entries)
    with emulate(model, Policy.paper()):
        rounded = model(dense, entries)
    assert not torch.equal(plain, rounded)
    assert torch.allclose(plain, rounded, rtol=0.05, atol=0.01)
    assert bool((rounded.view(torch.int32) & 0xFFFF == 0).all())  # the last product's output is BF16
