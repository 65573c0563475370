"""The Transformer as a translator, with its attention written out."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leandnn.models.language import Memory, State, token_mask


class Attention(nn.Module):
    """Scaled dot-product attention with several heads (Vaswani et al. 2017, arXiv 1706.03762, section 3.2).

    softmax(Q Kᵀ / sqrt(width)) V, out of linear, matmul and softmax calls.

    Shapes: queries (B, T, size), keys and values (B, S, size), mask bool, broadcast to (B, T, S) → (B, T, size).
    """

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (nn.Linear(size, size) for _ in range(4))
        for linear in (self.query, self.key, self.value, self.output):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """What the queries from `x` find; keys and values come from `project`."""
        queries, keys, values = (self._split(t) for t in (self.query(x), keys, values))
        scores = torch.matmul(queries * queries.shape[3] ** -0.5, keys.transpose(2, 3))
        weights = torch.softmax(scores.masked_fill(~mask.unsqueeze(1), -torch.inf), dim=3)
        return cast(Tensor, self.output(torch.matmul(weights, values).transpose(1, 2).flatten(2)))

    def project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, S, size) of what is attended to."""
        keys: Tensor = self.key(x)
        values: Tensor = self.value(x)
        return keys, values

    def _split(self, x: Tensor) -> Tensor:
        """(B, T, size) as (B, heads, T, width)."""
        heads: Tensor = x.unflatten(2, (self.heads, -1))
        return heads.transpose(1, 2)


class _FeedForward(nn.Sequential):
    def __init__(self, size: int, hidden: int) -> None:
        super().__init__(nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, size))


class _EncoderLayer(nn.Module):
    def __init__(self, size: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(size), nn.LayerNorm(size)
        self.attention, self.feed = Attention(size, heads), _FeedForward(size, hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.dropout(self.attention(y, *self.attention.project(y), mask))
        return cast(Tensor, x + self.dropout(self.feed(self.norm2(x))))


class _DecoderLayer(nn.Module):
    def __init__(self, size: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(size) for _ in range(3))
        self.own, self.source = Attention(size, heads), Attention(size, heads)
        self.feed, self.dropout = _FeedForward(size, hidden), nn.Dropout(dropout)

    def forward(
        self, x: Tensor, memory: Memory, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y = self.norm1(x)
        keys, values = self.own.project(y)
        if past is not None:
            keys, values = torch.cat([past[0], keys], dim=1), torch.cat([past[1], values], dim=1)
        # A token sees all that came before this call, and of this call's tokens those up to itself.
        new, seen = x.shape[1], keys.shape[1]
        causal = torch.ones(new, seen, dtype=torch.bool, device=x.device).tril(seen - new).unsqueeze(0)
        x = x + self.dropout(self.own(y, keys, values, causal))
        found = self.source(self.norm2(x), *self.source.project(memory.values), memory.mask)
        x = x + self.dropout(found)
        return x + self.dropout(self.feed(self.norm3(x))), (keys, values)


class Transformer(nn.Module):
    """A small Transformer (Vaswani et al. 2017, arXiv 1706.03762), encoder and decoder.

    One embedding serves both languages and, transposed, the output, as in the paper's section 3.4. Norms stand
    before the layers' parts, with one more after the last layer: such nets train without a long warm-up (Xiong
    et al. 2020, arXiv 2002.04745). Padding has no influence on a sentence.

    - symbols: rows of the embedding.
    - size, heads, hidden: of all layers (hidden is that of the feed-forward parts); layers: of each side.
    - dropout: share dropped of each part's output and of the embeddings in training.
    """

    def __init__(
        self,
        symbols: int,
        *,
        size: int = 128,
        heads: int = 4,
        hidden: int = 512,
        layers: int = 2,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if size % heads:
            raise ValueError(f"size {size} is no multiple of the {heads} heads")
        self.size = size
        self.embedding = nn.Embedding(symbols, size)
        self.encoder = nn.ModuleList(_EncoderLayer(size, heads, hidden, dropout) for _ in range(layers))
        self.decoder = nn.ModuleList(_DecoderLayer(size, heads, hidden, dropout) for _ in range(layers))
        self.encoder_norm, self.decoder_norm = nn.LayerNorm(size), nn.LayerNorm(size)
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.embedding.weight, std=size**-0.5)

    def forward(self, source: Tensor, lengths: Tensor, inputs: Tensor) -> Tensor:
        """Logits of all target tokens; see language.Translator."""
        return self.decode(inputs, self.encode(source, lengths), None)[0]

    def encode(self, source: Tensor, lengths: Tensor) -> Memory:
        """The source as vectors; see language.Translator."""
        mask = token_mask(lengths, source.shape[1]).unsqueeze(1)
        x = self._embed(source, 0)
        for layer in self.encoder:
            x = layer(x, mask)
        return Memory(self.encoder_norm(x), mask)

    def decode(self, inputs: Tensor, memory: Memory, state: State | None) -> tuple[Tensor, State]:
        """Logits and all layers' keys and values; see language.Translator."""
        x = self._embed(inputs, 0 if state is None else state[0][0].shape[1])
        after = []
        for i, layer in enumerate(self.decoder):
            x, seen = layer(x, memory, None if state is None else state[i])
            after.append(seen)
        return F.linear(self.decoder_norm(x), self.embedding.weight), after

    def _embed(self, tokens: Tensor, start: int) -> Tensor:
        """Embeddings plus positions, counted from `start`."""
        x = self.embedding(tokens) * self.size**0.5
        return cast(Tensor, self.dropout(x + positions(tokens.shape[1], self.size, x.device, start)))


def positions(count: int, size: int, device: torch.device | str = "cpu", start: int = 0) -> Tensor:
    """Sinusoidal position vectors, float32 (count, size): sines in the first half, cosines in the second.

    Wavelengths run from 2 pi to 20000 pi as in the paper's section 3.5, which interleaves the two halves.
    """
    wave = torch.exp(torch.arange((size + 1) // 2, device=device) * (-2 / size * 9.210340371976184))
    angles = torch.arange(start, start + count, device=device)[:, None] * wave
    return torch.cat([angles.sin(), angles.cos()], dim=1)[:, :size]
