"""Speech recognisers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Cell = Literal["tanh", "gru"]


@dataclass(frozen=True)
class Grid:
    """Where the frames of a batch, which lie end to end, stand in a padded (steps, batch) grid of rows.

    - places: int64 (sum of lengths,), each frame's row.
    - mirrored: likewise, with every utterance running backwards.
    """

    places: Tensor
    mirrored: Tensor
    steps: int
    batch: int

    @classmethod
    def of(cls, lengths: Tensor, device: torch.device) -> Grid:
        """The grid of utterances of these lengths, int64 (batch,) on the CPU."""
        batch, steps = len(lengths), int(lengths.max())
        owner = torch.repeat_interleave(torch.arange(batch), lengths)
        time = torch.arange(len(owner)) - torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths)
        places, mirrored = time * batch + owner, (lengths[owner] - 1 - time) * batch + owner
        return cls(places.to(device), mirrored.to(device), steps, batch)

    def spread(self, frames: Tensor, places: Tensor) -> Tensor:
        """Frames (sum of lengths, C) in the grid (steps, batch, C), zeros elsewhere."""
        grid = frames.new_zeros(self.steps * self.batch, frames.shape[1]).index_copy(0, places, frames)
        return grid.view(self.steps, self.batch, -1)


class Recurrence(nn.Module):
    """One bidirectional recurrent layer, written out step by step; its two directions are added.

    Every product is an F.linear call, so that what watches those sees all of them (torch's own recurrent
    layers hide theirs). As in DeepSpeech2 (arXiv 1512.02595, section 3.2), batch normalisation stands in the
    input's share alone, with statistics over all frames of the batch.

    - cell: "tanh" is h = tanh(norm(Wx) + Uh + b); "gru" is that of torch.nn.GRU (Cho et al. 2014).

    Shapes: frames float32 (sum of lengths, inputs), end to end → (sum of lengths, size).
    """

    def __init__(self, inputs: int, size: int, cell: Cell) -> None:
        super().__init__()
        self.size, self.cell = size, cell
        rows = size * (3 if cell == "gru" else 1)
        self.input = nn.Linear(inputs, 2 * rows, bias=False)
        self.norm = nn.BatchNorm1d(2 * rows)
        self.ahead, self.back = nn.Linear(size, rows), nn.Linear(size, rows)
        for linear in (self.ahead, self.back):
            for block in linear.weight.data.split(size):
                nn.init.orthogonal_(block)
            nn.init.zeros_(linear.bias)

    def forward(self, frames: Tensor, grid: Grid) -> Tensor:
        """Both directions over a batch."""
        ahead, back = self.norm(self.input(frames)).chunk(2, dim=1)
        return self._scan(self.ahead, ahead, grid.places, grid) + self._scan(
            self.back, back, grid.mirrored, grid
        )

    def _scan(self, recurrent: nn.Linear, shares: Tensor, places: Tensor, grid: Grid) -> Tensor:
        """One direction; what is computed past an utterance's end is dropped."""
        state = shares.new_zeros(grid.batch, self.size)
        states = []
        for share in grid.spread(shares, places).unbind(0):
            state = self._step(share, state, recurrent(state))
            states.append(state)
        return torch.stack(states).flatten(0, 1).index_select(0, places)

    def _step(self, share: Tensor, state: Tensor, product: Tensor) -> Tensor:
        if self.cell == "tanh":
            return torch.tanh(share + product)
        size = self.size
        gates = torch.sigmoid(share[:, : 2 * size] + product[:, : 2 * size])
        reset, keep = gates.chunk(2, dim=1)
        fresh = torch.tanh(share[:, 2 * size :] + reset * product[:, 2 * size :])
        return torch.lerp(fresh, state, keep)


class DeepSpeech(nn.Module):
    """A small net of DeepSpeech2's form (Amodei et al. 2016, arXiv 1512.02595) for training with CTC.

    Two 2-D convolutions, each with batch normalisation and a ReLU clipped at 20, the first of stride 2 over
    time and bands, the second over bands; bidirectional recurrent layers; a linear layer. Padding has no
    influence on the frames of an utterance, but for the statistics of the convolutions' normalisation in
    training, which count it.

    - bands: of the log-mel frames.
    - symbols: outputs, blank included (index 0 by convention).
    - channels: of both convolutions.
    - size, layers, cell: of the recurrent layers.

    Shapes: see forward.
    """

    def __init__(
        self,
        bands: int = 40,
        symbols: int = 29,
        *,
        channels: int = 16,
        size: int = 128,
        layers: int = 2,
        cell: Cell = "gru",
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels, (11, 11), stride=(2, 2), padding=(5, 5), bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, (7, 7), stride=(1, 2), padding=(3, 3), bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        inputs = channels * ((bands + 3) // 4)
        self.recurrent = nn.ModuleList(
            Recurrence(inputs if i == 0 else size, size, cell) for i in range(layers)
        )
        self.norm = nn.BatchNorm1d(size)
        self.output = nn.Linear(size, symbols)
        for conv in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")

    def lengths(self, frames: Tensor) -> Tensor:
        """Output frames of utterances with so many input frames: half, rounded up."""
        return (frames + 1) // 2

    def forward(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of a padded batch.

        - features: float32 (B, T, bands), zero past each utterance's end.
        - frames: int64 (B,) on the CPU, the largest is T.

        Returns logits float32 (ceil(T / 2), B, symbols), zero past the end, and the lengths int64 (B,), on
        the CPU too.
        """
        lengths = self.lengths(frames)
        grid = Grid.of(lengths, features.device)
        inside = (torch.arange(grid.steps) < lengths[:, None]).to(features.device)
        mask = inside[:, None, :, None]
        x = F.hardtanh(self.norm1(self.conv1(features.unsqueeze(1))), 0.0, 20.0) * mask
        x = F.hardtanh(self.norm2(self.conv2(x)), 0.0, 20.0)
        rows = inside.flatten().nonzero().squeeze(1)
        y = x.permute(0, 2, 1, 3).flatten(2).flatten(0, 1).index_select(0, rows)
        for layer in self.recurrent:
            y = layer(y, grid)
        return grid.spread(self.output(self.norm(y)), grid.places), lengths
