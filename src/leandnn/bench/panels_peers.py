"""What the panel products are compared with: oneDNN, torch's CSR and BSR (MKL), SciPy, DeepSparse if installed."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

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
