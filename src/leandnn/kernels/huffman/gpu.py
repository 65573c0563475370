"""Decoding on a GPU, by a Triton kernel: one program for each group of "lanes", one row a lane.

The words that lanes take next are ranked by a prefix sum over the lanes; tables of all 11 bits and the codebook stay
in the first-level cache. A group's steps follow one another, so that a matrix needs many groups to fill a GPU.

Triton is imported by the first call. With TRITON_INTERPRET=1 set before, CPU tensors work, slowly.
"""

from __future__ import annotations

import contextlib
import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from leandnn.kernels.huffman import codes
from leandnn.kernels.huffman.format import LANES, Coded, CodedError

WARPS = 1  # a prefix sum within one warp needs no shared memory, and no waiting for other warps


@dataclass(frozen=True)
class OnDevice:
    """A matrix's arrays on a device, as gpu_kernels.decode_lanes takes them."""

    data: Tensor
    offsets: Tensor
    order: Tensor
    counts: Tensor
    advances: Tensor
    weights: Tensor
    codebook: Tensor

    @classmethod
    def of(cls, coded: Coded, device: torch.device) -> OnDevice:
        """Copies of them; ValueError for another layout than "lanes"."""
        if coded.layout != "lanes":
            raise ValueError(f"the layout is {coded.layout!r}, the kernel decodes 'lanes'")

        def put(array: NDArray[Any]) -> Tensor:
            return torch.from_numpy(array).to(device)

        def table(lengths: NDArray[np.uint8]) -> Tensor:
            symbols, bits = codes.table(lengths, codes.LONGEST)
            return put(symbols.astype(np.int32) | bits.astype(np.int32) << 8)

        words = coded.data.view("<u2").astype(np.uint16)
        return cls(
            data=put((words if words.size else np.zeros(1, np.uint16)).view(np.int16)),
            offsets=put(coded.offsets.astype(np.int64)),
            order=put(coded.order.copy()),
            counts=put(coded.counts.astype(np.int32)),
            advances=table(coded.advance_lengths),
            weights=table(coded.weight_lengths),
            codebook=put(coded.codebook.copy()),
        )


_kept: weakref.WeakKeyDictionary[Coded, dict[torch.device, OnDevice]] = weakref.WeakKeyDictionary()


def decode(coded: Coded, out: Tensor) -> Tensor:
    """Decode into `out`: float32, contiguous, rows × columns, on a GPU; returns it.

    The coded arrays are copied to the device by the first call and stay there as long as `coded` lives. Waits for the
    result. Raises CodedError for broken streams and ValueError for another layout than "lanes".
    """
    kept = _kept.setdefault(coded, {})
    own = kept.get(out.device)
    if own is None:
        own = kept[out.device] = OnDevice.of(coded, out.device)
    status = torch.empty(coded.groups, dtype=torch.int32, device=out.device)
    out.zero_()
    arguments = {
        **vars(own),
        "out": out,
        "status": status,
        "rows": coded.rows,
        "columns": coded.columns,
        "LANES": LANES,
        "LONGEST": codes.LONGEST,
        "NARROW": coded.narrow,
        "num_warps": WARPS,
    }
    _run((coded.groups,), out, arguments)
    found = int(torch.max(status))
    if found & 4:
        raise CodedError("a row leads out of the matrix")
    if found:
        short = bool((status & 1).any())
        raise CodedError(f"a group's stream {'ends before' if short else 'goes on after'} its rows")
    return out


def _run(grid: tuple[int, ...], out: Tensor, arguments: dict[str, Any]) -> None:
    """Launch the kernel where `out` is; ValueError where there is nothing to run it."""
    import triton

    from leandnn.kernels.huffman import gpu_kernels

    kernel = gpu_kernels.decode_lanes
    if not out.is_cuda and isinstance(kernel, triton.JITFunction):
        raise ValueError(f"out is on {out.device}, expected a GPU (or TRITON_INTERPRET=1 before the start)")
    with torch.cuda.device(out.device) if out.is_cuda else contextlib.nullcontext():
        kernel[grid](**arguments)
