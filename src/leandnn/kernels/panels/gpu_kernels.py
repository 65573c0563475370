"""Triton kernels of the panel products: Y = W·X in three ways, and the values of Wᵀ (`gpu` calls them).

Common arguments:
- outer_ptr, bases: int32, compressed rows of G_o, and the first column of the tile of each of its edges.
- inner_ptr, offsets: int32, `Panels.offsets`: the columns within a tile of each left vertex of G_i.
- m_i: left vertices of G_i; total: offsets in all; tokens: N; bucket: N rounded up, for the autotuner's key.
- x_at, y_at: where an element (row, token) lies, see `load`.
- R, H, M_B: rows of a panel, of a chunk of its values, and of G_b.

The values of panel (o, i) begin at R·(outer_ptr[o]·total + degree(o)·inner_ptr[i]): no array says where.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load(pointer, at, row, token, live, MODE: tl.constexpr, WIDE: tl.constexpr):
    """Elements (row, token) of a matrix, zero where not live.

    - MODE 0, a matrix: at = (row stride, token stride, …).
    - MODE 1, images (…, rows, pixels): at = (row stride, pixel stride, image stride, pixels of an image).
    - MODE 2, the windows of a convolution, unfolded here and nowhere stored: row = (channel, kernel row and
      column), token = (image, output row and column); at = (strides of channel, row, column, image, kernel
      positions, kernel columns, output pixels, output columns, stride 2×, padding 2×, dilation 2×, input
      rows, input columns).
    - WIDE: the offsets need 64 bits.
    """
    if WIDE:
        row = row.to(tl.int64)
        token = token.to(tl.int64)
    if MODE == 2:
        pixel = token % at[6]
        window = row % at[4]
        down = (pixel // at[7]) * at[8] - at[10] + (window // at[5]) * at[12]
        right = (pixel % at[7]) * at[9] - at[11] + (window % at[5]) * at[13]
        live = live & (down >= 0) & (down < at[14]) & (right >= 0) & (right < at[15])
        where = (token // at[6]) * at[3] + (row // at[4]) * at[0] + down * at[1] + right * at[2]
    elif MODE == 1:
        where = row * at[0] + (token // at[3]) * at[2] + (token % at[3]) * at[1]
    else:
        where = row * at[0] + token * at[1]
    return tl.load(pointer + where, mask=live, other=0.0)


@triton.jit
def store(pointer, at, row, token, found, live, MODE: tl.constexpr, WIDE: tl.constexpr):
    """Write elements (row, token) of a matrix (MODE 0) or of images (MODE 1), see `load`."""
    if WIDE:
        row = row.to(tl.int64)
        token = token.to(tl.int64)
    if MODE == 1:
        where = row * at[0] + (token // at[3]) * at[2] + (token % at[3]) * at[1]
    else:
        where = row * at[0] + token * at[1]
    tl.store(pointer + where, found.to(pointer.dtype.element_ty), mask=live)


@triton.jit
def multiply(a, b, sums, PRECISION: tl.constexpr):
    """sums + a·b. PRECISION "upcast" is for the interpreter, whose dot takes BF16 for integers."""
    if PRECISION == "upcast":
        sums = tl.dot(a.to(tl.float32), b.to(tl.float32), sums, input_precision="ieee")
    else:
        sums = tl.dot(a, b, sums, input_precision=PRECISION)
    return sums


@triton.jit
def finish(found, bias, row, live, HAS_BIAS: tl.constexpr, RELU: tl.constexpr):
    """Bias and ReLU on the FP32 sums; a NaN stays one, as in torch.relu."""
    if HAS_BIAS:
        found += tl.load(bias + row, mask=live, other=0.0).to(tl.float32)
    if RELU:
        found = tl.where(found < 0.0, 0.0, found)
    return found


@triton.jit
def forward_panels(
    values, x, bias, y, outer_ptr, bases, inner_ptr, offsets, panels, m_i, total, tokens, bucket, x_at, y_at,
    R: tl.constexpr, H: tl.constexpr, M_B: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr,
    HOLD: tl.constexpr, HAS_BIAS: tl.constexpr, RELU: tl.constexpr, X_MODE: tl.constexpr,
    Y_MODE: tl.constexpr, WIDE: tl.constexpr, PRECISION: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """BR rows of one panel × BN tokens: a dense R × C matrix times the rows of X that it names.

    HOLD: all of a left vertex's offsets fit in BC; they are read once and serve the tiles of all edges.
    Panels are the fastest index of the grid, so that what runs together reads one slice of X.
    """
    row_blocks: tl.constexpr = (R + BR - 1) // BR
    program = tl.program_id(0)
    block = program % (panels * row_blocks)
    panel = block // row_blocks
    o = panel // m_i
    i = panel % m_i
    first = tl.load(outer_ptr + o)
    degree = tl.load(outer_ptr + o + 1) - first
    inner = tl.load(inner_ptr + i)
    count = tl.load(inner_ptr + i + 1) - inner
    columns = degree * count

    row = (block % row_blocks) * BR + tl.arange(0, BR)
    n = (program // (panels * row_blocks)) * BN + tl.arange(0, BN)
    lane = tl.arange(0, BC)
    own = values + R * (first * total + degree * inner) + (row // H) * columns * H + row % H
    if HOLD:
        steps = degree
        held = tl.load(offsets + inner + lane, mask=lane < count, other=0)
    else:
        steps = tl.cdiv(columns, BC)
    sums = tl.zeros((BR, BN), dtype=tl.float32)
    for step in range(steps):
        if HOLD:
            live = lane < count
            at = step * count + lane
            column = tl.load(bases + first + step) + held
        else:
            at = step * BC + lane
            live = at < columns
            column = tl.load(bases + first + at // count, mask=live, other=0)
            column += tl.load(offsets + inner + at % count, mask=live, other=0)
        w = tl.load(own[:, None] + (at * H)[None, :], mask=(row < R)[:, None] & live[None, :], other=0.0)
        taken = load(
            x, x_at, column[:, None], n[None, :], live[:, None] & (n < tokens)[None, :], X_MODE, WIDE
        )
        sums = multiply(w, taken, sums, PRECISION)
    target = ((o * (R // M_B) + row // M_B) * m_i + i) * M_B + row % M_B
    live = (row < R)[:, None] & (n < tokens)[None, :]
    sums = finish(sums, bias, target[:, None], (row < R)[:, None], HAS_BIAS, RELU)
    store(y, y_at, target[:, None], n[None, :], sums, live, Y_MODE, WIDE)


@triton.jit
def forward_tiles(
    values, x, bias, y, outer_ptr, bases, inner_ptr, slots, tiles, m_i, total, width, tokens, bucket, x_at, y_at,
    R: tl.constexpr, H: tl.constexpr, M_B: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr,
    HOLD: tl.constexpr, HAS_BIAS: tl.constexpr, RELU: tl.constexpr, X_MODE: tl.constexpr,
    Y_MODE: tl.constexpr, WIDE: tl.constexpr, PRECISION: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """BM rows of a row of tiles × BN tokens: each tile of G_o's edges expanded on chip, zeros between.

    Where panels have few rows, this reads each input once for BM rows instead of once for R, and pays with
    products by zero. G_o's empty tiles cost nothing. HOLD: a tile's width fits in BK; where its values lie
    is computed once and serves the tiles of all edges.

    - slots: int32, m_i × width: the place of each column of a tile among a left vertex's offsets, -1 if none.
    - tiles: left vertices of G_o; width: columns of a tile.
    """
    height = R * m_i
    row_blocks = tl.cdiv(height, BM)
    program = tl.program_id(0)
    block = program % (tiles * row_blocks)
    o = block // row_blocks
    first = tl.load(outer_ptr + o)
    degree = tl.load(outer_ptr + o + 1) - first

    tall = (block % row_blocks) * BM + tl.arange(0, BM)
    real = tall < height
    i = (tall // M_B) % m_i
    row = tall // (M_B * m_i) * M_B + tall % M_B  # within its panel
    inner = tl.load(inner_ptr + i, mask=real, other=0)
    count = tl.load(inner_ptr + i + 1, mask=real, other=0) - inner
    own = R * (first * total + degree * inner) + (row // H) * degree * count * H + row % H

    n = (program // (tiles * row_blocks)) * BN + tl.arange(0, BN)
    lane = tl.arange(0, BK)
    wide_blocks = tl.cdiv(width, BK)
    if HOLD:
        steps = degree
        slot = tl.load(
            slots + i[:, None] * width + lane[None, :], mask=real[:, None] & (lane < width)[None, :], other=-1
        )
        held = own[:, None] + slot * H
    else:
        steps = degree * wide_blocks
    sums = tl.zeros((BM, BN), dtype=tl.float32)
    for step in range(steps):
        if HOLD:
            edge = step
            across = lane
            place = held
        else:
            edge = step // wide_blocks
            across = (step % wide_blocks) * BK + lane
            slot = tl.load(
                slots + i[:, None] * width + across[None, :],
                mask=real[:, None] & (across < width)[None, :],
                other=-1,
            )
            place = own[:, None] + slot * H
        w = tl.load(values + place + (edge * count * H)[:, None], mask=slot >= 0, other=0.0)
        column = tl.load(bases + first + edge) + across
        live = (across < width)[:, None] & (n < tokens)[None, :]
        taken = load(x, x_at, column[:, None], n[None, :], live, X_MODE, WIDE)
        sums = multiply(w, taken, sums, PRECISION)
    target = o * height + tall
    sums = finish(sums, bias, target[:, None], real[:, None], HAS_BIAS, RELU)
    store(y, y_at, target[:, None], n[None, :], sums, real[:, None] & (n < tokens)[None, :], Y_MODE, WIDE)


@triton.jit
def forward_rows(
    values, x, bias, y, outer_ptr, bases, inner_ptr, offsets, tiles, m_i, total, tokens, bucket, x_at, y_at,
    R: tl.constexpr, H: tl.constexpr, M_B: tl.constexpr, BR: tl.constexpr, G: tl.constexpr,
    HAS_BIAS: tl.constexpr, RELU: tl.constexpr, X_MODE: tl.constexpr,
    Y_MODE: tl.constexpr, WIDE: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """BR rows of G panels of one row of tiles × BN tokens, without tensor cores: no product by zero.

    An input element is loaded once into registers and serves the BR rows that share its column (G_r and G_b);
    the G panels read the same tile of X at the same time, from the first-level cache.
    """
    groups = tl.cdiv(m_i, G)
    row_blocks: tl.constexpr = (R + BR - 1) // BR
    program = tl.program_id(0)
    block = program % (tiles * groups * row_blocks)
    o = block // (groups * row_blocks)
    first = tl.load(outer_ptr + o)
    degree = tl.load(outer_ptr + o + 1) - first

    i = (block // row_blocks) % groups * G + tl.arange(0, G)
    inner = tl.load(inner_ptr + i, mask=i < m_i, other=0)
    count = tl.load(inner_ptr + i + 1, mask=i < m_i, other=0) - tl.where(i < m_i, inner, 0)
    most = tl.max(count, 0)
    row = (block % row_blocks) * BR + tl.arange(0, BR)
    n = (program // (tiles * groups * row_blocks)) * BN + tl.arange(0, BN)
    start = R * (first * total + degree * inner)
    own = values + start[:, None] + (row // H)[None, :] * (degree * count * H)[:, None] + (row % H)[None, :]
    sums = tl.zeros((G, BR, BN), dtype=tl.float32)
    for edge in range(degree):
        base = tl.load(bases + first + edge)
        for j in range(most):
            live = j < count
            column = base + tl.load(offsets + inner + j, mask=live, other=0)
            w = tl.load(
                own + ((edge * count + j) * H)[:, None], mask=live[:, None] & (row < R)[None, :], other=0.0
            )
            taken = load(
                x, x_at, column[:, None], n[None, :], live[:, None] & (n < tokens)[None, :], X_MODE, WIDE
            )
            sums += w.to(tl.float32)[:, :, None] * taken.to(tl.float32)[:, None, :]
    target = ((o * (R // M_B) + row[None, :] // M_B) * m_i + i[:, None]) * M_B + row[None, :] % M_B
    real = (i < m_i)[:, None] & (row < R)[None, :]
    sums = finish(sums, bias, target[:, :, None], real[:, :, None], HAS_BIAS, RELU)
    live = real[:, :, None] & (n < tokens)[None, None, :]
    store(y, y_at, target[:, :, None], n[None, None, :], sums, live, Y_MODE, WIDE)


@triton.jit
def transpose_values(
    values, out, outer_ptr, outer_row, inner_ptr, inner_row, total, m_i,
    t_outer_ptr, t_outer_edge, t_inner_ptr, t_inner_edge,
    t_total, column_blocks, t_m_i,
    R: tl.constexpr, H: tl.constexpr, M_B: tl.constexpr,
    T_R: tl.constexpr, T_H: tl.constexpr, T_M_B: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """The values of Wᵀ in its storage order, read off W's; the names with t_ belong to Wᵀ.

    A value's place follows from its edges of G_o and G_i, so that no index per value is needed:

    - outer_row, inner_row: int32, left vertex of each edge of W's G_o and G_i.
    - t_outer_edge, t_inner_edge: int32, W's number of each edge of the transposed G_o and G_i.
    """
    panel = tl.program_id(0) // column_blocks
    o = panel // t_m_i
    i = panel % t_m_i
    first = tl.load(t_outer_ptr + o)
    degree = tl.load(t_outer_ptr + o + 1) - first
    inner = tl.load(t_inner_ptr + i)
    count = tl.load(t_inner_ptr + i + 1) - inner
    c = (tl.program_id(0) % column_blocks) * BC + tl.arange(0, BC)
    live = c < degree * count

    # A column of this panel is a row of W: an edge of G_o, and in it (row of G_r, edge of G_i, row of G_b).
    within = c % tl.maximum(count, 1)
    outer_edge = tl.load(t_outer_edge + first + c // tl.maximum(count, 1), mask=live, other=0)
    per_row = tl.maximum(count // (R // M_B), 1)
    repeat = within // per_row
    inner_edge = tl.load(t_inner_edge + inner // R + within % per_row // M_B, mask=live, other=0)
    w_row = repeat * M_B + within % M_B

    w_o = tl.load(outer_row + outer_edge, mask=live, other=0)
    w_i = tl.load(inner_row + inner_edge, mask=live, other=0)
    w_first = tl.load(outer_ptr + w_o, mask=live, other=0)
    w_degree = tl.load(outer_ptr + w_o + 1, mask=live, other=0) - w_first
    w_inner = tl.load(inner_ptr + w_i, mask=live, other=0)
    w_count = tl.load(inner_ptr + w_i + 1, mask=live, other=0) - w_inner
    rank = inner_edge - w_inner // T_R
    w_start = R * (w_first * total + w_degree * w_inner) + (w_row // H) * w_degree * w_count * H + w_row % H

    start = T_R * (first * t_total + degree * inner)
    for block in range((T_R + BR - 1) // BR):
        row = block * BR + tl.arange(0, BR)  # of this panel: (column of G_r, column of G_b)
        column = (outer_edge - w_first) * w_count + rank * T_M_B
        column = column[None, :] + (row // T_M_B)[:, None] * (w_count // (T_R // T_M_B))[None, :]
        column += (row % T_M_B)[:, None]
        both = (row < T_R)[:, None] & live[None, :]
        found = tl.load(values + w_start[None, :] + column * H, mask=both, other=0.0)
        place = (
            start + (row // T_H)[:, None] * degree * count * T_H + (c * T_H)[None, :] + (row % T_H)[:, None]
        )
        tl.store(out + place, found, mask=both)
