"""`Plan`: a pattern prepared for its products; `Prepared`: with its values too, for calls of least overhead."""

from __future__ import annotations

import functools
import itertools
import weakref
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from leandnn.kernels import dispatch
from leandnn.kernels.panels import reference
from leandnn.kernels.panels.format import Panels
from leandnn.kernels.panels.tiles import ColumnPairs, column_pairs, transposed_tiles

DTYPES = (torch.float32, torch.bfloat16)
_FEATURE, _TOKEN = 0, 1  # as in views.hpp

_numbers = itertools.count(1)
_plans: weakref.WeakValueDictionary[int, Plan] = weakref.WeakValueDictionary()


def find(number: int) -> Plan:
    """The living plan of that number (torch operators carry numbers); KeyError if it is gone."""
    plan = _plans.get(number)
    if plan is None:
        raise KeyError(f"plan {number} is gone: what was compiled with a plan needs it alive")
    return plan


class Plan:
    """A pattern's index arrays, made once, and the products of its matrix W (M × K) on CPU tensors.

    - panels: the pattern.

    x and y are two-dimensional, K × N and M × N, with unit stride in either dimension: x.t() of a
    token-major tensor is as good as a feature-major one. Values (nnz numbers in the order of storage) and x
    are both float32, or both bfloat16 with sums in float32.
    """

    def __init__(self, panels: Panels) -> None:
        self.panels = panels
        self.number = next(_numbers)
        self._gpu: dict[torch.device, Any] = {}
        _plans[self.number] = self

    @property
    def shape(self) -> tuple[int, int]:
        """(M, K)."""
        return self.panels.shape

    @functools.cached_property
    def nnz(self) -> int:
        """Number of values."""
        return self.panels.nnz

    @functools.cached_property
    def transposed(self) -> Panels:
        """The pattern of Wᵀ."""
        return self.panels.transpose()

    @functools.cached_property
    def pairs(self) -> ColumnPairs | None:
        """The pattern in pairs of columns, None where that does not fit."""
        return column_pairs(self.panels)

    @functools.cached_property
    def native(self) -> Any:
        """The extension's plan of W."""
        ptr, idx = self.panels.offsets
        return _native_plan(self.panels, self.panels.bases, ptr, idx, self.panels.starts, pairs=False)

    @functools.cached_property
    def native_transposed(self) -> Any:
        """The extension's way to Wᵀ: its plan, and how its values come from W's; or W's own plan, scattered.

        The latter where rows share their columns by fours, and columns share none with a neighbour: twice as fast.
        """
        own = self.transposed
        if self.panels.chunk == 4 and own.chunk == 1:
            from leandnn.kernels import _native

            return _native.Scattered(self.native)
        plan = _native_plan(own, own.bases, *own.offsets, own.starts, pairs=False)
        tiles = transposed_tiles(self.panels, own)
        plan.set_tiles(tiles.source, tiles.height, tiles.width, self.panels.chunk, self.nnz)
        return plan

    @functools.cached_property
    def native_pairs(self) -> Any:
        """The extension's plan of W in pairs of columns; None where the pattern has no pairs."""
        found = self.pairs
        if found is None:
            return None
        return _native_plan(self.panels, found.bases, found.ptr, found.idx, found.starts, pairs=True)

    def gpu_index(self, device: torch.device) -> Any:
        """The index arrays of the Triton kernels on a device."""
        if device not in self._gpu:
            from leandnn.kernels.panels.gpu_index import PanelsIndex

            self._gpu[device] = PanelsIndex.build(self.panels, device)
        return self._gpu[device]

    @functools.cached_property
    def _pair_source(self) -> Tensor | None:
        assert self.pairs is not None
        return None if self.pairs.source is None else torch.from_numpy(self.pairs.source)

    def forward_values(self, values: Tensor) -> tuple[Any, Tensor]:
        """(the extension's plan, values as it wants them) of the forward product; None without extension."""
        native = dispatch.native()
        if native is None:
            return None, values
        if values.dtype == torch.float32:
            return self.native, values
        if not native.has_bf16_products() or self.native_pairs is None:
            return self.native, values.float()
        if self._pair_source is None:
            h = self.panels.chunk
            return self.native_pairs, values.view(-1, 2, h).transpose(1, 2).contiguous()
        return self.native_pairs, torch.cat([values, values.new_zeros(1)])[self._pair_source]

    def product(
        self, values: Tensor, x: Tensor, bias: Tensor | None = None, *, relu: bool = False, out: Tensor
    ) -> Tensor:
        """Out = relu(W · x + bias); returns out.

        - values: nnz. x: K × N. bias: M, of x's dtype, or None. out: M × N, of x's dtype, not x's memory.

        Raises ValueError for sizes, dtypes, devices or strides that do not fit, with both values.
        """
        return Prepared(self, values, bias, relu=relu)(x, out)

    def transposed_product(self, values: Tensor, dy: Tensor, *, out: Tensor) -> Tensor:
        """Out = Wᵀ · dy for dy of M × N; returns out (K × N), of dy's dtype. Errors as of product."""
        check_values(self, values)
        x_view = _view(dy, "dy", self.shape[0], values.dtype)
        y_view = _view(out, "out", self.shape[1], values.dtype, columns=dy.shape[1])
        _prepare_to_write(out, x_view, y_view)
        if dispatch.native() is None:
            with torch.no_grad():
                return out.copy_(reference.transposed(self.panels, values, dy))
        own = values.float()
        self.native_transposed.transposed(
            own.data_ptr(), *x_view, dy.shape[1], *y_view, torch.get_num_threads()
        )
        return out

    def sampled_product(self, dy: Tensor, x: Tensor) -> Tensor:
        """The entries of dy · xᵀ on the pattern (nnz), of x's dtype, for dy of M × N and x of K × N.

        Errors as of product.
        """
        if x.dtype not in DTYPES:
            raise ValueError(f"x has dtype {x.dtype}, expected {' or '.join(map(str, DTYPES))}")
        dy_view = _view(dy, "dy", self.shape[0], x.dtype)
        x_view = _view(x, "x", self.shape[1], x.dtype, columns=dy.shape[1])
        if dispatch.native() is None:
            with torch.no_grad():
                return reference.sampled(self.panels, dy, x)
        found = torch.empty(self.nnz, dtype=torch.float32, device="cpu")
        self.native.sampled(*dy_view, *x_view, x.shape[1], found.data_ptr(), torch.get_num_threads())
        return found.to(x.dtype)


class Prepared:
    """W with its values: y = prepared(x), without autograd, at a few microseconds of overhead.

    - plan, values (nnz), bias (M or None), relu: as of Plan.product. A later change of float32 values is
      seen, one of bfloat16 values is not (they are stored in another order).

    Raises ValueError for values or a bias that do not fit.
    """

    def __init__(self, plan: Plan, values: Tensor, bias: Tensor | None = None, *, relu: bool = False) -> None:
        check_values(plan, values)
        if bias is not None:
            check_bias(plan, bias, values.dtype)
        self.plan, self.values, self.bias, self.relu = plan, values.detach(), bias, relu
        self._bias = None if bias is None else bias.detach().float().contiguous()
        self._rows, self._columns = plan.shape
        self._native, self._values = plan.forward_values(self.values)

    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """Relu(W · x + bias) for x of K × N; into `out` (M × N), if given. Errors as of Plan.product."""
        x_view = _view(x, "x", self._columns, self.values.dtype)
        given = out is not None
        if out is None:
            token = x.stride(0) == 1 and x.stride(1) != 1
            shape = (x.shape[1], self._rows) if token else (self._rows, x.shape[1])
            out = torch.empty(shape, dtype=x.dtype)
            out = out.t() if token else out
        y_view = _view(out, "out", self._rows, self.values.dtype, columns=x.shape[1])
        if given:
            _prepare_to_write(out, x_view, y_view)
        native = dispatch.native()
        if native is None:
            with torch.no_grad():
                return out.copy_(reference.product(self.plan.panels, self.values, x, self.bias, self.relu))
        pairs = self._values.dtype == torch.bfloat16
        if self._native is None or (pairs and not native.has_bf16_products()):  # another was chosen since
            self._native, self._values = self.plan.forward_values(self.values)
        self._native.product(
            self._values.data_ptr(),
            *x_view,
            x.shape[1],
            *y_view,
            0 if self._bias is None else self._bias.data_ptr(),
            self.relu,
            torch.get_num_threads(),
        )
        return out


def _native_plan(
    panels: Panels,
    bases: np.ndarray[Any, Any],
    ptr: np.ndarray[Any, Any],
    idx: np.ndarray[Any, Any],
    starts: np.ndarray[Any, Any],
    *,
    pairs: bool,
) -> Any:
    from leandnn.kernels import _native

    def small(array: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.int32]]:
        return array.astype(np.int32)

    (rows, columns), m_r, m_b = panels.shape, panels.repeat[0], panels.block[0]
    return _native.Plan(
        rows, columns, panels.outer.left, panels.inner.left, m_r, m_b, panels.chunk,
        small(panels.outer.ptr), small(bases), small(ptr), small(idx), starts.astype(np.int64), pairs,
    )  # fmt: skip


def check_values(plan: Plan, values: Tensor) -> None:
    """ValueError unless `values` are nnz contiguous numbers of a dtype that the products know, on the CPU."""
    if values.dtype not in DTYPES:
        raise ValueError(f"values have dtype {values.dtype}, expected {' or '.join(map(str, DTYPES))}")
    if values.shape != (plan.nnz,):
        raise ValueError(f"values have shape {tuple(values.shape)}, expected ({plan.nnz},)")
    if values.device.type != "cpu":
        raise ValueError(f"values are on {values.device}, expected cpu")
    if not values.is_contiguous():
        raise ValueError(f"values have stride {values.stride(0)}, expected 1")
    address_of(values, "values")


def check_bias(plan: Plan, bias: Tensor, dtype: torch.dtype) -> None:
    """ValueError unless `bias` is M numbers of that dtype on the CPU."""
    if bias.shape != (plan.shape[0],) or bias.dtype != dtype or bias.device.type != "cpu":
        raise ValueError(
            f"bias is {bias.dtype} {tuple(bias.shape)} on {bias.device}, expected {dtype} ({plan.shape[0]},) on cpu"
        )
    address_of(bias, "bias")


def address_of(x: Tensor, name: str) -> int:
    """Where x's numbers lie; ValueError where they do not lie in memory as they are, and aligned."""
    address = x.data_ptr()
    if x.is_neg() or (address == 0 and x.numel() > 0):
        raise ValueError(
            f"{name} is a view that torch has yet to compute, expected numbers in memory: clone it"
        )
    if address & 3 and address % x.itemsize:
        raise ValueError(f"{name} begins at address {address}, expected a multiple of {x.itemsize}: clone it")
    return address


def _prepare_to_write(out: Tensor, x_view: tuple[Any, ...], y_view: tuple[Any, ...]) -> None:
    """Tell autograd of what it cannot see; ValueError where `out` begins where x does."""
    if x_view[0] == y_view[0] and out.numel() > 0:
        raise ValueError("out is x's memory, expected memory of its own")
    if not out.is_inference():
        increment_version(out)


def _view(
    x: Tensor, name: str, rows: int, dtype: torch.dtype, *, columns: int | None = None
) -> tuple[int, int, bool, int]:
    """(address, layout, is BF16, leading dimension) of a matrix, checked."""
    shape = x.shape
    if len(shape) != 2 or shape[0] != rows or (columns is not None and shape[1] != columns):
        wanted = f"({rows}, {'N' if columns is None else columns})"
        raise ValueError(f"{name} has shape {tuple(shape)}, expected {wanted}")
    if x.dtype != dtype:
        raise ValueError(f"{name} has dtype {x.dtype}, expected {dtype}")
    if x.device.type != "cpu":
        raise ValueError(f"{name} is on {x.device}, expected cpu")
    address = address_of(x, name)
    first, second = x.stride()
    bf16 = dtype is torch.bfloat16
    if second == 1 and (first >= shape[1] or name != "out" or rows == 1):
        return address, _FEATURE, bf16, first
    if first == 1 and (second >= rows or name != "out" or shape[1] <= 1):
        return address, _TOKEN, bf16, second
    if shape[1] == 1 and (first >= 1 or name != "out"):
        return address, _FEATURE, bf16, first
    if x.numel() == 0:
        return address, _FEATURE, bf16, 1
    raise ValueError(f"{name} has strides {(first, second)}, expected 1 in one dimension and no overlap")
