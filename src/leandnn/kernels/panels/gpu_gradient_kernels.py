"""Triton kernels of dW = dY·Xᵀ on the pattern only, in storage order; arguments as in `gpu_kernels`.

Each program owns its values and walks through the tokens: no atomics, the same bits every time. A long walk
is cut into `splits` parts, each summed into its own FP32 copy of the values (`part` numbers apart) that the
caller adds up in order. span: tokens of a part.
"""

from __future__ import annotations

import triton
import triton.language as tl

from leandnn.kernels.panels.gpu_kernels import load, multiply


@triton.jit
def gradient_panels(
    dy, x, out, outer_ptr, bases, inner_ptr, offsets, panels, column_blocks, m_i, total, tokens, span, part,
    bucket, dy_at, x_at,
    R: tl.constexpr, H: tl.constexpr, M_B: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr,
    X_MODE: tl.constexpr, Y_MODE: tl.constexpr, WIDE: tl.constexpr, PRECISION: tl.constexpr,
    BN: tl.constexpr,
):  # fmt: skip
    """BR rows × BC columns of one panel: dense products of its rows of dY with the rows of X it names."""
    row_blocks: tl.constexpr = (R + BR - 1) // BR
    program = tl.program_id(0)
    block = program % row_blocks
    panel = program // row_blocks % panels
    column_block = program // (row_blocks * panels) % column_blocks
    split = program // (row_blocks * panels * column_blocks)
    o = panel // m_i
    i = panel % m_i
    first = tl.load(outer_ptr + o)
    degree = tl.load(outer_ptr + o + 1) - first
    inner = tl.load(inner_ptr + i)
    count = tl.load(inner_ptr + i + 1) - inner
    columns = degree * count

    at = column_block * BC + tl.arange(0, BC)
    live = at < columns
    column = tl.load(bases + first + at // tl.maximum(count, 1), mask=live, other=0)
    column += tl.load(offsets + inner + at % tl.maximum(count, 1), mask=live, other=0)
    row = block * BR + tl.arange(0, BR)
    source = ((o * (R // M_B) + row // M_B) * m_i + i) * M_B + row % M_B
    end = tl.where(column_block * BC < columns, tl.minimum((split + 1) * span, tokens), 0)
    sums = tl.zeros((BR, BC), dtype=tl.float32)
    for begin in range(split * span, end, BN):
        n = begin + tl.arange(0, BN)
        a = load(
            dy, dy_at, source[:, None], n[None, :], (row < R)[:, None] & (n < end)[None, :], Y_MODE, WIDE
        )
        b = load(x, x_at, column[None, :], n[:, None], live[None, :] & (n < end)[:, None], X_MODE, WIDE)
        sums = multiply(a, b, sums, PRECISION)
    place = R * (first * total + degree * inner) + (row // H * columns * H + row % H)[:, None]
    target = out + split.to(tl.int64) * part + place + (at * H)[None, :]
    tl.store(target, sums.to(out.dtype.element_ty), mask=(row < R)[:, None] & live[None, :])


@triton.jit
def gradient_tiles(
    dy, x, out, outer_ptr, outer_row, bases, inner_ptr, slots, edges, m_i, total, width, tokens, span, part,
    bucket, dy_at, x_at,
    R: tl.constexpr, H: tl.constexpr, M_B: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr,
    X_MODE: tl.constexpr, Y_MODE: tl.constexpr, WIDE: tl.constexpr, PRECISION: tl.constexpr,
    BN: tl.constexpr,
):  # fmt: skip
    """BM × BK of the tile of one edge of G_o as a dense product, of which the pattern's places are kept."""
    height = R * m_i
    row_blocks = tl.cdiv(height, BM)
    column_blocks = tl.cdiv(width, BK)
    program = tl.program_id(0)
    tall = (program % row_blocks) * BM + tl.arange(0, BM)
    across = (program // row_blocks % column_blocks) * BK + tl.arange(0, BK)
    edge = program // (row_blocks * column_blocks) % edges
    split = program // (row_blocks * column_blocks * edges)
    o = tl.load(outer_row + edge)
    base = tl.load(bases + edge)
    end = tl.minimum((split + 1) * span, tokens)
    sums = tl.zeros((BM, BK), dtype=tl.float32)
    for begin in range(split * span, end, BN):
        n = begin + tl.arange(0, BN)
        a = load(
            dy, dy_at, (o * height + tall)[:, None], n[None, :], (tall < height)[:, None] & (n < end)[None, :],
            Y_MODE, WIDE,
        )  # fmt: skip
        b = load(
            x, x_at, (base + across)[None, :], n[:, None], (across < width)[None, :] & (n < end)[:, None],
            X_MODE, WIDE,
        )  # fmt: skip
        sums = multiply(a, b, sums, PRECISION)

    first = tl.load(outer_ptr + o)
    degree = tl.load(outer_ptr + o + 1) - first
    real = tall < height
    i = (tall // M_B) % m_i
    row = tall // (M_B * m_i) * M_B + tall % M_B
    inner = tl.load(inner_ptr + i, mask=real, other=0)
    count = tl.load(inner_ptr + i + 1, mask=real, other=0) - inner
    own = R * (first * total + degree * inner) + (row // H) * degree * count * H + row % H
    own += (edge - first) * count * H
    slot = tl.load(
        slots + i[:, None] * width + across[None, :], mask=real[:, None] & (across < width)[None, :], other=-1
    )
    target = out + split.to(tl.int64) * part + own[:, None] + slot * H
    tl.store(target, sums.to(out.dtype.element_ty), mask=slot >= 0)


@triton.jit
def gradient_rows(
    dy, x, out, outer_ptr, bases, inner_ptr, offsets, panels, column_blocks, m_i, total, tokens, span, part,
    bucket, dy_at, x_at,
    R: tl.constexpr, H: tl.constexpr, M_B: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr,
    X_MODE: tl.constexpr, Y_MODE: tl.constexpr, WIDE: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """BR rows × BC columns of one panel, without tensor cores: BN sums of each value, added up at the end."""
    row_blocks: tl.constexpr = (R + BR - 1) // BR
    program = tl.program_id(0)
    block = program % row_blocks
    panel = program // row_blocks % panels
    column_block = program // (row_blocks * panels) % column_blocks
    split = program // (row_blocks * panels * column_blocks)
    o = panel // m_i
    i = panel % m_i
    first = tl.load(outer_ptr + o)
    degree = tl.load(outer_ptr + o + 1) - first
    inner = tl.load(inner_ptr + i)
    count = tl.load(inner_ptr + i + 1) - inner
    columns = degree * count

    at = column_block * BC + tl.arange(0, BC)
    live = at < columns
    column = tl.load(bases + first + at // tl.maximum(count, 1), mask=live, other=0)
    column += tl.load(offsets + inner + at % tl.maximum(count, 1), mask=live, other=0)
    row = block * BR + tl.arange(0, BR)
    source = ((o * (R // M_B) + row // M_B) * m_i + i) * M_B + row % M_B
    end = tl.where(column_block * BC < columns, tl.minimum((split + 1) * span, tokens), 0)
    sums = tl.zeros((BR, BC, BN), dtype=tl.float32)
    for begin in range(split * span, end, BN):
        n = begin + tl.arange(0, BN)
        a = load(
            dy, dy_at, source[:, None], n[None, :], (row < R)[:, None] & (n < end)[None, :], Y_MODE, WIDE
        )
        b = load(x, x_at, column[:, None], n[None, :], live[:, None] & (n < end)[None, :], X_MODE, WIDE)
        sums += a.to(tl.float32)[:, None, :] * b.to(tl.float32)[None, :, :]
    place = R * (first * total + degree * inner) + (row // H * columns * H + row % H)[:, None]
    target = out + split.to(tl.int64) * part + place + (at * H)[None, :]
    tl.store(target, tl.sum(sums, 2).to(out.dtype.element_ty), mask=(row < R)[:, None] & live[None, :])
