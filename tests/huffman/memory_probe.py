"""What plans say of memory, and by how much this process grows when it runs them; JSON on stdout. argv: decoder.

Each plan runs twice from loading on. The first time pays for code: of python and torch, and what oneDNN compiles for
the shapes. The second time is counted.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from leandnn.bench.huffman import peers as huffman_peers
from leandnn.huffman import BatchPlan, Costs, compress, load, plan, score
from leandnn.machine import memory

SHAPE = (3, 96, 96)
SIZES = (1, 2, 4, 8, 16)
DECODERS = {"fused": None, "csr": huffman_peers.csr}


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 32, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        *(nn.Conv2d(64, 128, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(4), nn.Flatten()),
        *(nn.Linear(128 * 36, 768), nn.ReLU(inplace=True)),
        nn.Linear(768, 10),
    )


def images(count: int) -> Iterator[Tensor]:
    for seed in range(count):
        yield torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def grown(path: Path, own: BatchPlan, decoder: str) -> int:
    def once() -> None:
        model = load(path)
        assert sum(1 for _ in own.run(model, images(35), DECODERS[decoder])) == 35

    once()
    return memory.growth(once)


def main(decoder: str) -> None:
    memory.return_freed()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.lhuf"
        compress(net(), density=0.3).save(path)
        model = load(path)
        costs = Costs.measure(model, SHAPE, SIZES, 1, decoder=DECODERS[decoder])
        del model
        chosen = [(1,) * 5, (4,) * 5, (16,) * 5, (1, 2, 4, 16, 16), (16, 8, 4, 2, 1), (2, 8, 8, 4, 16)]
        plans = [score(BatchPlan(costs.units, batches, 1.0, 1.0, 1), costs) for batches in chosen]
        plans.append(plan(None, costs=costs, memory=(plans[1].memory_nbytes + plans[2].memory_nbytes) // 2))
        rows = [
            {"batches": own.batches, "said": own.memory_nbytes, "measured": grown(path, own, decoder)}
            for own in plans
        ]
    print(json.dumps(rows))


if __name__ == "__main__":
    main(sys.argv[1])
