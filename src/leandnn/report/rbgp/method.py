"""Figures of paper 3's method: graphs, lifts and their product, masks, spectra. Results: figures.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from leandnn.blocksparse import Pattern

Mask = NDArray[np.bool_]
LEFT, RIGHT, EDGE, CROSSED = "#0072B2", "#D55E00", "#555555", "#CC79A7"
# Arms of the ablation, from no gap to the greatest.
GRAPHS = {
    "disconnected": ("disconnected", "#CC79A7"),
    "not-ramanujan": ("connected, not Ramanujan", "#D55E00"),
    "rbgp4": ("Ramanujan, random lifts", "#E69F00"),
    "hadamard": ("Ramanujan, deterministic lifts", "#009E73"),
}


class WithSpectrum(Protocol):
    """A graph that knows its spectrum, as rbgp.BipartiteGraph does (which this room may not import)."""

    def singular_values(self) -> Tensor:
        """All of them, descending."""

    @property
    def bound(self) -> float:
        """The Ramanujan bound of its degrees."""


def draw_graph(ax: Axes, mask: Mask, title: str, signs: Mask | None = None) -> None:
    """A bipartite graph: left vertices (rows) beside right ones (columns), its edges as lines.

    - signs: where true edges are to be lifted in parallel, else crossed (dashed).
    """
    places = [np.linspace(1, 0, size) if size > 1 else np.array([0.5]) for size in mask.shape]
    for i, j in np.argwhere(mask):
        crossed = signs is not None and not signs[i, j]
        style: dict[str, Any] = {"color": CROSSED, "ls": "--"} if crossed else {"color": EDGE, "ls": "-"}
        ax.plot([0, 1], [places[0][i], places[1][j]], lw=1.1, alpha=0.85, zorder=1, **style)
    for x, own, colour in ((0, places[0], LEFT), (1, places[1], RIGHT)):
        ax.scatter(np.full(own.size, x), own, s=34, color=colour, zorder=2)
    ax.set(xlim=(-0.25, 1.25), ylim=(-0.12, 1.12))
    ax.set_axis_off()
    ax.set_title(title, fontsize=9.5, fontweight="normal", loc="center")


def draw_mask(ax: Axes, mask: Mask, title: str, tile: tuple[int, int] | None = None) -> None:
    """A mask, non-zeros dark; lines around tiles of (height, width)."""
    ax.imshow(mask, cmap="Greys", vmin=0, vmax=1.25, interpolation="nearest", aspect="equal")
    if tile is not None:
        for edge in range(tile[0], mask.shape[0], tile[0]):
            ax.axhline(edge - 0.5, color=RIGHT, lw=0.7)
        for edge in range(tile[1], mask.shape[1], tile[1]):
            ax.axvline(edge - 0.5, color=RIGHT, lw=0.7)
    ax.set(xticks=[], yticks=[])
    ax.grid(visible=False)
    for spine in ax.spines.values():
        spine.set(visible=True, color="#AAAAAA", linewidth=0.8)
    ax.set_title(title, fontsize=9.5, fontweight="normal", loc="center")


def lifting(stages: Sequence[Mask], signs: Sequence[Mask]) -> Figure:
    """A complete graph and what each 2-lift makes of it, with the matrix below.

    - stages: biadjacency matrices, the complete graph first; signs: of each lift, one less.
    """
    import matplotlib.pyplot as plt

    count = len(stages)
    figure, axes = plt.subplots(2, count, figsize=(2.9 * count, 4.6), height_ratios=[1.25, 1])
    for k, mask in enumerate(stages):
        lifted = signs[k] if k < len(signs) else None
        name = f"$K_{{{mask.shape[0]},{mask.shape[1]}}}$" if k == 0 else f"after {k} lift{'s' * (k > 1)}"
        draw_graph(axes[0][k], mask, f"{name}: {mask.shape[0]} + {mask.shape[1]} vertices", lifted)
        half = (mask.shape[0] // 2, mask.shape[1] // 2) if k else None
        draw_mask(axes[1][k], mask, f"{1 - mask.mean():.0%} zeros", half)
    return figure


def product(pattern: Pattern) -> Figure:
    """The four factors of a small RBGP4 pattern from the inside outwards, each above the product so far."""
    import matplotlib.pyplot as plt

    outer, repeat, inner, block = (factor.mask() for factor in pattern.factors)
    figure, axes = plt.subplots(2, 4, figsize=(11.4, 5.6), height_ratios=[1, 1.25])
    factors = {
        "$G_b$, complete: blocks": block,
        "$G_i$, sparse: where in a tile": inner,
        "$G_r$, complete: rows repeated": repeat,
        "$G_o$, sparse: where tiles are": outer,
    }
    for ax, (name, factor) in zip(axes[0], factors.items(), strict=True):
        draw_graph(ax, factor, f"{name}\n{factor.shape[0]} × {factor.shape[1]}, {factor.sum()} edges")
    steps = [block, np.kron(inner, block)]
    steps += [np.kron(repeat, steps[1])]
    steps += [np.kron(outer, steps[2])]
    labels = (
        "$G_b$",
        "$G_i \\otimes G_b$",
        "$G_r \\otimes G_i \\otimes G_b$",
        "$G_o \\otimes G_r \\otimes G_i \\otimes G_b$",
    )
    tiles = [None, *(mask.shape for mask in steps[:-1])]
    for ax, mask, label, tile in zip(axes[1], steps, labels, tiles, strict=True):
        draw_mask(ax, mask, f"{label}\n{mask.shape[0]} × {mask.shape[1]}", tile)
    return figure


def masks(patterns: Mapping[str, Pattern]) -> Figure:
    """Masks side by side, by title."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(patterns), figsize=(2.75 * len(patterns), 3.1), squeeze=False)
    for ax, (title, pattern) in zip(axes[0], patterns.items(), strict=True):
        draw_mask(ax, pattern.mask().numpy(), title)
    return figure


def kept(patterns: Mapping[str, Pattern]) -> pd.DataFrame:
    """The masks as numbers: mask (its title), row, columns (those that the row keeps, with spaces between)."""
    import pandas as pd

    return pd.DataFrame(
        {"mask": title, "row": i, "columns": " ".join(map(str, np.flatnonzero(row)))}
        for title, pattern in patterns.items()
        for i, row in enumerate(pattern.mask().numpy())
    )


def spectra(graphs: Mapping[str, WithSpectrum]) -> Figure:
    """Singular values over the largest one, in descending order, against the Ramanujan bound.

    - graphs: name of GRAPHS → graph; all of the same degrees.
    """
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(7.2, 3.9))
    bound = 0.0
    for name, graph in graphs.items():
        words, colour = GRAPHS[name]
        values = graph.singular_values().numpy()
        ax.plot(
            np.arange(1, values.size + 1), values / values[0], ".-", ms=5, lw=1.4, color=colour, label=words
        )
        bound = graph.bound / values[0]
    ax.axhline(bound, color="#333333", lw=1.2, ls="--")
    ax.text(11, bound + 0.015, "the Ramanujan bound", fontsize=9, color="#333333")
    ax.set(xlabel="singular value, by size", ylabel="over the largest", ylim=(-0.02, 1.06))
    ax.legend(loc="upper right", fontsize=9)
    return figure
