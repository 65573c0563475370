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

    The cell is that of torch.nn.LSTM with one bias; its gates lie in the order input, forget, output, candidate.
    Two directions take each step together, in one product.

    - size: of the output; with two directions each has half of it, forward first.

    Shapes: see forward.
    """

    def __init__(self, inputs: int, size: int, directions: int = 1) -> None:
        super().__init__()
        if size % directions:
            raise ValueError(f"size {size} is no multiple of the {directions} directions")
        self.directions, self.width = directions, size // directions
        self.input = nn.Linear(inputs, 4 * size)
        self.recurrent = nn.Parameter(torch.empty(directions, self.width, 4 * self.width))
        for matrix in (self.input.weight.data, *(direction.t() for direction in self.recurrent.data)):
            for block in matrix.split(self.width):
                nn.init.xavier_uniform_(block)
        nn.init.zeros_(self.input.bias)
        # Forget gates that start open let gradients through from the first step on (Jozefowicz et al. 2015).
        nn.init.ones_(self.input.bias.data.view(directions, 4, self.width)[:, 1])

    def forward(
        self, x: Tensor, state: tuple[Tensor, Tensor] | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """All steps from a state on.

        - x: float (T, B, inputs).
        - state: (hidden, cell) before the first step, each (directions, B, width); zeros if None.
        - lengths: int64 (B,), where the second direction starts in each sentence; only for two directions.

        Returns (T, B, size) and the state after the last step. What the second direction finds past a
        sentence's end means nothing.
        """
        shares = self.input(x).unflatten(2, (self.directions, -1)).transpose(1, 2)
        mirror = None if lengths is None else mirrored(lengths, len(x))
        if mirror is not None:
            shares = torch.stack([shares[:, 0], _picked(shares[:, 1], mirror)], dim=1)
        hidden, cell = state or (x.new_zeros(self.directions, x.shape[1], self.width),) * 2
        outputs = []
        for share in shares.unbind(0):
            gates = share + torch.matmul(hidden, self.recurrent)
            opened, candidate = gates.split((3 * self.width, self.width), dim=2)
            enter, keep, leave = torch.sigmoid(opened).chunk(3, dim=2)
            cell = torch.addcmul(keep * cell, enter, torch.tanh(candidate))
            hidden = leave * torch.tanh(cell)
            outputs.append(hidden)
        found = torch.stack(outputs)
        if mirror is not None:
            found = torch.stack([found[:, 0], _picked(found[:, 1], mirror)], dim=1)
        return found.transpose(1, 2).flatten(2), (hidden, cell)


def mirrored(lengths: Tensor, longest: int) -> Tensor:
    """Int64 (longest, B): the step at which each sentence, run backwards, has its token; padding stays."""
    steps = torch.arange(longest, device=lengths.device)[:, None]
    return torch.where(steps < lengths, lengths - 1 - steps, steps)


def _picked(x: Tensor, steps: Tensor) -> Tensor:
    """Rows of x (T, B, C) at other steps (T, B)."""
    return x.gather(0, steps.unsqueeze(2).expand_as(x))


class LibraryRecurrence(nn.Module):
    """The function of a Recurrence by torch's own LSTM: what one fused call costs.

    Nothing that emulates rounding can see into it.

    - layer: whose weights are taken over.

    Shapes: as of Recurrence.
    """

    def __init__(self, layer: Recurrence) -> None:
        super().__init__()
        both = layer.directions == 2
        self.library = nn.LSTM(layer.input.in_features, layer.width, bidirectional=both)

        def ordered(rows: Tensor) -> Tensor:
            enter, keep, leave, candidate = rows.chunk(4)
            return torch.cat([enter, keep, candidate, leave])

        with torch.no_grad():
            weights, biases = (t.chunk(layer.directions) for t in (layer.input.weight, layer.input.bias))
            for i, suffix in enumerate(("_l0", "_l0_reverse")[: layer.directions]):
                getattr(self.library, f"weight_ih{suffix}").copy_(ordered(weights[i]))
                getattr(self.library, f"bias_ih{suffix}").copy_(ordered(biases[i]))
                getattr(self.library, f"weight_hh{suffix}").copy_(ordered(layer.recurrent[i].t()))
                getattr(self.library, f"bias_hh{suffix}").zero_()

    def forward(
        self, x: Tensor, state: tuple[Tensor, Tensor] | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """All steps from a state on; zeros past a sentence's end where lengths are given."""
        if lengths is None:
            found, after = self.library(x, state)
            return found, after
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths.cpu(), enforce_sorted=False)
        states, after = self.library(packed, state)
        return nn.utils.rnn.pad_packed_sequence(states, total_length=len(x))[0], after


def with_fused_recurrence(model: nn.Module) -> nn.Module:
    """The model itself, changed: every Recurrence in it is now a LibraryRecurrence."""
    for name, module in list(model.named_modules()):
        if isinstance(module, Recurrence):
            model.set_submodule(name, LibraryRecurrence(module))
    return model


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
        self.both = Recurrence(size, size, directions=2)
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
        y = x + self.both(x, lengths=lengths)[0]
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
