"""Peak memory of a net's forward pass, measured in a process of its own: `python -m leandnn.bench.rbgp.memory …`.

Linux with the GNU C library only: the process gives freed memory back and resets its high-water mark before the
pass.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys

from leandnn.errors import LeandnnError
from leandnn.machine import memory

MIB = 1 << 20


def measure(impl: str, batch: int, sparsity: float) -> dict[str, float]:
    """MiB that VGG19 needs: {"weights_mib": numbers and indices, "peak_mib": resident at most beyond the libraries}.

    - impl: "torch.dense", "onednn" or a pattern of bench/rbgp/nets.py; batch, sparsity (percent): of the pass.

    Raises LeandnnError with the child's last words where it fails.
    """
    command = [sys.executable, "-m", "leandnn.bench.rbgp.memory", impl, str(batch), str(sparsity)]
    # Large blocks go back to the system at once; else what was freed before would hide what is needed now.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        words = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise LeandnnError(f"the memory of {impl} cannot be measured: {words[0]}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main(impl: str, batch: int, sparsity: float) -> None:
    """Measure in this process and print JSON."""
    import torch
    from torch import nn

    from leandnn.bench.rbgp import nets, peers
    from leandnn.blocksparse.inference import Folded
    from leandnn.machine import determinism

    determinism.configure(seed=0, threads=1)
    x = torch.randn(batch, 3, 32, 32)
    with torch.inference_mode():
        # What the first pass of any net loads is not the net's.
        tiny = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).eval()
        peers.onednn(tiny, x[:1])(x[:1])
        gc.collect()
        before = memory.reset_peak()
        net: nn.Module
        if impl == "torch.dense":
            net = nets.dense("VGG19")
        elif impl == "onednn":
            net = peers.onednn(nets.dense("VGG19"), x[:1])
        else:
            net = nets.sparse("VGG19", impl, sparsity)
        net(x)  # patterns are prepared at the first pass
        gc.collect()
        memory.reset_peak()
        net(x)
    numbers = [*net.parameters(), *net.buffers()]
    numbers += [m.packed for m in net.modules() if isinstance(m, peers.OneDnnConv2d)]
    index = sum(m.pattern.index_nbytes for m in net.modules() if isinstance(m, Folded))
    weights = sum(t.numel() * t.element_size() for t in numbers) + index
    print(json.dumps({"weights_mib": weights / MIB, "peak_mib": (memory.peak() - before) / MIB}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
