"""Click predictors: from 13 integer features and 26 categories to the log-odds of a click."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def perceptron(widths: Sequence[int]) -> nn.Sequential:
    """Linear layers from width to width, each followed by ReLU. Shapes: (N, widths[0]) → (N, widths[-1])."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers)


class Tables(nn.Module):
    """One embedding table per category, kept as one weight, so that a batch is one read of F.embedding.

    - sizes: rows of each table.
    - width: numbers per embedding.
    - spread: standard deviation of the first values; scale of an embedding, whatever the table's size.

    Shapes: entries int64 (N, len(sizes)), each below its size → float32 (N, len(sizes), width).
    """

    offsets: Tensor

    def __init__(self, sizes: Sequence[int], width: int, spread: float = 0.05) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(sum(sizes), width) * spread)
        starts = torch.tensor([0, *sizes[:-1]]).cumsum(0)
        self.register_buffer("offsets", starts, persistent=False)

    def forward(self, entries: Tensor) -> Tensor:
        """The embeddings of a batch."""
        return F.embedding(entries + self.offsets, self.weight)


class DLRM(nn.Module):
    """Deep learning recommendation model (Naumov et al. 2019, arXiv 1906.00091, sections 2.1 to 2.4).

    A bottom perceptron turns the dense features into one more embedding; the dot products of all pairs of
    embeddings, and that dense one itself, go through a top perceptron. The paper's nets are the same with wider
    layers and larger tables.

    - sizes: rows of each category's table.
    - dense: number of dense features.
    - width: numbers per embedding.
    - bottom, top: widths of the hidden layers.

    Shapes: (dense float32 (N, 13), entries int64 (N, 26)) → log-odds float32 (N,).
    """

    pairs: Tensor

    def __init__(
        self,
        sizes: Sequence[int],
        dense: int = 13,
        *,
        width: int = 16,
        bottom: Sequence[int] = (64,),
        top: Sequence[int] = (128, 64),
    ) -> None:
        super().__init__()
        count = len(sizes) + 1
        self.tables = Tables(sizes, width)
        self.bottom = perceptron((dense, *bottom, width))
        self.top = perceptron((count * (count - 1) // 2 + width, *top))
        self.output = nn.Linear(top[-1], 1)
        row, column = torch.tril_indices(count, count, -1)
        self.register_buffer("pairs", row * count + column, persistent=False)

    def forward(self, dense: Tensor, entries: Tensor) -> Tensor:
        """Log-odds of a batch."""
        summary = self.bottom(dense)
        vectors = torch.cat([summary[:, None], self.tables(entries)], 1)
        products = torch.bmm(vectors, vectors.transpose(1, 2)).flatten(1).index_select(1, self.pairs)
        logits: Tensor = self.output(self.top(torch.cat([summary, products], 1)))
        return logits.squeeze(1)


class DeepAndCross(nn.Module):
    """Deep & Cross network (Wang et al. 2017, arXiv 1708.05123, sections 2.1 to 2.4).

    Embeddings and dense features side by side are x_0; cross layers x_{l+1} = x_0 (x_l · w_l) + b_l + x_l
    multiply features with one another, a perceptron runs beside them, and a linear layer joins both. The
    paper's embeddings are 6 (table size)^(1/4) wide; here all have one width.

    - sizes: rows of each category's table.
    - dense: number of dense features.
    - width: numbers per embedding.
    - crosses: number of cross layers.
    - deep: widths of the perceptron's layers.

    Shapes: (dense float32 (N, 13), entries int64 (N, 26)) → log-odds float32 (N,).
    """

    def __init__(
        self,
        sizes: Sequence[int],
        dense: int = 13,
        *,
        width: int = 16,
        crosses: int = 3,
        deep: Sequence[int] = (128, 64),
    ) -> None:
        super().__init__()
        features = len(sizes) * width + dense
        self.tables = Tables(sizes, width)
        self.crosses = nn.ModuleList(nn.Linear(features, 1, bias=False) for _ in range(crosses))
        self.shifts = nn.ParameterList(torch.zeros(features) for _ in range(crosses))
        self.deep = perceptron((features, *deep))
        self.output = nn.Linear(features + deep[-1], 1)

    def forward(self, dense: Tensor, entries: Tensor) -> Tensor:
        """Log-odds of a batch."""
        inputs = torch.cat([self.tables(entries).flatten(1), dense], 1)
        crossed = inputs
        for weigh, shift in zip(self.crosses, self.shifts, strict=True):
            crossed = inputs * weigh(crossed) + shift + crossed
        logits: Tensor = self.output(torch.cat([crossed, self.deep(inputs)], 1))
        return logits.squeeze(1)
