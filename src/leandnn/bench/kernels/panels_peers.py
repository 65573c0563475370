"""What the panel products are compared with: oneDNN, torch's CSR and BSR (MKL), SciPy, DeepSparse.

DeepSparse (1.8.0, its last) needs an environment of its own, with deepsparse, onnx==1.14.1, numpy<2 and
protobuf<4. The variable LEANDNN_DEEPSPARSE names that environment's Python; without it its rows are missing.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from leandnn.errors import LeandnnError

Call = Callable[[], object]

# Their matrix is another one of the same sparsity, or they compute no product.
UNCHECKED = frozenset(("torch.bsr16x16", "leandnn.csr", "torch.sum (reading)"))


def _blocks(weight: Tensor, size: int, sparsity: float) -> Tensor:
    """A matrix like `weight` with random square blocks at the same sparsity."""
    from leandnn.blocksparse import Pattern

    generator = torch.Generator().manual_seed(2)
    pattern = Pattern.random_blocks(weight.shape[0], weight.shape[1], (size, size), sparsity / 100, generator)
    return torch.randn(weight.shape, generator=generator) * pattern.mask()


def sparse(weight: Tensor, x: Tensor, sparsity: float) -> dict[str, Call]:
    """Implementation → call for weight · x in float32 (the calls return the product).

    - weight: M × K with zeros; x: K × N.
    """
    calls: dict[str, Call] = {}
    tokens = x.t().contiguous()
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, tokens.shape[0])
    calls["onednn.linear (prepacked)"] = lambda: torch.ops.mkldnn._linear_pointwise(
        tokens, packed, None, "none", [], ""
    ).t()
    with warnings.catch_warnings():  # torch calls its sparse layouts a beta at every use
        warnings.simplefilter("ignore")
        csr, bsr4 = weight.to_sparse_csr(), weight.to_sparse_bsr((4, 4))
        bsr16 = _blocks(weight, 16, sparsity).to_sparse_bsr((16, 16))
        csr @ x
    calls["torch.csr"] = lambda: csr @ x
    calls["torch.bsr4x4"] = lambda: bsr4 @ x
    calls["torch.bsr16x16"] = lambda: bsr16 @ x
    try:
        from scipy.sparse import csr_matrix
    except ImportError:
        return calls
    plain, columns = csr_matrix(weight.numpy()), x.numpy()
    calls["scipy.csr"] = lambda: torch.from_numpy(plain @ columns)
    return calls


class DeepSparse:
    """A process of the other environment that multiplies when called; the pipe adds some 30 microseconds."""

    def __init__(self, python: str, weight: Tensor, x: Tensor) -> None:
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        np.save(folder / "weight.npy", weight.numpy())
        np.save(folder / "x.npy", x.t().contiguous().numpy())
        worker = Path(__file__).with_name("deepsparse_worker.py")
        with (folder / "log").open("w") as log:
            self._process = subprocess.Popen(
                [python, str(worker), str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._ask, self._answer = self._process.stdin, self._process.stdout
        while (line := self._answer.readline()) != "ready\n":
            if not line:
                end = (folder / "log").read_text().strip().splitlines()[-1:] or ["it said nothing"]
                self.close()
                raise LeandnnError(f"LEANDNN_DEEPSPARSE={python} cannot run the product: {end[0]}")
        self._y = torch.from_numpy(np.load(folder / "y.npy")).t()

    def __call__(self) -> Tensor:
        """One product; returns the first one's result, which was kept."""
        self._ask.write("\n")
        self._ask.flush()
        self._answer.readline()
        return self._y

    def close(self) -> None:
        """End the process."""
        self._ask.close()
        self._process.wait()
        self._answer.close()
        self._folder.cleanup()


def deepsparse(weight: Tensor, x: Tensor) -> DeepSparse | None:
    """The product by DeepSparse, or None where LEANDNN_DEEPSPARSE is not set."""
    python = os.environ.get("LEANDNN_DEEPSPARSE")
    return DeepSparse(python, weight, x) if python else None
