"""The update without FP32 master weights: what the optimizer wrote is rounded, and small changes are lost.

A weight of 1 has BF16 neighbours 2^-7 above and 2^-8 below: an update of less than half of that, rounded to
nearest, leaves it where it was. Training then stalls however often the same update comes, which is why the
paper's flow adds FP32 gradients to FP32 master weights (arXiv 1905.12322, figure of the data flow).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from leandnn.bf16.converters import first_seed
from leandnn.bf16.policy import Rounding
from leandnn.kernels import round_to


class MasterWeights:
    """Trained parameters that are rounded after each update, and counts of the updates that this loses.

    - parameters: float32, by name. Rounded where they are, at once and by `round`.
    - seed: of the stochastic mode; the random bits are a function of it, the update's number and the
      parameter's position.

    An update is lost where the optimizer changed a number and rounding changed it back.

    Raises ValueError for a parameter of another dtype.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], rounding: Rounding, seed: int) -> None:
        self.parameters, self.rounding, self.seed = dict(parameters), rounding, seed
        self.lost = dict.fromkeys(self.parameters, 0)
        self.changed = dict.fromkeys(self.parameters, 0)
        self._before: dict[str, Tensor] = {}
        self._convert(update=-1)

    def keep(self) -> None:
        """Remember the weights as they are before an update."""
        self._before = {name: p.detach().clone() for name, p in self.parameters.items()}

    def round(self, update: int) -> None:
        """Round the weights after update number `update`, and count what was lost since `keep`."""
        changed = {name: p.detach() != self._before[name] for name, p in self.parameters.items()}
        self._convert(update)
        for name, p in self.parameters.items():
            self.changed[name] += int(changed[name].sum())
            self.lost[name] += int((changed[name] & (p.detach() == self._before[name])).sum())
        self._before = {}

    def shares(self) -> dict[str, float]:
        """Share of the changed numbers whose change was lost, by parameter; 0 where none was changed."""
        return {name: self.lost[name] / max(1, self.changed[name]) for name in self.parameters}

    def _convert(self, update: int) -> None:
        fmt, mode = self.rounding
        first = first_seed(self.seed, "update", update)
        for i, p in enumerate(self.parameters.values()):
            if p.dtype is not torch.float32:
                raise ValueError(f"a master weight has dtype {p.dtype}, expected torch.float32")
            round_to(p, fmt, mode, seed=(first + i) % 2**64, out=p)
