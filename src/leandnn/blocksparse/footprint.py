"""What a sparse net costs, counted: share of zeros, bytes, multiply-adds of inference and of training."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from leandnn.blocksparse.convert import to_dense
from leandnn.blocksparse.layers import BlockSparse
from leandnn.blocksparse.pattern import Pattern
from leandnn.blocksparse.prune import prunable
from leandnn.models import macs
from leandnn.train.task import Hook

IMAGE = (3, 32, 32)
Patterns = Mapping[str, Pattern]


def dense_macs(model: nn.Module, input_shape: tuple[int, ...] = IMAGE) -> dict[str, int]:
    """Multiply-adds of one sample's forward pass by layer, zeros included; see models/macs.py.

    - model: left as it is; its block-sparse layers count as the dense ones that compute the same.
    - input_shape: of one sample.
    """
    counts: dict[str, int] = {}
    for layer in macs.count(to_dense(copy.deepcopy(model)), input_shape):
        counts[layer.name] = counts.get(layer.name, 0) + layer.macs
    return counts


def _size(module: nn.Module) -> int:
    """Weights of a layer, zeros included."""
    if isinstance(module, BlockSparse):
        return module.pattern.shape[0] * module.pattern.shape[1]
    return module.get_parameter("weight").numel()


class Footprint(Hook):
    """Counts a run's costs and reports them beside its metrics.

    - pruned: the patterns of dense layers that are pruned, asked anew at every update (GradualPruning.patterns);
      block-sparse layers have their own. Layers with neither are dense.
    - batch_size, input_shape: samples per update, and the shape of one.

    Columns:

    - sparsity: share of zeros among the weights of the prunable layers (see prune.prunable).
    - index_bytes: what the patterns store beside their values (Pattern.index_nbytes).
    - total_bytes: values of all parameters (of pruned layers the non-zeros), running statistics, and indices.
    - inference_macs: multiply-adds of one sample's forward pass, zeros left out.
    - train_macs: multiply-adds of training so far: output and input gradient with the weights that are not zero,
      weight gradient with all of a pruned layer's (as gradual pruning is counted in the literature: masks may
      change), with those of the pattern in a block-sparse layer.
    """

    def __init__(
        self,
        pruned: Callable[[], Patterns] = dict,
        *,
        batch_size: int,
        input_shape: tuple[int, ...] = IMAGE,
    ) -> None:
        self.pruned, self.batch_size, self.input_shape = pruned, batch_size, input_shape
        self.train_macs = 0.0

    def attach(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Count the model's layers."""
        self.model = model
        self.layers = dense_macs(model, self.input_shape)
        self.sizes = {name: _size(module) for name, module in prunable(model).items()}
        self.fixed = {
            name: module.pattern for name, module in model.named_modules() if isinstance(module, BlockSparse)
        }

    def before_update(self, progress: float) -> None:
        """Add this update's multiply-adds; GradualPruning, if it comes first, has pruned already."""
        pruned, sparse = self.pruned(), self.patterns()
        for name, count in self.layers.items():
            density = sparse[name].density if name in sparse else 1.0
            self.train_macs += self.batch_size * count * (2 * density + (1.0 if name in pruned else density))

    def patterns(self) -> dict[str, Pattern]:
        """The patterns of all sparse layers, by name."""
        return {**self.fixed, **self.pruned()}

    def epoch_end(self, epoch: int) -> dict[str, float]:
        """The columns."""
        patterns = self.patterns()
        zeros = {name: p.shape[0] * p.shape[1] - p.nnz for name, p in patterns.items()}
        index_bytes = sum(pattern.index_nbytes for pattern in patterns.values())
        state = [*self.model.parameters(), *(b for b in self.model.buffers() if b.is_floating_point())]
        values = sum(tensor.numel() * tensor.element_size() for tensor in state)
        for name in self.pruned():
            values -= zeros[name] * self.model.get_parameter(f"{name}.weight").element_size()
        densities = {name: pattern.density for name, pattern in patterns.items()}
        return {
            "sparsity": sum(zeros[name] for name in self.sizes if name in zeros) / sum(self.sizes.values()),
            "index_bytes": index_bytes,
            "total_bytes": values + index_bytes,
            "inference_macs": round(sum(n * densities.get(name, 1) for name, n in self.layers.items())),
            "train_macs": round(self.train_macs),
        }

    def state_dict(self) -> dict[str, Any]:
        """The sum."""
        return {"train_macs": self.train_macs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of state_dict."""
        self.train_macs = state["train_macs"]
