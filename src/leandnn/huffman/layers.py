"""Layers whose weights stay Huffman-coded while they compute. For inference: they record no gradient."""

from __future__ import annotations

import threading

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leandnn.kernels.huffman import ops
from leandnn.kernels.huffman.format import Coded

LARGEST_DENSE = 1 << 28  # weights of a convolution at most: 1 GiB when decoded


class Workspace:
    """Memory that convolutions decode their weights into, one after another: as large as the largest of them.

    Whoever takes it holds `lock` until what was decoded there is used: a model may be called from several threads.
    A copy, pickled or deep, has memory and a lock of its own.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._memory = _floats(0)

    def __reduce__(self) -> tuple[type[Workspace], tuple[()]]:
        return Workspace, ()

    def take(self, rows: int, columns: int) -> Tensor:
        """A float32 matrix of rows × columns, valid until the next call."""
        if self._memory.numel() < rows * columns:
            self._memory = _floats(0)  # the old one goes before the new one comes
            self._memory = _floats(rows * columns)
        return self._memory[: rows * columns].view(rows, columns)

    @property
    def nbytes(self) -> int:
        """Bytes held now."""
        return self._memory.numel() * 4


def _floats(count: int) -> Tensor:
    """float32 on the CPU whatever torch's defaults are, and to be written to outside inference mode, too."""
    with torch.inference_mode(False):
        return torch.empty(count, dtype=torch.float32, device="cpu")


class HuffmanLayer(nn.Module):
    """What both kinds have: `coded`, the matrix (out × in, or out_channels × in_channels/groups·kh·kw), and a bias.

    - bias: float32 (rows,), or None.
    """

    bias: Tensor | None

    def __init__(self, coded: Coded, bias: Tensor | None) -> None:
        super().__init__()
        if bias is not None and (tuple(bias.shape) != (coded.rows,) or bias.dtype != torch.float32):
            raise ValueError(f"bias is {bias.dtype} {tuple(bias.shape)}, expected float32 ({coded.rows},)")
        self.coded = coded
        self.register_buffer("bias", bias)

    def _check(self, x: Tensor) -> None:
        if torch.is_grad_enabled() and x.requires_grad:
            raise RuntimeError("Huffman-coded layers are for inference: call the model under torch.no_grad()")

    @property
    def weight_nbytes(self) -> int:
        """Bytes of the coded weight."""
        return self.coded.nbytes

    @property
    def table_nbytes(self) -> int:
        """Bytes of the decoder's tables, which are made at the first call and kept."""
        own = ops.prepare(self.coded)
        return 0 if own is None else int(own.table_bytes)

    @property
    def scratch_nbytes(self) -> int:
        """Bytes that the threads decode in: of each a few blocks of slots, never the matrix."""
        own = ops.prepare(self.coded)
        return 0 if own is None else int(own.scratch_bytes) * torch.get_num_threads()

    def dense_weight(self) -> Tensor:
        """The decoded matrix, rows × columns, float32."""
        return ops.decode(self.coded)

    @property
    def weight(self) -> Tensor:
        """The decoded weight in the shape that the plain layer's has: for nets that read a layer's weight themselves.

        Decoded at every access.
        """
        return self.dense_weight()


class HuffmanLinear(HuffmanLayer):
    """nn.Linear with a coded weight, multiplied by without ever being decoded as a whole.

    Shapes: (…, in_features) float32 → (…, out_features), contiguous as a plain layer's result is; where x lies in
    memory feature by feature, so does the result.
    """

    @property
    def in_features(self) -> int:
        """Columns of the weight."""
        return self.coded.columns

    @property
    def out_features(self) -> int:
        """Rows of the weight."""
        return self.coded.rows

    def workspace_nbytes(self, batch: int, *, feature_major: bool = False) -> int:
        """Bytes that a call needs beside weights, their tables, x and result.

        - batch: rows of x.
        - feature_major: x lies in memory feature by feature; if not, or if it has more than 64 rows, 64 at a time are
          copied, and if not, the result is turned, too.

        Where the reference serves (no compiled kernels), the whole matrix is decoded.
        """
        if ops.prepare(self.coded) is None:
            return 4 * self.coded.rows * self.coded.columns
        copied = turned = 0
        if batch > 1 and not (feature_major and batch <= ops.TILE):
            copied = 4 * min(batch, ops.TILE) * self.coded.columns
        if batch > 1 and not feature_major:
            turned = 4 * batch * self.coded.rows
        return self.scratch_nbytes + max(copied, turned)

    def forward(self, x: Tensor) -> Tensor:
        """Of a batch of rows."""
        self._check(x)
        y = ops.linear(self.coded, x, self.bias)
        if x.dim() > 1 and x.stride(-1) != 1:
            return y
        return ops.transposed(y.reshape(-1, self.out_features).t()).reshape(y.shape)  # nets call .view on it

    def extra_repr(self) -> str:
        """Sizes, for print."""
        return f"{self.in_features}, {self.out_features}, {self.coded.layout}, {self.weight_nbytes} bytes"


class HuffmanConv2d(HuffmanLayer):
    """nn.Conv2d with a coded weight, which is decoded into a workspace at every call.

    - kernel_size, stride, padding, dilation, groups: as of nn.Conv2d; padding with zeros.
    - workspace: shared by the convolutions of a model; one of its own if None.

    Shapes: (N, in_channels, H, W) float32 → (N, out_channels, H', W').
    """

    def __init__(
        self,
        coded: Coded,
        bias: Tensor | None,
        *,
        kernel_size: tuple[int, int],
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] | str = (0, 0),
        dilation: tuple[int, int] = (1, 1),
        groups: int = 1,
        workspace: Workspace | None = None,
    ) -> None:
        super().__init__(coded, bias)
        for name, pair, least in (
            ("kernel_size", kernel_size, 1),
            ("stride", stride, 1),
            ("dilation", dilation, 1),
            ("padding", (0, 0) if padding in ("same", "valid") else padding, 0),
        ):
            if len(pair) != 2 or not all(type(n) is int and least <= n < 1 << 31 for n in pair):
                raise ValueError(f"{name} is {pair}, expected two integers from {least} on")
        area = kernel_size[0] * kernel_size[1]
        if coded.columns % area or type(groups) is not int or groups < 1 or coded.rows % groups:
            raise ValueError(
                f"a weight of {coded.rows} × {coded.columns} does not fit kernel {kernel_size} and {groups} groups"
            )
        if coded.rows * coded.columns > LARGEST_DENSE:
            raise ValueError(
                f"a convolution has {coded.rows * coded.columns} weights, expected at most {LARGEST_DENSE}"
            )
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.dilation, self.groups = dilation, groups
        self.workspace = workspace or Workspace()

    @property
    def in_channels(self) -> int:
        """Channels of the input."""
        return self.coded.columns // (self.kernel_size[0] * self.kernel_size[1]) * self.groups

    @property
    def out_channels(self) -> int:
        """Rows of the weight."""
        return self.coded.rows

    @property
    def weight(self) -> Tensor:
        """The decoded weight, (out_channels, in_channels / groups, height, width); decoded at every access."""
        return self.dense_weight().view(self.out_channels, self.in_channels // self.groups, *self.kernel_size)

    def workspace_nbytes(self, batch: int) -> int:
        """Bytes of the decoded weight; what torch's convolution takes beside it comes on top (costs.py measures it)."""
        return 4 * self.coded.rows * self.coded.columns

    def forward(self, x: Tensor) -> Tensor:
        """Of a batch of images."""
        self._check(x)
        coded = self.coded
        with self.workspace.lock:
            weight = ops.decode(coded, out=self.workspace.take(coded.rows, coded.columns))
            weight = weight.view(coded.rows, self.in_channels // self.groups, *self.kernel_size)
            return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        """Sizes, for print."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, groups={self.groups}, {self.coded.layout}, {self.weight_nbytes} bytes"
        )
