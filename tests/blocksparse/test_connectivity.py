"""Spectral gaps and path counts against the masks themselves."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from leandnn.blocksparse import BlockSparseConv2d, BlockSparseLinear, Pattern
from leandnn.blocksparse.connectivity import (
    Connected,
    channel_mask,
    connectivity,
    path_counts,
    sparse_layers,
    spectral_gap,
)


def random(rows: int, columns: int, seed: int, sparsity: float = 0.75) -> Pattern:
    return Pattern.random_unstructured(rows, columns, sparsity, torch.Generator().manual_seed(seed))


def test_the_gap_is_that_of_the_masks_singular_values():
    pattern = random(24, 40, 0)
    values = torch.linalg.svdvals(pattern.mask().double())
    assert spectral_gap(pattern) == pytest.approx(1 - float(values[1] / values[0]))


def test_a_complete_pattern_has_gap_1_two_components_gap_0():
    assert spectral_gap(Pattern.unstructured(torch.ones(4, 6, dtype=torch.bool))) == pytest.approx(1)
    assert spectral_gap(Pattern.unstructured(torch.ones(4, 1, dtype=torch.bool))) == 1
    apart = torch.block_diag(torch.ones(3, 3), torch.ones(3, 3)).bool()
    assert spectral_gap(Pattern.unstructured(apart)) == pytest.approx(0, abs=1e-12)
    assert spectral_gap(Pattern.unstructured(torch.zeros(3, 3, dtype=torch.bool))) == 0


def test_a_window_that_is_kept_whole_changes_nothing():
    mask = random(12, 16, 1).mask()
    whole = Pattern.unstructured(mask.repeat_interleave(9, dim=1))
    assert spectral_gap(whole) == pytest.approx(spectral_gap(Pattern.unstructured(mask)))
    assert torch.equal(channel_mask(whole, 9), mask)


def test_a_channel_is_seen_through_any_of_its_weights():
    mask = torch.zeros(2, 8, dtype=torch.bool)
    mask[0, 3] = mask[1, 4] = mask[1, 7] = True
    assert channel_mask(Pattern.unstructured(mask), 4).tolist() == [[True, False], [False, True]]
    with pytest.raises(ValueError, match="a window of 3 does not divide the 8 columns"):
        channel_mask(Pattern.unstructured(mask), 3)


def test_paths_are_counted_one_by_one():
    layers = [random(5, 4, 2, 0.4).mask(), random(6, 5, 3, 0.4).mask(), random(3, 6, 4, 0.4).mask()]
    counts = path_counts(layers)
    for o in range(3):
        for i in range(4):
            paths = sum(
                bool(layers[0][a, i] and layers[1][b, a] and layers[2][o, b])
                for a in range(5)
                for b in range(6)
            )
            assert counts[o, i] == paths


def test_metrics_of_a_chain_and_of_layers_that_are_none():
    first, second = random(8, 6, 5), random(4, 8, 6)
    found = connectivity([(first, 1), (second, 1)])
    counts = path_counts([first.mask(), second.mask()])
    gaps = [spectral_gap(first), spectral_gap(second)]
    assert found["spectral_gap"] == pytest.approx(sum(gaps) / 2)
    assert found["smallest_gap"] == min(gaps)
    assert found["path_share"] == pytest.approx(float((counts > 0).double().mean()))
    assert 0 < found["path_share"] < 1
    assert found["path_spread"] == pytest.approx(float(counts.std(correction=0) / counts.mean()))
    assert set(connectivity([(second, 1), (second, 1)])) == {"spectral_gap", "smallest_gap"}
    assert connectivity([]) == {}
    full = Pattern.unstructured(torch.ones(4, 4, dtype=torch.bool))
    assert connectivity([(full, 1), (full, 1)]) == pytest.approx(
        {"spectral_gap": 1, "smallest_gap": 1, "path_share": 1, "path_spread": 0}
    )


def test_the_layers_of_a_model_come_with_their_windows():
    conv = BlockSparseConv2d(random(8, 4 * 9, 7), 4, 3)
    linear = BlockSparseLinear(random(3, 8, 8))
    model = nn.Sequential(nn.Conv2d(3, 4, 3), conv, nn.Flatten(), linear)
    assert sparse_layers(model) == [(conv.pattern, 9), (linear.pattern, 1)]


@pytest.mark.parametrize("masks", [[], [torch.ones(2, 3).bool(), torch.ones(2, 3).bool()]])
def test_what_is_no_chain_is_refused(masks: list[torch.Tensor]):
    with pytest.raises(ValueError, match="there are no masks|layer 1 has 3 inputs, expected 2"):
        path_counts(masks)


def test_the_hook_reports_layers_in_the_models_order():
    conv, dense = BlockSparseConv2d(random(8, 4 * 9, 7), 4, 3), nn.Linear(8, 3)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), conv, nn.Flatten(), dense)
    masks: dict[str, Pattern] = {}
    hook = Connected(lambda: masks)
    hook.attach(model, torch.optim.SGD(model.parameters(), lr=0.1))
    assert hook.epoch_end(0) == connectivity([(conv.pattern, 9)])
    masks["3"] = random(3, 8, 9)
    assert hook.epoch_end(1) == connectivity([(conv.pattern, 9), (masks["3"], 1)])
    assert sparse_layers(model, {"0": random(4, 27, 3)})[0][1] == 9
