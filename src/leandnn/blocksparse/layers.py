"""Linear and 2-D convolution layers whose parameters are the non-zero weights of a pattern (and the bias)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from leandnn.blocksparse.pattern import Pattern, Size
from leandnn.kernels.panels import ops

DTYPES = (torch.float32, torch.bfloat16)
_META = torch.device("meta")  # for layers whose numbers come from elsewhere: none are drawn


class BlockSparse(nn.Module, ABC):
    """What both layers share: values, bias, and a pattern that a state dict is checked against.

    - pattern: M × K; not a parameter, never changed, shared by copies of the layer.
    - values: parameter of pattern.nnz numbers, float32 or bfloat16, in the order of pattern.places().
    - bias: parameter of M numbers, or None.

    The state dict holds `values`, `bias` and, as extra state, the pattern's SHA-256 (32 numbers, uint8). Loading
    one of another pattern is an error of load_state_dict that names both digests; the values stay as they were.

    Initial values are those of torch's dense layers, uniform within ±1/√fan_in, with the mean number of
    non-zeros of a row as fan_in (K · density).

    Under autocast to bfloat16 operands and output are bfloat16 (sums float32) and the gradients of the
    parameters have their dtype, as with torch's layers; under any other autocast all is in the values' dtype.

    Raises ValueError for another dtype.
    """

    def __init__(
        self, pattern: Pattern, bias: bool, device: torch.device | None, dtype: torch.dtype | None
    ) -> None:
        super().__init__()
        dtype = dtype or torch.get_default_dtype()
        if dtype not in DTYPES:
            raise ValueError(f"the values have dtype {dtype}, expected torch.float32 or torch.bfloat16")
        self.pattern = pattern
        self.values = nn.Parameter(torch.empty(pattern.nnz, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(pattern.shape[0], device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new values and a new bias."""
        bound = 1 / math.sqrt(max(1.0, self.pattern.nnz / self.pattern.shape[0]))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def weight_dense(self) -> Tensor:
        """The weight as a dense (M, K) tensor with zeros outside the pattern; differentiable."""
        return self.pattern.scatter(self.values)

    @abstractmethod
    def to_dense(self) -> nn.Module:
        """The dense layer of torch that computes the same."""

    def _take(self, dense: nn.Linear | nn.Conv2d) -> Self:
        """Take over device, weights inside the pattern, bias and flags of a dense layer."""
        self.to_empty(device=dense.weight.device)
        with torch.no_grad():
            self.values.copy_(self.pattern.gather(dense.weight))
            self.values.requires_grad_(dense.weight.requires_grad)
            if self.bias is not None and dense.bias is not None:
                self.bias.copy_(dense.bias)
                self.bias.requires_grad_(dense.bias.requires_grad)
        return self.train(dense.training)

    def _give(self, dense: nn.Linear | nn.Conv2d) -> None:
        """The inverse of `_take`; weights outside the pattern become zero."""
        dense.to_empty(device=self.values.device)
        with torch.no_grad():
            dense.weight.copy_(self.weight_dense().reshape(dense.weight.shape))
            dense.weight.requires_grad_(self.values.requires_grad)
            if self.bias is not None and dense.bias is not None:
                dense.bias.copy_(self.bias)
                dense.bias.requires_grad_(self.bias.requires_grad)
        dense.train(self.training)

    @abstractmethod
    def _product(self, values: Tensor, x: Tensor, bias: Tensor | None) -> Tensor:
        """The layer's function of operands of one dtype."""

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output; see the class for shapes."""
        device = x.device.type
        if not torch.is_autocast_enabled(device):
            return self._product(self.values, x, self.bias)
        dtype = torch.bfloat16 if torch.get_autocast_dtype(device) == torch.bfloat16 else self.values.dtype
        bias = None if self.bias is None else self.bias.to(dtype)
        with torch.autocast(device, enabled=False):
            return self._product(self.values.to(dtype), x.to(dtype), bias)

    def get_extra_state(self) -> Tensor:
        """The pattern's SHA-256, for the state dict."""
        return torch.tensor(list(bytes.fromhex(self.pattern.digest())), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Check a SHA-256 out of a state dict; ValueError, naming both, if it is of another pattern."""
        if state.dtype != torch.uint8 or state.shape != (32,):
            raise ValueError(
                f"the pattern's SHA-256 is {state.dtype} of shape {tuple(state.shape)}, "
                "expected torch.uint8 of shape (32,)"
            )
        if (found := bytes(state.tolist()).hex()) != self.pattern.digest():
            raise ValueError(
                f"the values belong to the pattern with SHA-256 {found[:16]}…, the layer has "
                f"{self.pattern.digest()[:16]}… ({self.pattern})"
            )

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Mapping[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        # Before the values are copied, which torch would do first; reported with the model's other errors.
        if (stored := state_dict.get(f"{prefix}_extra_state")) is not None:
            try:
                self.set_extra_state(stored)
            except ValueError as error:
                error_msgs.append(f"{prefix.removesuffix('.')}: {error}")
                return
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


class BlockSparseLinear(BlockSparse):
    """y = x Wᵀ + b with a sparse W: nn.Linear for the pattern of W.

    - pattern: out_features × in_features.
    - bias, device, dtype: as nn.Linear; float32 or bfloat16.

    Shapes: (…, in_features) → (…, out_features). A matrix is read as it lies if either of its strides is 1.
    """

    def __init__(
        self,
        pattern: Pattern,
        bias: bool = True,
        *,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(pattern, bias, device, dtype)
        self.out_features, self.in_features = pattern.shape

    @classmethod
    def from_dense(cls, module: nn.Linear, pattern: Pattern) -> BlockSparseLinear:
        """A layer with the weights of `module` inside the pattern; the others are dropped.

        Raises ValueError for another shape than the pattern's, or a dtype other than float32 and bfloat16.
        """
        weight = module.weight
        layer = cls(pattern, module.bias is not None, device=_META, dtype=weight.dtype)
        return layer._take(module)

    def to_dense(self) -> nn.Linear:
        """An nn.Linear with the same function."""
        size, dtype = (self.in_features, self.out_features), self.values.dtype
        dense = nn.Linear(*size, bias=self.bias is not None, device=_META, dtype=dtype)
        self._give(dense)
        return dense

    def _product(self, values: Tensor, x: Tensor, bias: Tensor | None) -> Tensor:
        if x.dim() and x.stride(-1) != 1 and not (x.dim() == 2 and x.stride(0) == 1):
            x = x.contiguous()
        return ops.linear(values, x, self.pattern.plan, bias)

    def extra_repr(self) -> str:
        """Sizes and pattern."""
        return f"{self.pattern}, bias={self.bias is not None}"


class BlockSparseConv2d(BlockSparse):
    """nn.Conv2d (groups=1, zero padding) with a sparse weight.

    - pattern: out_channels × (in_channels · kh · kw), the columns in the order of weight.flatten(1).
    - in_channels, kernel_size, stride, padding, dilation: as nn.Conv2d; padding in numbers.
    - bias, device, dtype: as nn.Conv2d; float32 or bfloat16.

    Shapes: (N, in_channels, H, W) → (N, out_channels, H', W').

    Raises ValueError if the pattern has not in_channels · kh · kw columns.
    """

    def __init__(
        self,
        pattern: Pattern,
        in_channels: int,
        kernel_size: int | Size,
        stride: int | Size = 1,
        padding: int | Size = 0,
        dilation: int | Size = 1,
        bias: bool = True,
        *,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(pattern, bias, device, dtype)
        self.in_channels, self.out_channels = in_channels, pattern.shape[0]
        self.kernel_size, self.stride = _pair(kernel_size), _pair(stride)
        self.padding, self.dilation = _pair(padding), _pair(dilation)
        columns = in_channels * math.prod(self.kernel_size)
        if columns != pattern.shape[1]:
            raise ValueError(
                f"the pattern has {pattern.shape[1]} columns, expected {columns} = {in_channels} channels "
                f"of a {self.kernel_size} kernel"
            )

    @classmethod
    def from_dense(cls, module: nn.Conv2d, pattern: Pattern) -> BlockSparseConv2d:
        """A layer with the weights of `module` inside the pattern; the others are dropped.

        Raises ValueError for groups, a padding that is not of zeros or not the same on both sides, another
        shape than the pattern's, or a dtype other than float32 and bfloat16.
        """
        if module.groups != 1:
            raise ValueError(f"the convolution has {module.groups} groups, expected 1")
        if module.padding_mode != "zeros":
            raise ValueError(f"the convolution has padding mode {module.padding_mode!r}, expected 'zeros'")
        weight = module.weight
        layer = cls(
            pattern,
            module.in_channels,
            _pair(module.kernel_size),
            _pair(module.stride),
            _padding(module),
            _pair(module.dilation),
            module.bias is not None,
            device=_META,
            dtype=weight.dtype,
        )
        return layer._take(module)

    def to_dense(self) -> nn.Conv2d:
        """An nn.Conv2d with the same function."""
        dense = nn.Conv2d(
            self.in_channels,
            self.out_channels,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            bias=self.bias is not None,
            device=_META,
            dtype=self.values.dtype,
        )
        self._give(dense)
        return dense

    def _product(self, values: Tensor, x: Tensor, bias: Tensor | None) -> Tensor:
        return ops.conv2d(
            values,
            x,
            self.pattern.plan,
            bias,
            kernel_size=self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
        )

    def extra_repr(self) -> str:
        """Sizes and pattern."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, padding={self.padding}, dilation={self.dilation}, "
            f"bias={self.bias is not None}, pattern={self.pattern}"
        )


def _pair(size: int | tuple[int, ...]) -> Size:
    """A size given for both dimensions, or for each."""
    if isinstance(size, int):
        return size, size
    height, width = size
    return height, width


def _padding(module: nn.Conv2d) -> Size:
    """The padding of a convolution in numbers, "same" and "valid" too."""
    if not isinstance(module.padding, str):
        return _pair(module.padding)
    if module.padding == "valid":
        return 0, 0
    height, width = (d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True))
    if height % 2 or width % 2:
        raise ValueError(
            f"padding 'same' of a {module.kernel_size} kernel is not the same on both sides: "
            "expected an odd kernel, or padding in numbers"
        )
    return height // 2, width // 2
