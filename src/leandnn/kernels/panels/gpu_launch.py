"""Block sizes, grids and autotuning of the Triton kernels. Importing this imports Triton."""

from __future__ import annotations

import contextlib
import functools
from typing import Any

import torch
import triton
from torch import Tensor

from leandnn.kernels.panels import gpu_gradient_kernels, gpu_kernels
from leandnn.kernels.panels.gpu_index import VARIANTS, Operand, PanelsIndex, power_of_two

# (BN, num_warps, num_stages) tried on the first call of each size; the first one serves where nothing is tried.
# Those that need more on-chip memory than the device has are passed over by the autotuner.
TRIALS = {
    "panels": [(64, 4, 3), (128, 4, 3), (128, 8, 3), (256, 8, 3)],
    "tiles": [(64, 8, 2), (64, 4, 2), (128, 8, 3), (256, 8, 3)],
    "rows": [(128, 4, 2), (64, 2, 2), (256, 4, 2)],
    "gradient_panels": [(32, 4, 3), (64, 4, 3), (64, 8, 3), (128, 8, 2)],
    "gradient_tiles": [(32, 4, 3), (64, 4, 3), (64, 8, 3), (128, 8, 2)],
    "gradient_rows": [(32, 4, 2), (32, 8, 2), (64, 8, 2)],
}
INTERPRETED = not isinstance(gpu_kernels.forward_rows, triton.JITFunction)  # TRITON_INTERPRET=1
PROGRAMS = (
    4 * 132
)  # a walk through the tokens is cut until about this many programs run (H100, H200: 132 cores)
SPLIT_TOKENS = 512  # but not into parts shorter than this


def kernel_of(name: str) -> Any:
    """The Triton function of a name in TRIALS."""
    module = gpu_gradient_kernels if name.startswith("gradient") else gpu_kernels
    return getattr(module, name if name.startswith("gradient") else f"forward_{name}")


@functools.cache
def tuned(name: str) -> Any:
    """The kernel behind Triton's autotuner."""

    def prune(configs: list[Any], named: dict[str, Any], **others: Any) -> list[Any]:
        limit = max(64, abs({**named, **others}["bucket"]))
        return [c for c in configs if c.kwargs["BN"] <= limit] or configs[:1]

    kernel = kernel_of(name)
    configs = [
        triton.Config({"BN": bn}, num_warps=warps, num_stages=stages) for bn, warps, stages in TRIALS[name]
    ]
    key = ["bucket", "total", "m_i", "panels", "tiles", "edges", "R", "X_MODE", "Y_MODE", "PRECISION"]
    key = [k for k in key if k in kernel.arg_names]
    return triton.autotune(configs=configs, key=key, prune_configs_by={"early_config_prune": prune})(kernel)


def _run(kernel: Any, grid: Any, data: Tensor, arguments: dict[str, Any]) -> None:
    """Launch a kernel on the device of data; raises ValueError where there is none to run it."""
    if not (data.is_cuda or INTERPRETED):
        raise ValueError(f"x is on {data.device}, expected a GPU (or TRITON_INTERPRET=1 before the start)")
    with torch.cuda.device(data.device) if data.is_cuda else contextlib.nullcontext():
        kernel[grid](**arguments)


def _launch(name: str, blocks: int, over_tokens: bool, arguments: dict[str, Any]) -> None:
    """Run `blocks` programs, for each block of BN tokens if over_tokens.

    Nothing is tuned under the interpreter, nor where torch.use_deterministic_algorithms asks for the same
    bits every time: another BN may add in another order.
    """
    kernel, tokens, data = kernel_of(name), arguments["tokens"], arguments["x"]

    def grid(meta: dict[str, Any]) -> tuple[int]:
        return (blocks * (triton.cdiv(tokens, meta["BN"]) if over_tokens else 1),)

    if not data.is_cuda or INTERPRETED or torch.are_deterministic_algorithms_enabled():
        bn, warps, stages = TRIALS[name][0]
        fixed = {"BN": min(bn, max(16, power_of_two(tokens))), "num_warps": warps, "num_stages": stages}
        _run(kernel, grid, data, arguments | fixed)
    else:
        _run(tuned(name), grid, data, arguments)


def _uses_tensor_cores(dtype: torch.dtype) -> bool:
    return dtype != torch.float32 or torch.backends.cuda.matmul.allow_tf32


def _variant(index: PanelsIndex, dtype: torch.dtype, variant: str | None) -> str:
    if variant not in (None, *VARIANTS):
        raise ValueError(f"variant is {variant!r}, expected one of {', '.join(VARIANTS)}")
    return variant or index.choose(_uses_tensor_cores(dtype))


def _common(index: PanelsIndex, x: Operand, y: Operand, variant: str) -> dict[str, Any]:
    """The arguments that every product takes."""
    panels, bucket = index.panels, power_of_two(x.tokens)
    found: dict[str, Any] = {
        "x": x.data,
        "outer_ptr": index.outer_ptr,
        "bases": index.bases,
        "inner_ptr": index.inner_ptr,
        "m_i": panels.inner.left,
        "total": int(panels.offsets[0][-1]),
        "tokens": x.tokens,
        # Another layout of X is another case for the autotuner.
        "bucket": bucket if x.at[1] == 1 else -bucket,
        "x_at": x.at,
        "R": panels.rows,
        "H": panels.chunk,
        "M_B": panels.block[0],
        "X_MODE": x.mode,
        "Y_MODE": y.mode,
        "WIDE": x.wide or y.wide,
    }
    if variant != "rows":
        precision = "tf32" if torch.backends.cuda.matmul.allow_tf32 else "ieee"
        found["PRECISION"] = "upcast" if INTERPRETED else precision
    if variant == "tiles":
        return found | {"slots": index.slots, "width": index.width}
    return found | {"offsets": index.offsets}


def product(
    index: PanelsIndex,
    values: Tensor,
    x: Operand,
    y: Operand,
    bias: Tensor | None = None,
    relu: bool = False,
    variant: str | None = None,
) -> None:
    """Write W·X into y, with bias and ReLU. All operands checked by the caller; x.tokens > 0."""
    variant = _variant(index, values.dtype, variant)
    panels = index.panels
    arguments = _common(index, x, y, variant) | {
        "values": values,
        "bias": bias,
        "y": y.data,
        "y_at": y.at,
        "HAS_BIAS": bias is not None,
        "RELU": relu,
    }
    step = 64 if values.dtype == torch.bfloat16 else 32
    rows = power_of_two(panels.rows)
    if variant == "panels":
        rows = min(max(rows, 16), 128)
        columns = index.held or min(step, max(16, power_of_two(index.most_columns)))
        blocks = panels.panels * triton.cdiv(panels.rows, rows)
        arguments |= {"panels": panels.panels, "BR": rows, "BC": columns, "HOLD": index.held > 0}
    elif variant == "tiles":
        rows = min(max(power_of_two(index.height), 16), 128)
        columns = min(step, max(16, power_of_two(index.width)))
        blocks = panels.outer.left * triton.cdiv(index.height, rows)
        hold = columns >= index.width
        arguments |= {"tiles": panels.outer.left, "BM": rows, "BK": columns, "HOLD": hold}
    else:
        rows = min(rows, 16)
        group = min(max(8 // rows, 1), power_of_two(panels.inner.left))
        blocks = panels.outer.left * triton.cdiv(panels.inner.left, group) * triton.cdiv(panels.rows, rows)
        arguments |= {"tiles": panels.outer.left, "BR": rows, "G": group}
    _launch(variant, blocks, True, arguments)


def gradient(
    index: PanelsIndex, dy: Operand, x: Operand, variant: str | None = None, splits: int | None = None
) -> Tensor:
    """dY·Xᵀ on the pattern, 1-D nnz in storage order, dY's dtype; x.tokens > 0, at least one non-zero."""
    dtype = dy.data.dtype
    variant = _variant(index, dtype, variant)
    panels = index.panels
    rows = power_of_two(panels.rows)
    arguments = _common(index, x, dy, variant) | {"dy": dy.data, "dy_at": dy.at}
    if variant == "tiles":
        rows, columns = (min(max(power_of_two(n), 16), 64) for n in (index.height, index.width))
        blocks = panels.outer.edges * triton.cdiv(index.height, rows) * triton.cdiv(index.width, columns)
        arguments |= {"outer_row": index.outer_row, "edges": panels.outer.edges, "BM": rows, "BK": columns}
    else:
        least, most = (16, 64) if variant == "panels" else (1, 16)
        rows = min(max(rows, least), most)
        columns = min(max(power_of_two(index.most_columns), least), most)
        column_blocks = triton.cdiv(index.most_columns, columns)
        blocks = panels.panels * triton.cdiv(panels.rows, rows) * column_blocks
        arguments |= {"panels": panels.panels, "column_blocks": column_blocks, "BR": rows, "BC": columns}

    # From sizes alone, so that the order of summation is the same every time.
    splits = splits or max(1, min(triton.cdiv(x.tokens, SPLIT_TOKENS), triton.cdiv(PROGRAMS, blocks)))
    span = triton.cdiv(x.tokens, splits)
    splits = triton.cdiv(x.tokens, span)
    out = torch.empty(
        (splits, panels.nnz), dtype=dtype if splits == 1 else torch.float32, device=dy.data.device
    )
    arguments |= {"out": out, "span": span, "part": panels.nnz}
    _launch(f"gradient_{variant}", blocks * splits, False, arguments)
    return out[0] if splits == 1 else out.sum(0).to(dtype)


def transposed_values(index: PanelsIndex, values: Tensor) -> Tensor:
    """The values of Wᵀ in its storage order (that of index.transposed), a new tensor."""
    panels, other = index.panels, index.transposed
    out = torch.empty_like(values)
    if values.numel() == 0:
        return out
    outer_edge, inner_edge = index.transposed_edges
    rows = min(power_of_two(other.panels.rows), 32)
    columns = min(power_of_two(other.most_columns), 1024 // rows)
    column_blocks = triton.cdiv(other.most_columns, columns)
    arguments = {
        "values": values,
        "out": out,
        "outer_ptr": index.outer_ptr,
        "outer_row": index.outer_row,
        "inner_ptr": index.inner_ptr,
        "inner_row": index.inner_row,
        "total": int(panels.offsets[0][-1]),
        "m_i": panels.inner.left,
        "t_outer_ptr": other.outer_ptr,
        "t_outer_edge": outer_edge,
        "t_inner_ptr": other.inner_ptr,
        "t_inner_edge": inner_edge,
        "t_total": int(other.panels.offsets[0][-1]),
        "column_blocks": column_blocks,
        "t_m_i": other.panels.inner.left,
        "R": panels.rows,
        "H": panels.chunk,
        "M_B": panels.block[0],
        "T_R": other.panels.rows,
        "T_H": other.panels.chunk,
        "T_M_B": other.panels.block[0],
        "BR": rows,
        "BC": columns,
    }
    _run(gpu_kernels.transpose_values, (other.panels.panels * column_blocks,), values, arguments)
    return out
