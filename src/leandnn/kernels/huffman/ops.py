"""What layers do with a coded matrix: decode it, multiply by it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from leandnn.kernels import dispatch
from leandnn.kernels.huffman import checksum, reference
from leandnn.kernels.huffman.encode import Slots
from leandnn.kernels.huffman.format import LANES, Coded, CodedError

_CPU: Any = {
    "dtype": torch.float32,
    "device": "cpu",
}  # of what the kernels write, whatever torch's defaults are
TILE = 64  # columns of x that are multiplied by one decoding

# The extension's own tables of a matrix, as long as it lives.
_prepared: weakref.WeakKeyDictionary[Coded, Any] = weakref.WeakKeyDictionary()


def prepare(coded: Coded) -> Any:
    """The extension's object for a matrix, or None where the reference serves."""
    native = dispatch.native()
    if native is None:
        return None
    found = _prepared.get(coded)
    if found is None:
        found = _prepared[coded] = native.Coded(
            rows=coded.rows,
            columns=coded.columns,
            lanes=coded.layout == "lanes",
            advance_lengths=coded.advance_lengths,
            weight_lengths=coded.weight_lengths,
            codebook=coded.codebook,
            counts=np.ascontiguousarray(coded.counts).view(np.uint8),
            count_bytes=coded.counts.itemsize,
            offsets=coded.offsets,
            data=coded.data,
        )
    return found


def _run(call: Callable[..., None], **arguments: Any) -> None:
    try:
        call(**arguments, threads=torch.get_num_threads())
    except RuntimeError as error:
        raise CodedError(str(error)) from error


def decode(coded: Coded, out: Tensor | None = None) -> Tensor:
    """The matrix, rows × columns, float32.

    - out: where to write: float32, contiguous, of that shape, on the CPU or a GPU; a new tensor on the CPU if None.

    A GPU decodes "lanes" itself, by a Triton kernel; "streams" are decoded on the CPU and copied. Raises CodedError
    for broken streams and ValueError for another `out`.
    """
    if out is None:
        out = torch.empty(coded.shape, **_CPU)
    elif (
        out.dtype != torch.float32
        or tuple(out.shape) != coded.shape
        or not out.is_contiguous()
        or out.device.type not in ("cpu", "cuda")
    ):
        raise ValueError(
            f"out is {out.dtype} {tuple(out.shape)} on {out.device}, "
            f"expected contiguous torch.float32 {coded.shape} on the CPU or a GPU"
        )
    if coded.layout == "lanes" and (out.is_cuda or dispatch.active() == "triton"):
        from leandnn.kernels.huffman import gpu

        return gpu.decode(coded, out)
    if out.is_cuda:
        return out.copy_(decode(coded))
    own = prepare(coded)
    if own is None:
        return out.copy_(torch.from_numpy(reference.dense(coded)))
    _run(own.dense, out=out.data_ptr())
    return out


def slots(coded: Coded) -> Slots:
    """Advances and weights of all slots, row by row; CodedError for broken streams."""
    own = prepare(coded)
    if own is None:
        return reference.slots(coded)
    advances, weights = np.empty(coded.slots, np.uint8), np.empty(coded.slots, np.uint8)
    _run(own.slots, advances=advances.ctypes.data, weights=weights.ctypes.data)
    return Slots(coded.counts.astype(np.int64), advances, weights)


def symbols_nbytes(coded: Coded) -> int:
    """Bytes that symbols writes."""
    if coded.layout == "streams":
        return 2 * coded.slots
    return 2 * LANES * int(coded.counts[coded.order[::LANES]].sum(dtype=np.int64))


def symbols(coded: Coded, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """All symbols, two a slot, a byte each, in the order in which they are stored: what decoding alone has to do.

    - out: where to write them, uint8 (symbols_nbytes,); a new array if None.

    Order, group by group: of "lanes" for each step and each two neighbouring lanes both advances, then both weights,
    zeros for lanes whose rows have ended; of "streams" all advances, then all weights.

    CodedError for broken streams, but for rows that lead out of the matrix: columns are not computed.
    """
    size = symbols_nbytes(coded)
    if out is None:
        out = np.empty(size, np.uint8)
    elif out.dtype != np.uint8 or out.shape != (size,) or not out.flags.c_contiguous:
        raise ValueError(f"out is {out.dtype} {out.shape}, expected uint8 ({size},)")
    own = prepare(coded)
    if own is None:
        out[:] = reference.symbols(coded)
    else:
        _run(own.symbols, out=out.ctypes.data)
    return out


def to_csr(coded: Coded) -> Tensor:
    """The matrix in torch's CSR form, 32-bit indices; fillers are stored as zeros. CodedError for broken streams."""
    begins = np.concatenate([[0], np.cumsum(coded.counts, dtype=np.int64)])
    if begins[-1] >= 1 << 31:
        raise CodedError(f"the matrix has {begins[-1]} slots, CSR with 32-bit indices holds fewer than 2^31")
    columns = torch.empty(coded.slots, dtype=torch.int32, device="cpu")
    values = torch.empty(coded.slots, **_CPU)
    own = prepare(coded)
    if own is None:
        found = reference.slots(coded)
        columns.copy_(torch.from_numpy(reference.positions(coded, found)[1]))
        values.copy_(torch.from_numpy(coded.codebook[found.weights]))
    else:
        _run(own.compressed_rows, columns=columns.data_ptr(), values=values.data_ptr())
    rows = torch.from_numpy(begins.astype(np.int32))
    return torch.sparse_csr_tensor(rows, columns, values, coded.shape, **_CPU, check_invariants=False)


def linear(coded: Coded, x: Tensor, bias: Tensor | None = None) -> Tensor:
    """X · Wᵀ + bias with the coded matrix W, float32, on the CPU; W is decoded in small pieces only.

    - x: (…, columns). bias: (rows,) or None.

    Returns (…, rows), in memory feature by feature (the transpose of a contiguous rows × N matrix) unless N is 1. An
    x laid out like that is multiplied as it is if it has at most 64 rows; another is copied, 64 rows at a time. W is
    decoded once for each 64 rows of x.

    Weights of zero take no part, but fillers do: where x is not finite, the result at zeros is not defined. No gradient
    is recorded. Raises CodedError for broken streams and ValueError for another x or bias.
    """
    if x.dtype != torch.float32 or not x.is_cpu or x.dim() == 0 or x.shape[-1] != coded.columns:
        raise ValueError(
            f"x is {x.dtype} {tuple(x.shape)} on {x.device}, expected float32 (…, {coded.columns}) on the CPU"
        )
    if bias is not None and (
        bias.dtype != torch.float32 or tuple(bias.shape) != (coded.rows,) or not bias.is_cpu
    ):
        raise ValueError(f"bias is {bias.dtype} {tuple(bias.shape)}, expected float32 ({coded.rows},)")
    own = prepare(coded)
    with torch.no_grad():
        if own is None:
            return F.linear(x, torch.from_numpy(reference.dense(coded)), bias)
        tokens = x.reshape(-1, coded.columns)
        y = torch.empty((coded.rows, tokens.shape[0]), **_CPU)
        if bias is not None:
            bias = bias.contiguous()
        for begin in range(0, tokens.shape[0], TILE):
            part = _feature_major(tokens[begin : begin + TILE])
            _run(
                own.product,
                x=part.data_ptr(),
                x_ld=part.stride(0) if part.shape[1] > 1 else 1,
                n=part.shape[1],
                y=y[:, begin:].data_ptr(),
                y_ld=y.shape[1],
                bias=0 if bias is None else bias.data_ptr(),
            )
            del part  # before the next one is made
        return y.t().reshape(*x.shape[:-1], coded.rows)


def _feature_major(tokens: Tensor) -> Tensor:
    """The transpose of n <= 64 rows, contiguous (columns × n): tokens' own memory where that lies so.

    Rows that lie further apart are copied, too: at a large power of two they would share few sets of a cache.
    """
    return transposed(tokens.resolve_neg())


def transposed(x: Tensor) -> Tensor:
    """The transpose of a float32 matrix on the CPU, contiguous: x's own memory where that lies so."""
    rows, columns = x.shape
    native = dispatch.native()
    if native is None or rows == 1 or columns == 1 or x.stride(1) != 1:
        return x.t().contiguous()
    out = torch.empty((columns, rows), **_CPU)
    native.transpose(x=x.data_ptr(), x_ld=x.stride(0), rows=rows, columns=columns, out=out.data_ptr())
    return out


def crc32c(data: NDArray[np.uint8]) -> int:
    """CRC32C of bytes (one-dimensional, contiguous uint8)."""
    native = dispatch.native()
    return checksum.crc32c(data) if native is None else int(native.crc32c(data))
