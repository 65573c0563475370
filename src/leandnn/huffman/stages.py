"""A net trained, and compressed while it is trained on, in one run: what each stage costs in accuracy and in bytes.

The stages are stretches of one run's updates (`Phase`). "dense" trains the net. "control" trains it on for as long as
compression will take. Then the dense net comes back: it is pruned and trained on ("retrained"), its weights are
shared and the shared values trained ("fine_tuned"), and what there is then is coded, saved, loaded and measured.
Control and compressed net so have the same first half and the same number of updates.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize

from leandnn.errors import LeandnnError
from leandnn.huffman.bit_table import LayerBits
from leandnn.huffman.compress import encode, prune_layers, share_layers
from leandnn.huffman.model import load
from leandnn.huffman.prune import Masked, layers
from leandnn.huffman.quantise import SharedWeights
from leandnn.train import schedules
from leandnn.train.task import Hook

Evaluate = Callable[[nn.Module], dict[str, float]]
COUNT_BYTES = 2  # of a row's number of slots, as in the file


@dataclass(frozen=True)
class Phase:
    """A stretch of training with a schedule of its own.

    - name: "dense", "control", "retrained" or "fine_tuned", in this order.
    - share: of the run's updates. lr: peak learning rate; schedule: see schedules.factor.
    """

    name: str
    share: float
    lr: float
    schedule: str


@dataclass(frozen=True)
class Recipe:
    """How a net is compressed.

    - phases: of the training, all four.
    - density: layer → share of its weights that stay. bits: layer → log2 of the values that the rest share.
    - layout: of the code; fixed, since "auto" would ask the CPU.
    """

    phases: tuple[Phase, ...]
    density: Mapping[str, float]
    bits: Mapping[str, int]
    layout: str = "streams"


class Stages(Hook):
    """Compression as a hook of the loop. It sets the learning rate, so the loop's schedule should be constant.

    - recipe: what is done. updates: of the whole run. evaluate: the task's metrics of a model; the test accuracy
      is looked at.

    Columns, 0 until their stage is reached: <stage>_accuracy for dense, control, pruned (before retraining),
    retrained, shared (before fine-tuning), fine_tuned and coded (of the file that was saved and loaded);
    <stage>_bytes of all weights for dense, pruned, shared, coded, and <layer>.<stage>_bytes; file_bytes;
    <layer>.nonzeros, .fillers, .index_bits, and where the coded bits go: .weight_code_bits, .advance_code_bits,
    .table_bits, .row_bits (counts and offsets), .padding_bits, .entropy_bits (Shannon's bound for the code words).

    Raises LeandnnError for fewer updates than phases have room in.
    """

    def __init__(self, recipe: Recipe, updates: int, evaluate: Evaluate) -> None:
        self.recipe, self.evaluate = recipe, evaluate
        ends = np.cumsum([phase.share for phase in recipe.phases]) / sum(p.share for p in recipe.phases)
        self.ends = [round(float(end) * updates) for end in ends]
        if min(np.diff([0, *self.ends])) < 1:
            raise LeandnnError(
                f"a run of {updates} updates cannot hold {len(self.ends)} phases that end at {self.ends}, expected more"
            )
        self.done = 0
        self.found: dict[str, float] = {}
        self.dense: dict[str, Tensor] = {}

    def attach(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Make the model take up, before a checkpoint's weights, the parametrizations that they were saved with."""
        self.model, self.optimizer = model, optimizer
        self.names = list(layers(model))
        model.register_load_state_dict_pre_hook(_reparametrize)

    def before_update(self, progress: float) -> None:
        """Set the learning rate of the phase."""
        number = self._phase()
        phase, begin = self.recipe.phases[number], [0, *self.ends][number]
        length = self.ends[number] - begin
        at = (self.done - begin + 1) / (length + 1)
        for group in self.optimizer.param_groups:
            group["lr"] = phase.lr * schedules.factor(phase.schedule, at)

    def after_update(self, progress: float) -> None:
        """Begin the next stage where a phase ends."""
        self.done += 1
        for number, end in enumerate(self.ends):
            if self.done == end:
                self._finish(self.recipe.phases[number].name)

    def epoch_end(self, epoch: int) -> dict[str, float]:
        """The columns."""
        return dict.fromkeys(self.columns(), 0.0) | self.found

    def columns(self) -> list[str]:
        """All columns' names."""
        stages = ("dense", "control", "pruned", "retrained", "shared", "fine_tuned", "coded")
        sizes = [f"{stage}_bytes" for stage in ("dense", "pruned", "shared", "coded")]
        of_layers = [f"{name}.{what}" for name in self.names for what in (*sizes, *_PARTS)]
        return [*(f"{stage}_accuracy" for stage in stages), *sizes, "file_bytes", *of_layers]

    def state_dict(self) -> dict[str, Any]:
        """Updates done, what was found, and the dense weights while they are needed."""
        return {"done": self.done, "found": self.found, "dense": self.dense}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of state_dict."""
        self.done, self.found, self.dense = state["done"], state["found"], state["dense"]

    def _phase(self) -> int:
        return next(number for number, end in enumerate(self.ends) if self.done < end)

    def _accuracy(self, stage: str, model: nn.Module | None = None) -> None:
        """Measure a stage's accuracy; the model goes on as it was."""
        model = self.model if model is None else model
        training = model.training
        model.eval()
        with torch.no_grad():
            self.found[f"{stage}_accuracy"] = self.evaluate(model)["test_accuracy"]
        model.train(training)

    def _finish(self, name: str) -> None:
        self._accuracy(name)
        if name == "dense":
            self._bytes("dense")
            self.dense = {key: value.detach().clone() for key, value in self.model.state_dict().items()}
        elif name == "control":
            self.model.load_state_dict(self.dense)
            self.dense = {}
            prune_layers(self.model, density=self.recipe.density)
            self._accuracy("pruned")
            self._bytes("pruned")
        elif name == "retrained":
            share_layers(self.model, self.recipe.bits)
            # Shared values are no weights: what decays them would pull all of a layer's weights at once.
            for group in self.optimizer.param_groups:
                group["weight_decay"] = 0.0
            self._accuracy("shared")
            self._bytes("shared")
        else:
            self._code()
        # A phase has its own schedule, and parameters may have other shapes.
        self.optimizer.state.clear()
        self.optimizer.zero_grad(set_to_none=True)

    def _bytes(self, stage: str) -> None:
        """Bytes of all weights in a stage before Huffman coding: dense, pruned or shared."""
        for name, layer in layers(self.model).items():
            weight, bits = layer.weight.detach(), self.recipe.bits[name]
            if stage == "dense":
                size = 4.0 * weight.numel()
            else:
                kept = weight.flatten(1).cpu().numpy() != 0
                size = (
                    uncoded_bytes(kept, 32) if stage == "pruned" else uncoded_bytes(kept, bits) + (4 << bits)
                )
            self.found[f"{name}.{stage}_bytes"] = size
        self._total(stage)

    def _total(self, stage: str) -> None:
        self.found[f"{stage}_bytes"] = sum(self.found[f"{name}.{stage}_bytes"] for name in self.names)

    def _code(self) -> None:
        """Code the net, save it, load it, and measure what was loaded."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "net.lhuf"
            encode(self.model, layout=self.recipe.layout).save(path)
            self.found["file_bytes"] = path.stat().st_size
            loaded = load(path)
        self._accuracy("coded", _OnCpu(loaded))
        for own in loaded.bits():
            self.found[f"{own.name}.coded_bytes"] = own.total_bits / 8
            self.found |= {f"{own.name}.{part}": float(of(own)) for part, of in _PARTS.items()}
        self._total("coded")


_PARTS: dict[str, Callable[[LayerBits], float]] = {
    "nonzeros": lambda own: own.nonzeros,
    "fillers": lambda own: own.fillers,
    "index_bits": lambda own: own.index_bits,
    "weight_code_bits": lambda own: own.weight_bits,
    "advance_code_bits": lambda own: own.advance_bits,
    "table_bits": lambda own: own.table_bits,
    "row_bits": lambda own: own.count_bits + own.offset_bits,
    "padding_bits": lambda own: own.padding_bits,
    "entropy_bits": lambda own: own.weight_entropy + own.advance_entropy,
}


class _OnCpu(nn.Module):
    """A compressed net, which computes on the CPU, for batches of any device."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x.cpu())
        return logits.to(x.device)


def uncoded_bytes(kept: NDArray[np.bool_], value_bits: int) -> float:
    """Bytes of a sparse matrix row by row as (relative index, value), with the width of the index that needs least.

    - kept: bool, rows × columns: where it is not zero. value_bits: of a value.

    Where a gap is too wide for the index a filler with a value of zero is put in, as in the coded form; two bytes a
    row say how many entries it has.
    """
    rows, columns = np.nonzero(kept)
    before = np.where(np.diff(rows, prepend=-1) > 0, -1, np.roll(columns, 1))
    gaps = columns - before - 1
    entries = (rows.size + int((gaps >> width).sum()) for width in range(1, 9))
    bits: int = min(count * (value_bits + width) for width, count in enumerate(entries, 1))
    return bits / 8 + COUNT_BYTES * len(kept)


def _reparametrize(module: nn.Module, state: Mapping[str, Any], prefix: str, *_: Any) -> None:
    """Give a plain model the masks or codebooks of a checkpoint that is about to be loaded."""
    for name, layer in layers(module).items():
        if parametrize.is_parametrized(layer, "weight"):
            continue
        own = f"{prefix}{name}.parametrizations.weight."
        device = layer.weight.device
        if (mask := state.get(f"{own}0.mask")) is not None:
            parametrize.register_parametrization(layer, "weight", Masked(mask.clone().to(device)))
        elif (symbols := state.get(f"{own}0.symbols")) is not None:
            shared = SharedWeights(symbols.clone().to(device), state[f"{own}original"].clone().to(device))
            parametrize.register_parametrization(layer, "weight", shared)
