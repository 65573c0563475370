"""Speech recognisers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leandnn.errors import LeandnnError

Cell = Literal["tanh", "gru"]


@dataclass(frozen=True)
class Grid:
    """Where the frames of a batch, which lie end to end, stand in padded grids of rows.

    - places: int64 (sum of lengths,), each frame's row in a grid (steps, batch).
    - ahead, back: likewise in a grid (steps, 2, batch), whose second half runs from each utterance's end.
    - lengths: int64 (batch,), on the CPU.
    """

    places: Tensor
    ahead: Tensor
    back: Tensor
    lengths: Tensor
    steps: int
    batch: int

    @classmethod
    def of(cls, lengths: Tensor, device: torch.device) -> Grid:
        """The grids of utterances of these lengths, int64 (batch,) on the CPU.

        LeandnnError for none, and for a length below 1.
        """
        if not len(lengths) or int(lengths.min()) < 1:
            raise LeandnnError(
                f"a batch has {len(lengths)} utterances of {lengths.tolist()} frames, expected 1 or more of each"
            )
        batch, steps = len(lengths), int(lengths.max())
        owner = torch.repeat_interleave(torch.arange(batch), lengths)
        time = torch.arange(len(owner)) - torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths)
        rows = (
            time * batch + owner,
            time * 2 * batch + owner,
            (lengths[owner] - 1 - time) * 2 * batch + batch + owner,
        )
        places, ahead, back = (row.to(device) for row in rows)
        return cls(places, ahead, back, lengths, steps, batch)

    def padded(self, frames: Tensor) -> Tensor:
        """Frames (sum of lengths, C) as (steps, batch, C), zeros past each utterance's end."""
        grid = frames.new_zeros(self.steps * self.batch, frames.shape[1])
        return grid.index_copy(0, self.places, frames).view(self.steps, self.batch, -1)

    def both_ways(self, ahead: Tensor, back: Tensor) -> Tensor:
        """Frames for either direction, (sum of lengths, C) each, as (steps, 2, batch, C), padded likewise."""
        grid = ahead.new_zeros(self.steps * 2 * self.batch, ahead.shape[1])
        grid = grid.index_copy(0, torch.cat([self.ahead, self.back]), torch.cat([ahead, back]))
        return grid.view(self.steps, 2, self.batch, -1)

    def joined(self, grid: Tensor) -> Tensor:
        """Every frame's two rows of a grid (steps, 2, batch, C), added: (sum of lengths, C)."""
        rows = grid.flatten(0, 2)
        return rows.index_select(0, self.ahead) + rows.index_select(0, self.back)


class Recurrence(nn.Module):
    """One bidirectional recurrent layer, written out step by step; its two directions are added.

    Every product is a call that the emulator of bf16/ sees (torch's own recurrent layers hide theirs): one
    F.linear for the inputs of all steps, and one torch.bmm a step for both directions. As in DeepSpeech2
    (arXiv 1512.02595, section 3.2), batch normalisation stands in the input's share alone, with
    statistics over all frames of the batch; its shifts are the biases.

    - cell: "tanh" is h_t = tanh(norm(W x_t) + U h_{t-1}); "gru" is that of torch.nn.GRU without its second bias:
      both gates are sigmoids of such sums, and r weighs U h_{t-1} in the candidate.

    Shapes: frames float32 (sum of lengths, inputs), end to end → (sum of lengths, size).
    """

    def __init__(self, inputs: int, size: int, cell: Cell) -> None:
        super().__init__()
        self.size, self.cell = size, cell
        gates = 3 if cell == "gru" else 1
        self.input = nn.Linear(inputs, 2 * gates * size, bias=False)
        self.norm = nn.BatchNorm1d(2 * gates * size)
        self.recurrent = nn.Parameter(torch.empty(2, size, gates * size))
        for direction in self.recurrent.data:
            for block in direction.split(size, dim=1):
                nn.init.orthogonal_(block)

    def forward(self, frames: Tensor, grid: Grid) -> Tensor:
        """Both directions over a batch; what is computed past an utterance's end is dropped."""
        shares = grid.both_ways(*self.norm(self.input(frames)).chunk(2, dim=1))
        state = shares.new_zeros(2, grid.batch, self.size)
        states = []
        for share in shares.unbind(0):
            state = self._step(share, state, torch.bmm(state, self.recurrent))
            states.append(state)
        return grid.joined(torch.stack(states))

    def _step(self, share: Tensor, state: Tensor, product: Tensor) -> Tensor:
        """The next state (2, B, size) from its input's and its predecessor's shares (2, B, gates size)."""
        if self.cell == "tanh":
            return torch.tanh(share + product)
        size = self.size
        gates = torch.sigmoid(share[..., : 2 * size] + product[..., : 2 * size])
        reset, keep = gates.chunk(2, dim=2)
        fresh = torch.tanh(torch.addcmul(share[..., 2 * size :], reset, product[..., 2 * size :]))
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
        return grid.padded(self.output(self.norm(y))), lengths


class LibraryRecurrence(nn.Module):
    """A recurrent layer's function in evaluation, by torch's own GRU or RNN: what one fused call costs.

    The normalisation is folded into the layer's weights, as it stood when this was made; nothing that emulates
    rounding can see into it.

    - layer: whose weights and running statistics are taken over.

    Shapes: as of Recurrence.
    """

    def __init__(self, layer: Recurrence) -> None:
        super().__init__()
        kind = nn.GRU if layer.cell == "gru" else nn.RNN
        self.library = kind(layer.input.in_features, layer.size, bidirectional=True)
        assert layer.norm.running_var is not None
        assert layer.norm.running_mean is not None
        with torch.no_grad():
            scale = layer.norm.weight / (layer.norm.running_var + layer.norm.eps).sqrt()
            weights = (layer.input.weight * scale[:, None]).chunk(2)
            biases = (layer.norm.bias - layer.norm.running_mean * scale).chunk(2)
            for i, suffix in enumerate(("_l0", "_l0_reverse")):
                getattr(self.library, f"weight_ih{suffix}").copy_(weights[i])
                getattr(self.library, f"bias_ih{suffix}").copy_(biases[i])
                getattr(self.library, f"weight_hh{suffix}").copy_(layer.recurrent[i].t())
                getattr(self.library, f"bias_hh{suffix}").zero_()

    def forward(self, frames: Tensor, grid: Grid) -> Tensor:
        """Both directions over a batch, added."""
        packed = nn.utils.rnn.pack_padded_sequence(grid.padded(frames), grid.lengths, enforce_sorted=False)
        states, _ = nn.utils.rnn.pad_packed_sequence(self.library(packed)[0])
        ahead, back = states.flatten(0, 1).index_select(0, grid.places).chunk(2, dim=1)
        return ahead + back


def with_fused_recurrence(model: nn.Module) -> nn.Module:
    """The model itself, changed: every Recurrence in it is now a LibraryRecurrence."""
    for name, module in list(model.named_modules()):
        if isinstance(module, Recurrence):
            model.set_submodule(name, LibraryRecurrence(module))
    return model
