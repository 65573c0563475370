"""The bench of hierarchical patterns: names mean what they say, every row is checked, a wrong layer stops it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from leandnn.bench.hbsnn import nets, patterns
from leandnn.blocksparse import Pattern, prune
from leandnn.blocksparse import study as shared
from leandnn.errors import LeandnnError
from leandnn.hbsnn import study


@pytest.mark.parametrize("sparsity", [75.0, 87.5, 93.75])
def test_patterns_have_exactly_the_sparsity(sparsity: float):
    for name in patterns.PATTERNS:
        pattern = patterns.pattern_of(name, 256, 512, sparsity)
        assert (name, pattern.shape, pattern.sparsity) == (name, (256, 512), sparsity / 100)


def test_names_of_hierarchies_are_sizes_coarsest_first():
    for name, coarse, block in (
        ("hbs64-4x1", ((64, 64),), (4, 1)),
        ("hbs64-16-8x1", ((64, 64), (16, 16)), (8, 1)),
        ("hbs64-8-1x1", ((64, 64), (8, 8)), (1, 1)),
    ):
        pattern = patterns.pattern_of(name, 128, 128, 75.0)
        assert (pattern.coarse, pattern.block) == (coarse, block)
        assert pattern.levels[0].density == 0.5


@pytest.mark.parametrize("product", ["forward", "dX", "dW"])
def test_products_of_all_patterns_carry_their_case(product: str):
    rows = patterns._product((256, 256, 16), 75.0, product, 1)
    impls = {(r["case"]["pattern"], r["impl"]) for r in rows}
    assert impls >= {(name, "leandnn") for name in patterns.PATTERNS} | {("unstructured", "torch.mm")}
    assert (("unstructured", "torch.csr") in impls) == (product == "forward")
    assert all(r["case"]["product"] == product and r["case"]["what"] == "product" for r in rows)
    assert {r["work"] for r in rows} == {2 * 256 * 256 // 4 * 16 / 1e9}


def test_pruning_is_timed_in_its_forms_beside_torch():
    rows = patterns._pruning(1, side=256)
    assert [r["impl"] for r in rows] == ["leandnn"] * 4 + ["torch.l1_unstructured"]
    assert all(r["unit"] == "Mweights" and r["work"] == 256 * 256 / 1e6 for r in rows)


def test_the_summary_compares_with_rbgp4_and_csr():
    rows = [*patterns._product((256, 256, 16), 75.0, "forward", 1), *patterns._pruning(1, side=256)]
    text = patterns.summary(rows)
    assert "pruning 256 × 256 to 64, 4×4 (leandnn)" in text
    line = next(line for line in text.splitlines() if "hbs64-8x8" in line)
    assert all(peer in line for peer in ("× RBGP4", "× own CSR", "× torch.csr"))


def test_layers_of_the_small_net_are_measured_in_every_pattern(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(nets.NETS, "SmallVGG", (nets.NETS["SmallVGG"][0], 2))
    rows = nets.layers("SmallVGG", 75.0, 1)
    assert len({r["case"]["layer"] for r in rows}) == 5
    first = [r for r in rows if r["case"]["size"] == "16→32 at 16×16"]
    assert {r["case"]["pattern"] for r in first} == {
        *nets.LAYERS,
        "block4x4",
        "unstructured",
        "rbgp4",
        "dense",
    }
    assert {r["work"] for r in first} == {2 * 32 * 144 // 4 * 2 * 256 / 1e9}


def test_a_whole_net_runs_in_the_arms_of_all_studies():
    found = nets.arms()
    expected = {f"blocksparse/{c.name}/{arm}" for c in shared.COMPARISONS.values() for arm in c.arms}
    expected |= {f"hbsnn/{c.name}/{arm}" for c in study.COMPARISONS.values() for arm in c.arms}
    assert set(found) >= expected
    assert found["blocksparse/baselines/dense"] == (0.0, {})
    chosen = {name: found[name] for name in ("blocksparse/baselines/dense", "hbsnn/patterns/hierarchical")}
    rows = nets.whole_net(chosen, 2, 1)
    dense, ours = chosen
    assert [(r["case"]["what"], r["case"]["arm"], r["impl"]) for r in rows] == [
        ("net", dense, "torch.dense"),
        ("net", dense, "torch.dense (contiguous)"),
        ("net", ours, "leandnn"),
        ("pruned layers", dense, "torch.dense"),
        ("pruned layers", ours, "leandnn"),
    ]
    assert rows[-1]["case"]["sparsity"] == 87.5


def test_rounds_of_the_speed_claim_are_of_all_layers(monkeypatch: pytest.MonkeyPatch):
    rules = {
        "unstructured": shared.select("unstructured"),
        "hierarchical": study.FORMS["hierarchical"].select(0),
    }
    seen: list[str] = []
    convolve = nets.BlockSparseConv2d.forward

    def note(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
        if len(x) == 2:  # the check takes one image
            seen.append(self.pattern.kind)
        return convolve(self, x)

    monkeypatch.setattr(nets.BlockSparseConv2d, "forward", note)
    found = nets.rounds(rules, 2, 2)
    assert {arm: len(times) for arm, times in found.items()} == dict.fromkeys(rules, 2)
    # A round to warm up and two more, in each both arms, in each VGG19's convolutions but the first.
    assert len(seen) == 90
    rounds = [[seen[i : i + 15], seen[i + 15 : i + 30]] for i in range(0, 90, 30)]
    assert all(sorted(own) == [["hierarchical"] * 15, ["unstructured"] * 15] for own in rounds)


def test_a_wrong_layer_stops_the_bench(monkeypatch: pytest.MonkeyPatch):
    conv = nn.Conv2d(16, 16, 3, padding=1, bias=False)
    pattern = prune.blocks((4, 4), 0.75)(conv.weight, 1.0)
    other = Pattern.blocks(~pattern.mask()[::4, ::4], (4, 4))
    monkeypatch.setattr(
        nets.BlockSparseConv2d,
        "forward",
        lambda self, x: F.conv2d(x, conv.weight * other.mask().view_as(conv.weight), padding=1),
    )
    case = {"net": "a net", "layer": "1", "sparsity": 75.0}
    with pytest.raises(LeandnnError, match="block4x4 in .* is wrong"):
        nets._layer_rows(conv, torch.randn(1, 16, 4, 4), {"block4x4": pattern}, case, 1)
