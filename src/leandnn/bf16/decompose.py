"""Recurrent layers and attention written out in the products that the emulation knows.

torch computes these inside one call each, where nothing can be rounded between the products. Here they are
the same functions in F.linear, torch.matmul and element-wise operations, with torch's arguments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

State = tuple[Tensor, ...]  # (h,), or (h, c) of an LSTM; each (batch, size)
Gates = Callable[[Tensor, Tensor, State], State]  # shares of input and state, both with bias; the state


def _lstm(share: Tensor, recurrent: Tensor, state: State) -> State:
    i, f, g, o = (share + recurrent).chunk(4, 1)
    c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def _gru(share: Tensor, recurrent: Tensor, state: State) -> State:
    (r, z, n), (hr, hz, hn) = share.chunk(3, 1), recurrent.chunk(3, 1)
    fresh = torch.tanh(n + torch.sigmoid(r + hr) * hn)
    return ((state[0] - fresh) * torch.sigmoid(z + hz) + fresh,)


def _tanh(share: Tensor, recurrent: Tensor, state: State) -> State:
    return (torch.tanh(share + recurrent),)


def _relu(share: Tensor, recurrent: Tensor, state: State) -> State:
    return (torch.relu(share + recurrent),)


def _cell(
    gates: Gates,
    x: Tensor,
    state: State,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
) -> State:
    return gates(F.linear(x, w_ih, b_ih), F.linear(state[0], w_hh, b_hh), state)


def lstm_cell(
    input: Tensor,
    hx: Sequence[Tensor],
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> State:
    """torch.lstm_cell: (h, c) after one step."""
    return _cell(_lstm, input, tuple(hx), w_ih, w_hh, b_ih, b_hh)


def _one_state_cell(gates: Gates) -> Callable[..., Tensor]:
    def cell(
        input: Tensor,
        hx: Tensor,
        w_ih: Tensor,
        w_hh: Tensor,
        b_ih: Tensor | None = None,
        b_hh: Tensor | None = None,
    ) -> Tensor:
        return _cell(gates, input, (hx,), w_ih, w_hh, b_ih, b_hh)[0]

    return cell


def _scan(
    data: Tensor, sizes: list[int], state: State, weights: Sequence[Tensor], gates: Gates, backwards: bool
) -> tuple[Tensor, State]:
    """One layer in one direction over packed rows: sizes[t] of them for step t, never more than before."""
    w_ih, w_hh, *rest = weights
    projection = rest.pop() if len(rest) % 2 else None  # of an LSTM with proj_size
    b_ih, b_hh = rest or (None, None)
    shares = F.linear(data, w_ih, b_ih).split(sizes)
    outputs: list[Tensor] = [data] * len(sizes)
    for t in reversed(range(len(sizes))) if backwards else range(len(sizes)):
        # Sequences that have ended, or have yet to begin (backwards), keep their state.
        running = tuple(s[: sizes[t]] for s in state)
        after = gates(shares[t], F.linear(running[0], w_hh, b_hh), running)
        if projection is not None:
            after = (F.linear(after[0], projection), *after[1:])
        outputs[t] = after[0]
        if sizes[t] < len(state[0]):
            after = tuple(torch.cat((a, s[sizes[t] :])) for a, s in zip(after, state, strict=True))
        state = after
    return torch.cat(outputs), state


def _sequence(gates: Gates) -> Callable[..., tuple[Tensor, ...]]:
    """torch.lstm, torch.gru, torch.rnn_tanh or torch.rnn_relu, of a padded or a packed batch."""

    def layers(input: Tensor, *args: Any) -> tuple[Tensor, ...]:
        packed = isinstance(args[0], Tensor) and args[0].dtype is torch.int64
        if packed:
            batch_sizes, hx, weights, _has_biases, count, dropout, training, both = args
            data, sizes, batch_first = input, batch_sizes.tolist(), False
        else:
            hx, weights, _has_biases, count, dropout, training, both, batch_first = args
            x = input.transpose(0, 1) if batch_first else input
            data, sizes = x.flatten(0, 1), [x.shape[1]] * x.shape[0]
        states = (hx,) if isinstance(hx, Tensor) else tuple(hx)
        ways = 2 if both else 1
        each = len(weights) // (count * ways)
        last: list[State] = []
        for layer in range(count):
            outputs = []
            for way in range(ways):
                i = layer * ways + way
                own = weights[i * each : (i + 1) * each]
                start = tuple(s[i] for s in states)
                out, after = _scan(data, sizes, start, own, gates, backwards=way == 1)
                outputs.append(out)
                last.append(after)
            data = torch.cat(outputs, 1) if both else outputs[0]
            if dropout and training and layer + 1 < count:
                data = F.dropout(data, dropout)
        if not packed:
            data = data.view(len(sizes), -1, data.shape[1])
            data = data.transpose(0, 1) if batch_first else data
        return data, *(torch.stack(s) for s in zip(*last, strict=True))

    return layers


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """F.scaled_dot_product_attention as softmax(q kᵀ · scale + mask) v: the scores are a product's result."""
    if enable_gqa:
        groups = query.shape[-3] // key.shape[-3]
        key, value = (x.repeat_interleave(groups, -3) for x in (key, value))
    scores = torch.matmul(query, key.transpose(-2, -1)) * (scale or 1 / math.sqrt(query.shape[-1]))
    if is_causal:
        if attn_mask is not None:
            raise ValueError("attention has both attn_mask and is_causal, expected one of them")
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None and attn_mask.dtype is torch.bool:
        scores = scores.masked_fill(~attn_mask, -math.inf)
        # As torch has it, a query that may look at nothing gets zeros.
        shares = torch.softmax(scores, -1).masked_fill(~attn_mask.any(-1, keepdim=True), 0.0)
    else:
        shares = torch.softmax(scores if attn_mask is None else scores + attn_mask, -1)
    return torch.matmul(F.dropout(shares, dropout_p) if dropout_p else shares, value)


def _unwatched(function: Any) -> Callable[..., Any]:
    """A Python function of torch without its check for overrides, so that the calls inside it are seen."""
    names = {**function.__globals__, "has_torch_function": lambda tensors: False}
    copy = FunctionType(function.__code__, names, function.__name__, function.__defaults__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


DECOMPOSED: dict[Any, Callable[..., Any]] = {
    torch.lstm_cell: lstm_cell,
    torch.gru_cell: _one_state_cell(_gru),
    torch.rnn_tanh_cell: _one_state_cell(_tanh),
    torch.rnn_relu_cell: _one_state_cell(_relu),
    torch.lstm: _sequence(_lstm),
    torch.gru: _sequence(_gru),
    torch.rnn_tanh: _sequence(_tanh),
    torch.rnn_relu: _sequence(_relu),
    F.scaled_dot_product_attention: attention,
    F.multi_head_attention_forward: _unwatched(F.multi_head_attention_forward),
}
