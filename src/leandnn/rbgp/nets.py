"""The study's nets: sparse from the first step, in RBGP4 patterns and in those that they are compared with."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable

import torch
from torch import nn

from leandnn.blocksparse import Pattern, convert
from leandnn.blocksparse.layers import BlockSparse
from leandnn.kernels.panels.format import Graph
from leandnn.rbgp import controls
from leandnn.rbgp.lifts import ramanujan
from leandnn.rbgp.sparsify import plan, rescaled
from leandnn.train.task import Hook

# Blocks at random places that stay what they were: what a pattern is worth that is neither found nor designed.
RANDOM = {"random": (1, 1), "random4x4": (4, 4), "random16x16": (16, 16)}
# Graphs of the same degrees, by the gap that they leave; see single_graph.
GRAPHS = ("rbgp4", "hadamard", "not-ramanujan", "disconnected")
Rule = Callable[[nn.Linear | nn.Conv2d, Pattern, int], Pattern]
"""A layer, its RBGP4 pattern and a seed → the pattern to take."""


def as_planned(layer: nn.Linear | nn.Conv2d, own: Pattern, seed: int) -> Pattern:
    """The rule of the arm RBGP4 itself: the layer's own pattern."""
    return own


def fixed_net(
    build: Callable[[], nn.Module], sparsity: float, seed: int, rule: Rule = as_planned
) -> nn.Module:
    """A new net whose layers are sparse before training, in RBGP4 patterns or in those of a rule.

    - build: makes the dense net. sparsity, seed: see plan.

    Whatever the rule, the layers that are sparse are those that RBGP4 has a pattern for, and values are scaled as
    sparsify does it: arms differ in their patterns alone.
    """
    model = build()
    patterns = {}
    for number, (name, own) in enumerate(plan(model, sparsity, seed=seed).patterns.items()):
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Linear | nn.Conv2d)
        patterns[name] = rule(layer, own, 4096 * seed + number)
    return rescaled(convert(model, patterns))


def random_blocks(block: tuple[int, int], layer: nn.Linear | nn.Conv2d, own: Pattern, seed: int) -> Pattern:
    """Blocks of a size (one of RANDOM) at random places, at the sparsity of the layer's RBGP4 pattern."""
    generator = torch.Generator().manual_seed(seed)
    if block == (1, 1):
        return Pattern.random_unstructured(*own.shape, own.sparsity, generator)
    return Pattern.random_blocks(*own.shape, block, own.sparsity, generator)


def single_graph(kind: str, layer: nn.Linear | nn.Conv2d, own: Pattern, seed: int) -> Pattern:
    """All lifts in G_o, a vertex for every channel, so that its property can matter most.

    - kind, one of GRAPHS: "rbgp4": random Ramanujan lifts. "hadamard": deterministic ones with the greatest gap,
      random ones where those miss the bound. "not-ramanujan": of the same degrees and connected, but hardly.
      "disconnected": of the same degrees, a grouped layer.

    G_r, G_i and G_b, but for a convolution's window, have one vertex a side. ValueError for another kind.
    """
    rows, cols, sparsity = *layer.weight.shape[:2], own.sparsity
    if kind == "not-ramanujan":
        graph = controls.nearly_disconnected(rows, cols, sparsity, seed)
    elif kind == "disconnected":
        graph = controls.disconnected(rows, cols, sparsity)
    elif kind in GRAPHS:
        graph = ramanujan(rows, cols, sparsity, seed)
        if kind == "hadamard":
            with contextlib.suppress(ValueError):
                graph = ramanujan(rows, cols, sparsity, construction="hadamard")
    else:
        raise ValueError(f"graph {kind!r} is unknown, expected one of {', '.join(GRAPHS)}")
    window = math.prod(layer.weight.shape[2:])
    return Pattern.rbgp4(graph.edges, (1, 1), Graph.complete(1, 1), (1, window))


class DecayedValues(Hook):
    """Weight decay for the values of block-sparse layers, as dense weights have it.

    The loop spares tensors of one dimension, because they are biases and norms; values are weights in one
    dimension.
    """

    def attach(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Move the values to the optimizer's group that decays."""
        values = {id(module.values) for module in model.modules() if isinstance(module, BlockSparse)}
        decayed, spared = optimizer.param_groups
        decayed["params"] += [p for p in spared["params"] if id(p) in values]
        spared["params"] = [p for p in spared["params"] if id(p) not in values]
