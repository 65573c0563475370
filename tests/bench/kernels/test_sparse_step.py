"""The sparse training step: what is compared is the same net, and a wrong gradient stops the bench."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from leandnn.bench.kernels import sparse_step
from leandnn.blocksparse import BlockSparseConv2d, convert
from leandnn.errors import LeandnnError
from leandnn.kernels.panels import convolution
from leandnn.models.vgg import VGG19


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch):
    """Four convolutions, four images, one repeat."""
    monkeypatch.setattr(sparse_step, "VGG19", lambda: VGG19(((64, 2), (64, 1), (64, 1))))
    monkeypatch.setattr(sparse_step, "BATCH", 4)
    monkeypatch.setattr(sparse_step, "QUICK_CHECK", 4)
    monkeypatch.setattr(sparse_step, "QUICK_REPEATS", 1)
    monkeypatch.setattr(sparse_step, "STEPS", {50.0: 1.0, 75.0: 1.5})


@pytest.mark.parametrize("sparsity", [75.0, 87.5])
def test_all_convolutions_but_the_first_have_the_sparsity(sparsity: float):
    patterns = sparse_step._patterns(sparsity)
    assert len(patterns) == 3
    assert all(100 * p.sparsity == sparsity and p.kind == "rbgp4" for p in patterns.values())
    model = convert(sparse_step._net(), patterns)
    kinds = [type(m) for m in model.modules() if isinstance(m, nn.Conv2d | BlockSparseConv2d)]
    assert kinds == [nn.Conv2d, *[BlockSparseConv2d] * 3]


def test_the_sparse_and_the_masked_net_compute_the_same():
    patterns = sparse_step._patterns(75.0)
    images = torch.randn(2, 3, 32, 32)
    sparse, masked = convert(sparse_step._net(), patterns), sparse_step._masked(patterns)
    torch.testing.assert_close(sparse(images), masked(images), rtol=1e-3, atol=1e-4)


def test_masked_gradients_are_zero_outside_the_pattern():
    patterns = sparse_step._patterns(75.0)
    gradients = sparse_step._Step(sparse_step._masked(patterns), batch=2).gradients()
    for name, pattern in patterns.items():
        gradient = gradients[f"{name}.weight"].flatten(1)
        assert not gradient[~pattern.mask()].any()
        assert gradient[pattern.mask()].any()


def test_a_step_changes_the_values():
    step = sparse_step._Step(convert(sparse_step._net(), sparse_step._patterns(75.0)), batch=2)
    before = {name: p.detach().clone() for name, p in step.model.named_parameters()}
    step()
    changed = {name for name, p in step.model.named_parameters() if not torch.equal(p, before[name])}
    assert {name for name in before if name.endswith("values")} <= changed


def test_the_bench_refuses_to_measure_wrong_gradients(monkeypatch: pytest.MonkeyPatch):
    patterns = sparse_step._patterns(75.0)
    sparse_step._check(patterns, 4)
    with monkeypatch.context() as patch:
        patch.setattr(sparse_step, "LAYER_TOLERANCE", 1e-12)
        with pytest.raises(LeandnnError, match="the sparse step's output of .* is wrong"):
            sparse_step._check(patterns, 4)
    right = convolution.values_gradient
    monkeypatch.setattr(convolution, "values_gradient", lambda *args: right(*args) * 1.00001)
    with pytest.raises(LeandnnError, match="the sparse step's gradient of .* is wrong"):
        sparse_step._check(patterns, 4)


@pytest.mark.slow
def test_quick_rows_have_every_implementation():
    rows = sparse_step.rows(quick=True)
    assert [r["impl"] for r in rows] == [
        "leandnn",
        "torch.dense",
        "torch.dense (channels last)",
        "torch.masked",
        "torch.autocast",
    ]
    assert {r["case"]["sparsity"] for r in rows} == {50.0}
    assert "50.0 % sparse" in sparse_step.summary(rows)
