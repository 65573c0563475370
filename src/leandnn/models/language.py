"""Translators: a recurrent one of GNMT's form; the Transformer is in language_transformer.py.

Both are called as net(source, lengths, inputs) → logits, and written with products that a torch-function mode
sees (linear, matmul, embedding): torch's fused recurrent layers and attention hide theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

State = list[tuple[Tensor, Tensor]]  # per layer, two tensors of the batch


@dataclass(frozen=True)
class Memory:
    """What an encoder hands to its decoder.

    - values: float (B, S, size), one vector per source token.
    - mask: bool (B, 1, S), true where a sentence has a token.
    """

    values: Tensor
    mask: Tensor


class Translator(Protocol):
    """What training and decoding need of a net; both nets here are such."""

    def __call__(self, source: Tensor, lengths: Tensor, inputs: Tensor) -> Tensor:
        """Logits float (B, T, symbols) of each next target token, given all before it.

        - source: int64 (B, S), padded; lengths: int64 (B,), of the source sentences.
        - inputs: int64 (B, T), the target from its beginning mark on.
        """

    def encode(self, source: Tensor, lengths: Tensor) -> Memory:
        """The source as vectors."""

    def decode(self, inputs: Tensor, memory: Memory, state: State | None) -> tuple[Tensor, State]:
        """Logits (B, T, symbols) of T more target tokens, and the state from which the next call goes on."""


def token_mask(lengths: Tensor, longest: int) -> Tensor:
    """Bool (B, longest): true at the first `lengths` places of each row."""
    return torch.arange(longest, device=lengths.device) < lengths[:, None]


class Recurrence(nn.Module):
    """An LSTM layer (Hochreiter & Schmidhuber 1997, with forget gates), written out step by step.

    Every product is an F.linear call. The cell is that of torch.nn.LSTM with one bias; its gates lie in the
    order input, forget, output, candidate.

    Shapes: (T, B, inputs) → (T, B, size) and the last (hidden, cell) state, each (B, size).
    """

    def __init__(self, inputs: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.input = nn.Linear(inputs, 4 * size)
        self.recurrent = nn.Linear(size, 4 * size, bias=False)
        nn.init.zeros_(self.input.bias)
        # A forget gate that starts open lets gradients through from the first step on (Jozefowicz et al. 2015).
        nn.init.ones_(self.input.bias[size : 2 * size])
        for weight in (self.input.weight, self.recurrent.weight):
            for block in weight.data.split(size):
                nn.init.xavier_uniform_(block)

    def forward(
        self, x: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """All steps from `state` on (zeros if None)."""
        hidden, cell = state or (x.new_zeros(x.shape[1], self.size),) * 2
        outputs = []
        for share in self.input(x).unbind(0):
            gates = share + self.recurrent(hidden)
            open_, candidate = gates.split((3 * self.size, self.size), dim=1)
            enter, keep, leave = torch.sigmoid(open_).chunk(3, dim=1)
            cell = torch.addcmul(keep * cell, enter, torch.tanh(candidate))
            hidden = leave * torch.tanh(cell)
            outputs.append(hidden)
        return torch.stack(outputs), (hidden, cell)


class AdditiveAttention(nn.Module):
    """Normalised additive attention (Bahdanau et al. 2015; the norm and scale as in GNMT's implementations).

    score(q, k) = g v/|v| · tanh(W_q q + W_k k + b), softmax over the source.

    Shapes: queries (B, T, size), Memory → context (B, T, size).
    """

    def __init__(self, size: int, units: int) -> None:
        super().__init__()
        self.query = nn.Linear(size, units, bias=False)
        self.key = nn.Linear(size, units)  # its bias is b
        self.direction = nn.Parameter(torch.empty(units).uniform_(-1.0, 1.0) * units**-0.5)
        self.scale = nn.Parameter(torch.ones(()))
        nn.init.zeros_(self.key.bias)

    def forward(self, queries: Tensor, memory: Memory) -> Tensor:
        """The source as each query sees it."""
        features = torch.tanh(self.query(queries).unsqueeze(2) + self.key(memory.values).unsqueeze(1))
        direction = self.scale * self.direction / torch.linalg.vector_norm(self.direction)
        scores = F.linear(features, direction.unsqueeze(0)).squeeze(3)
        weights = torch.softmax(scores.masked_fill(~memory.mask, -torch.inf), dim=2)
        return torch.matmul(weights, memory.values)


class GNMT(nn.Module):
    """A small net of GNMT's form (Wu et al. 2016, arXiv 1609.08144): LSTM encoder, attention, LSTM decoder.

    The first encoder layer runs in both directions, each half as wide; the others run forward. The outputs of
    the decoder's first layer ask for the context, which goes into all layers above it (as in MLPerf's GNMT,
    which so can attend for all steps at once). Unlike there, residual connections start at the embeddings and
    the context joins them: without these short ways so small a net learns to attend far later. Padding has no
    influence on a sentence.

    - symbols: rows of the one embedding of both languages.
    - size: of embeddings and layers, even; layers: of encoder and of decoder each; units: of the attention.
    - dropout: share of each layer's inputs that is dropped in training.
    """

    def __init__(
        self, symbols: int, *, size: int = 128, layers: int = 2, units: int = 64, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(symbols, size)
        self.ahead, self.back = Recurrence(size, size // 2), Recurrence(size, size // 2)
        self.encoder = nn.ModuleList(Recurrence(size, size) for _ in range(layers - 1))
        self.first = Recurrence(size, size)
        self.attention = AdditiveAttention(size, units)
        self.decoder = nn.ModuleList(Recurrence(2 * size, size) for _ in range(layers - 1))
        self.output = nn.Linear(size, symbols)
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.embedding.weight, std=0.5)
        nn.init.zeros_(self.output.bias)

    def forward(self, source: Tensor, lengths: Tensor, inputs: Tensor) -> Tensor:
        """Logits of all target tokens; see Translator."""
        return self.decode(inputs, self.encode(source, lengths), None)[0]

    def encode(self, source: Tensor, lengths: Tensor) -> Memory:
        """The source as vectors; see Translator."""
        mask = token_mask(lengths, source.shape[1])
        x = self.dropout(self.embedding(source.t()))
        # Place t of a mirrored sentence of n tokens holds token n - 1 - t; padding stays where it is.
        times = torch.arange(source.shape[1], device=source.device)
        mirror = torch.where(mask, lengths[:, None] - 1 - times, times).t().unsqueeze(2)
        back = self.back(x.gather(0, mirror.expand_as(x)))[0]
        back = back.gather(0, mirror.expand_as(back))
        y = x + torch.cat([self.ahead(x)[0], back], dim=2)
        for layer in self.encoder:
            y = y + layer(self.dropout(y))[0]
        return Memory(y.transpose(0, 1), mask.unsqueeze(1))

    def decode(self, inputs: Tensor, memory: Memory, state: State | None) -> tuple[Tensor, State]:
        """Logits and the (hidden, cell) states of all layers; see Translator."""
        before: list[Any] = [None] * (1 + len(self.decoder)) if state is None else list(state)
        x = self.dropout(self.embedding(inputs.t()))
        found, after = self.first(x, before[0])
        y, states = x + found, [after]
        context = self.attention(y.transpose(0, 1), memory).transpose(0, 1)
        for layer, last in zip(self.decoder, before[1:], strict=True):
            found, after = layer(torch.cat([self.dropout(y), context], dim=2), last)
            states.append(after)
            y = y + found
        return cast(Tensor, self.output(self.dropout(y + context).transpose(0, 1))), states
