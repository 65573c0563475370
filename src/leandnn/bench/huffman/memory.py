"""Memory of one coded layer, measured in a process of its own: `python -m leandnn.bench.huffman.memory …`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from leandnn.errors import LeandnnError
from leandnn.huffman.layers import HuffmanLinear, Workspace
from leandnn.huffman.model import Compressed
from leandnn.machine import memory


def measure(layer: HuffmanLinear, batch: int) -> int | None:
    """Bytes by which a process grows that loads a layer and runs it on a batch, x and the result left out.

    None where the system does not count peaks. Raises LeandnnError with the child's last words where it fails.
    """
    try:
        memory.reset_peak()
    except LeandnnError:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "layer.lhuf"
        Compressed(layer, Workspace()).save(path)
        command = [sys.executable, "-m", "leandnn.bench.huffman.memory"]
        command += [str(path), str(layer.in_features), str(batch)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        words = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise LeandnnError(f"the memory of {layer} cannot be measured: {words[0]}")
    return int(done.stdout)


def main(path: str, features: int, batch: int) -> None:
    """Measure in this process and print bytes."""
    import torch
    from torch import nn

    from leandnn import huffman
    from leandnn.machine import determinism

    determinism.configure(seed=0, threads=1)
    # What the first model of any kind loads is not the layer's.
    with tempfile.TemporaryDirectory() as folder:
        tiny = Path(folder) / "tiny.lhuf"
        huffman.compress(nn.Linear(300, 200)).save(tiny)
        huffman.load(tiny)(torch.zeros(batch, 300))
    x = torch.randn(features, batch).t()
    before = memory.reset_peak()
    model = huffman.load(path)
    y = model(x)
    print(memory.peak() - before - y.nbytes)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
