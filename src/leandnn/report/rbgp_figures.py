"""Figures of paper 3: graphs and their product, masks, spectra, accuracy by sparsity and by gap, time, memory."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from leandnn.report import figures, hbsnn_data
from leandnn.report.benchfile import BenchFile

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from leandnn.blocksparse import Pattern

Mask = NDArray[np.bool_]
LEFT, RIGHT, EDGE, CROSSED = "#0072B2", "#D55E00", "#555555", "#CC79A7"
# Family of arms → words, colour, marker; as in the figures of paper 4 where both have it.
RANDOM = {
    "random": ("single weights at random, fixed", "#56B4E9", "o"),
    "random4x4": ("4×4 blocks at random, fixed", "#8DD3A0", "^"),
    "random16x16": ("16×16 blocks at random, fixed", "#B8A07E", "<"),
}
FAMILIES = {**hbsnn_data.FAMILIES, **RANDOM}
# Arms of the ablation, from no gap to the greatest.
GRAPHS = {
    "disconnected": ("disconnected", "#CC79A7"),
    "not-ramanujan": ("connected, not Ramanujan", "#D55E00"),
    "rbgp4": ("Ramanujan, random lifts", "#E69F00"),
    "hadamard": ("Ramanujan, deterministic lifts", "#009E73"),
}
# Implementation in bench-rbgp.json → words, colour; from the slowest kind to ours.
IMPLS = {
    "torch.dense": ("dense, torch", "#555555"),
    "torch.dense (channels last)": ("dense, torch, channels last", "#888888"),
    "onednn (folded, prepacked)": ("dense, oneDNN, folded and packed", "#BBBBBB"),
    "leandnn.unstructured": ("single weights, our kernels", "#0072B2"),
    "leandnn.block4x4": ("4×4 blocks, our kernels", "#009E73"),
    "leandnn": ("RBGP4, our kernels", "#E69F00"),
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


def accuracy(table: pd.DataFrame, note: str = "") -> Figure:
    """Accuracy by share of zeros: means with a band of one standard deviation, a line for every kind of pattern.

    - table: see hbsnn_data.laptop; without runs at several sparsities it has points with bars.
    """
    import matplotlib.pyplot as plt

    means = hbsnn_data.means(table)
    figure, ax = plt.subplots(figsize=(8.4, 4.4))
    for number, (name, (words, colour, marker)) in enumerate(FAMILIES.items()):
        rows = means[means.family == name].sort_values("sparsity")
        if rows.empty:
            continue
        mean, spread = 100 * rows.accuracy.to_numpy(), 100 * rows.sd.fillna(0).to_numpy()
        if name == "dense":
            ax.axhspan(mean[0] - spread[0], mean[0] + spread[0], color=figures.COLOURS["margin"], lw=0)
            ax.axhline(mean[0], color=colour, lw=1.2, ls="--", label=words)
            continue
        # Zeros by halvings of what is left: 50, 75, 87.5 and 93.75 % stand at equal distances.
        x = -np.log2(1 - rows.sparsity.to_numpy()) + (0.035 * (number - 5) if len(rows) == 1 else 0)
        style = "--" if name in RANDOM else "-"
        ax.plot(x, mean, style, marker=marker, ms=6.5, lw=1.6, color=colour, label=words)
        if len(rows) == 1:
            ax.errorbar(x, mean, yerr=spread, color=colour, capsize=3, lw=1.2)
        else:
            ax.fill_between(x, mean - spread, mean + spread, color=colour, alpha=0.15, lw=0)
    ax.set_xticks([1, 2, 3, 4], ["50 %", "75 %", "87.5 %", "93.75 %"])
    ax.set(xlim=(0.7, 4.3), xlabel="zeros in the sparse layers", ylabel="test accuracy, %")
    ax.set_title("Accuracy by sparsity and kind of pattern")
    _say(figure, note)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9)
    return figure


def gaps(final: pd.DataFrame, note: str = "") -> Figure:
    """Accuracy of nets whose graphs have the same degrees, by spectral gap and by the spread of path counts.

    - final: runs of the ablation (see runs.load) with spectral_gap and path_spread.
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.9), sharey=True)
    for name, (words, colour) in GRAPHS.items():
        rows = final[final.arm == name]
        if rows.empty:
            continue
        for ax, column in zip(axes, ("spectral_gap", "path_spread"), strict=True):
            ax.plot(rows[column], 100 * rows.test_accuracy, "o", color=colour, ms=5, alpha=0.55, mew=0)
            mean, spread = 100 * rows.test_accuracy.mean(), 100 * rows.test_accuracy.std()
            ax.errorbar(
                rows[column].mean(), mean, yerr=0 if np.isnan(spread) else spread, fmt="D", color=colour, ms=7,
                capsize=4, label=words,
            )  # fmt: skip
    axes[0].set(xlabel="spectral gap 1 − σ₂/σ₁, mean of the layers", ylabel="test accuracy, %")
    axes[1].set(xlabel="spread of the path counts (sd / mean)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=9)
    _say(figure, note)
    return figure


def costs(bench: BenchFile, sparsity: float, note: str = "") -> Figure:
    """Time an image of VGG19 takes at every measured batch, and its peak memory, as bars.

    - sparsity: in percent.
    """
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch

    own = [
        row for row in bench.rows if row["case"].get("net") == "VGG19" and row["case"]["sparsity"] == sparsity
    ]
    panels = [(unit, batch) for unit in ("images", "MiB") for batch in _batches(own, unit)]
    figure, axes = plt.subplots(1, len(panels), figsize=(max(8.4, 2.6 * len(panels)), 3.6), squeeze=False)
    for ax, (unit, batch) in zip(axes[0], panels, strict=True):
        found = {row["impl"]: row for row in own if row["unit"] == unit and row["case"]["batch"] == batch}
        if unit == "images":
            values = [1e3 * found[name]["median_s"] / batch if name in found else 0.0 for name in IMPLS]
            _bars(ax, values, f"batch {batch}: ms an image")
        else:
            _bars(
                ax,
                [found[name]["case"]["peak_mib"] if name in found else 0.0 for name in IMPLS],
                f"batch {batch}: peak MiB",
            )
    handles = [Patch(color=colour) for _, colour in IMPLS.values()]
    figure.legend(
        handles, [words for words, _ in IMPLS.values()], loc="outside lower center", ncols=3, fontsize=9
    )
    _say(figure, note)
    return figure


def _say(figure: Figure, note: str) -> None:
    """A note above a figure, in as many lines as its width asks for."""
    if note:
        words = textwrap.fill(note, int(13 * figure.get_figwidth()))
        figure.suptitle(words, x=0.01, ha="left", fontsize=9, fontweight="bold")


def _batches(rows: Sequence[Mapping[str, Any]], unit: str) -> list[int]:
    """The batches that rows of a unit have, ascending."""
    return sorted({row["case"]["batch"] for row in rows if row["unit"] == unit})


def _bars(ax: Axes, values: Sequence[float], title: str) -> None:
    """One bar for every implementation of IMPLS, its value above it; none where it was not measured."""
    colours = [colour for _, colour in IMPLS.values()]
    bars = ax.bar(range(len(values)), values, color=colours, width=0.8)
    ax.bar_label(bars, [f"{v:.{2 if v < 10 else 3}g}" if v else "" for v in values], fontsize=8, padding=1)
    ax.set_title(title, fontsize=9.5, fontweight="normal", loc="center")
    ax.set(xticks=[], ylim=(0, 1.15 * max(values, default=1) or 1))
    ax.grid(visible=False)
