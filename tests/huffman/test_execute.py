"""Models in units with batch sizes of their own: the same results, in order, whatever the sizes."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leandnn.bench.huffman import peers as huffman_peers
from leandnn.bench.huffman import plans as huffman_plans
from leandnn.errors import LeandnnError
from leandnn.huffman import BatchPlan, Compressed, compress, load
from leandnn.huffman.chain import units
from leandnn.huffman.decoders import Decoder

SHAPE = (3, 16, 16)


def chain() -> Compressed:
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout()),
        *(nn.Linear(128, 32), nn.ReLU(inplace=True), nn.Dropout()),
        nn.Linear(32, 5),
    )
    return compress(net, density=0.4)


class Residual(nn.Module):
    """Two blocks whose inputs are needed behind their layers, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.a, self.b = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(x + self.b(F.relu(self.a(x))))
        x = F.adaptive_avg_pool2d(x, 1)
        return self.head(x.view(x.size(0), -1))


def plan_of(model: Compressed, batches: tuple[int, ...]) -> BatchPlan:
    return BatchPlan(tuple(unit.name for unit in units(model)), batches, 1.0, 1.0, 1)


def test_a_unit_is_a_coded_layer_and_what_follows_it():
    model = chain()
    found = units(model)
    assert [unit.name for unit in found] == ["0", "3", "8", "11"]
    x = torch.randn(2, *SHAPE)
    shapes = [x.shape[1:]]
    for unit in found:
        x = unit.call(x)
        shapes.append(x.shape[1:])
    assert [tuple(own) for own in shapes] == [SHAPE, (8, 8, 8), (128,), (32,), (5,)]


def test_a_net_with_branches_is_cut_where_one_tensor_goes_on(tmp_path: Path):
    compress(Residual()).save(tmp_path / "m.lhuf")
    model = load(tmp_path / "m.lhuf")
    found = units(model)
    assert [unit.name for unit in found] == ["stem", "a", "head"]  # b runs with a
    images = torch.randn(7, *SHAPE)
    results = torch.stack(list(plan_of(model, (2, 3, 1)).run(model, images)))
    torch.testing.assert_close(results, model(images))


def test_results_are_the_models_in_order_for_any_batch_sizes():
    model = chain()
    images = torch.randn(14, *SHAPE)
    expected = model(images)
    for batches in (*itertools.product((1, 2, 6), repeat=4), (4, 3, 5, 2), (5, 5, 2, 3)):
        plan = plan_of(model, batches)
        for count in (0, 1, 5, 12, 14):
            results = list(plan.run(model, iter(images[:count])))
            assert len(results) == count, batches
            for got, want in zip(results, expected, strict=False):
                torch.testing.assert_close(got, want)


@pytest.mark.parametrize("decoder", [huffman_peers.csr, huffman_plans.slow])
def test_every_decoder_gives_the_layers_results(decoder: Decoder):
    model = chain()
    images = torch.randn(9, *SHAPE)
    results = plan_of(model, (2, 4, 4, 8)).run(model, images, decoder)
    torch.testing.assert_close(torch.stack(list(results)), model(images))


def test_an_image_is_taken_only_when_no_unit_has_a_whole_batch():
    model = chain()
    taken = 0

    def queue() -> Iterator[Tensor]:
        nonlocal taken
        for image in torch.randn(8, *SHAPE):
            taken += 1
            yield image

    results = plan_of(model, (2, 4, 2, 1)).run(model, queue())
    assert taken == 0
    seen = []
    for _ in results:
        seen.append(taken)
    assert seen == [4, 4, 4, 4, 8, 8, 8, 8]


def test_images_and_what_the_queue_gives_are_left_as_they_are():
    torch.manual_seed(0)
    model = compress(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True)))
    images = torch.randn(6, *SHAPE)
    before = images.clone()
    for batches in ((1,), (4,)):
        list(plan_of(model, batches).run(model, images))
        assert torch.equal(images, before)


def test_a_wrong_image_or_model_is_refused():
    model = chain()
    plan = plan_of(model, (2, 2, 2, 2))
    mixed = [torch.randn(SHAPE), torch.randn(SHAPE), torch.randn(3, 15, 16)]
    results = plan.run(model, mixed)
    with pytest.raises(
        ValueError, match=r"image 2 is torch.float32 \(3, 15, 16\) on cpu, expected .* \(3, 16, 16\)"
    ):
        list(results)
    with pytest.raises(ValueError, match=r"image 0 is torch.float64"):
        list(plan.run(model, [torch.randn(SHAPE, dtype=torch.float64)]))
    with pytest.raises(LeandnnError, match="the plan is for units 0, 3, 8, 11, the model has stem, a, head"):
        plan.run(compress(Residual()), [])

    class Untraceable(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x) if x.sum() > 0 else x

    with pytest.raises(LeandnnError, match="cannot be cut into units: the model cannot be traced"):
        plan.run(compress(Untraceable()), [])


PROBE = Path(__file__).with_name("memory_probe.py")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="NOT CHECKED: peaks of memory are counted on Linux only")
@pytest.mark.parametrize("decoder", ["fused", "csr"])
def test_the_memory_of_a_plan_is_what_the_process_takes(decoder: str):
    """Within 10 %: the model of memory against the growth of a fresh process's resident memory."""
    done = subprocess.run(
        [sys.executable, str(PROBE), decoder],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert len(rows) >= 5
    wrong = [row for row in rows if not 0.9 <= row["said"] / row["measured"] <= 1.1]
    assert not wrong, rows
