"""Export: the same function as CSR, the nearest blocks, and training on in them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.autosparse.problems import SETTINGS, Killed, Shapes, killed_at
from torch import nn

from leandnn.autosparse import AutoSparse, Options, export, flops
from leandnn.autosparse.accounting import Accounting
from leandnn.blocksparse import BlockSparseConv2d
from leandnn.train.loop import train

EXCLUDE = ("0", "12")
IMAGE = (3, 8, 8)
BLOCKS = ((8, 12), (4, 1))


def trained() -> nn.Module:
    torch.manual_seed(0)
    net = Shapes().build().eval()
    AutoSparse(net, exclude=EXCLUDE, init=-3.0).remove()
    return net


def test_csr_computes_the_same_with_the_non_zeros_alone():
    net = trained()
    x = torch.randn(4, 3, 8, 8)
    expected, ledger = net(x), flops.ledger(net, IMAGE)
    dense = export.weight_bytes(net)
    out = export.to_csr(net)
    assert [type(out[i]) for i in (3, 7)] == [BlockSparseConv2d] * 2
    assert isinstance(out[0], nn.Conv2d)
    assert torch.allclose(out(x), expected, atol=1e-5)
    assert flops.ledger(out, IMAGE).inference_macs == ledger.inference_macs
    assert out[7].pattern.nnz == round(ledger.densities["7"] * 2304)
    assert export.weight_bytes(out) < dense


def test_grouped_convolutions_stay_as_they_are():
    net = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 1))
    with torch.no_grad():
        for layer in net:
            layer.weight.mul_(torch.rand_like(layer.weight) < 0.5)
    out = export.to_csr(net)
    assert type(out[0]) is nn.Conv2d
    assert type(out[1]) is BlockSparseConv2d


@pytest.mark.parametrize("density", [0.05, 0.2, 0.6, 1.0])
def test_the_nearest_pattern_keeps_the_heavy_blocks(density: float):
    weight = torch.randn(32, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    weight[8:16, :2] *= 20  # a heavy corner
    pattern = export.nearest(weight, density, BLOCKS)
    assert pattern.kind == "hierarchical"
    assert pattern.nnz == pytest.approx(density * weight.numel(), abs=4)
    mask = pattern.mask()
    blocks = mask.view(8, 4, 72).sum(1)
    assert ((blocks == 0) | (blocks == 4)).all()
    coarse = mask.view(4, 8, 6, 12).any(3).any(1)
    assert int(coarse.sum()) <= max(1, round(min(1.0, 2 * density) * 24))
    assert mask[8:16, :18].double().mean() >= min(1.0, density * 4)
    assert torch.equal(mask, export.nearest(weight, density, BLOCKS).mask())


def test_the_nearest_pattern_keeps_more_than_a_random_one():
    weight = torch.randn(32, 96, generator=torch.Generator().manual_seed(0))
    kept = weight.abs()[export.nearest(weight, 0.2, BLOCKS).mask()].sum() / weight.abs().sum()
    assert kept > 0.25


@pytest.mark.parametrize(
    ("weight", "density", "match"),
    [
        (torch.randn(30, 96), 0.5, r"blocks of \(8, 12\) do not divide the 30 × 96"),
        (torch.randn(32, 96), 0.0, "density is 0.0"),
        (torch.zeros(32, 96), 0.5, "all zero"),
    ],
)
def test_what_has_no_nearest_pattern_is_refused(weight: torch.Tensor, density: float, match: str):
    with pytest.raises(ValueError, match=match):
        export.nearest(weight, density, BLOCKS)


def hardened() -> tuple[export.Hardened, Accounting]:
    options = Options(exclude=EXCLUDE, target=0.7, reached=0.3, every=2)
    hook = export.Hardened(options, at=0.5, blocks=BLOCKS)
    return hook, Accounting(hook, batch_size=16, input_shape=IMAGE)


def test_a_hardened_net_keeps_its_sparsity_in_its_patterns():
    hook, record = hardened()
    result = train(Shapes(), SETTINGS, (hook, record))
    assert result.metrics["sparsity"] == pytest.approx(0.7, abs=0.01)
    for name in ("3", "7"):
        weight = result.model.get_submodule(name).weight
        blocks = (weight.flatten(1) != 0).view(4, 4, -1).sum(1)
        assert ((blocks == 0) | (blocks == 4)).all()
    assert result.metrics["test_accuracy"] > 0.5
    x = next(Shapes().batches(0, 0))[0]
    expected = result.model(x)
    plain = hook.sparse.remove()
    out = export.to_hierarchical(plain, BLOCKS)
    assert type(out[7]) is BlockSparseConv2d
    assert out[7].pattern.kind == "hierarchical"
    assert torch.allclose(out(x), expected, atol=1e-4)


@pytest.mark.parametrize("kill_at", [33, 80])
def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path, kill_at: int):
    unbroken = train(Shapes(), SETTINGS, hardened())
    path = tmp_path / "run.ckpt"
    with pytest.raises(Killed):
        train(
            Shapes(),
            SETTINGS,
            hardened(),
            checkpoint_path=path,
            checkpoint_every_s=-1.0,
            progress=killed_at(kill_at),
        )
    resumed = train(Shapes(), SETTINGS, hardened(), checkpoint_path=path)
    assert resumed.weights_sha256 == unbroken.weights_sha256
    assert resumed.history == unbroken.history


def test_hardening_before_the_target_is_refused():
    with pytest.raises(ValueError, match="at is 0.2, expected a share from 0.3"):
        export.Hardened(Options(target=0.8, reached=0.3), at=0.2)
