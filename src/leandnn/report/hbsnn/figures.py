"""Figures of paper 4: a hierarchy level by level, accuracy against sparsity and measured time, ablations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from leandnn.claims import statistics
from leandnn.report import pattern_runs, runs, style
from leandnn.report.pattern_runs import FAMILIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from leandnn.blocksparse import Pattern

# What is drawn together: comparisons by paper.
COMPARISONS = {
    "blocksparse": ("baselines", "sparsities"),
    "hbsnn": ("patterns", "sparsities", "division", "sizes", "selection"),
    "rbgp": ("patterns", "sparsities"),
}
DROPPED = "#F1EEE8"
LAYER = "blocks.0.conv2.weight"  # of the net of tasks/image_judge.py


def trained_layer(runs_dir: Path | str) -> Tensor:
    """A convolution's weight, 32 × 32 × 3 × 3, of the classifier that the pipeline trains for paper 1's images."""
    import safetensors

    path = Path(runs_dir) / "features" / "cifar10" / "model.safetensors"
    with safetensors.safe_open(path, framework="pt") as file:
        weight: Tensor = file.get_tensor(LAYER)
    return weight


def hierarchy(weight: Tensor, levels: Sequence[tuple[str, Pattern]], note: str = "") -> Figure:
    """A weight's magnitudes, and below what each level of a hierarchy leaves of them, whole and enlarged.

    - weight: (M, …). levels: (what is done, pattern of the levels so far), coarsest first; at least one.
    """
    import matplotlib.pyplot as plt
    from matplotlib.patches import Rectangle

    matrix = weight.detach().flatten(1).abs().numpy()
    top = float(np.quantile(matrix, 0.99))
    steps = [("all weights", np.ones(matrix.shape, bool))]
    steps += [(words, pattern.mask().numpy()) for words, pattern in levels]
    zoom = _window(steps[-1][1], levels[0][1])
    figure, axes = plt.subplots(
        len(steps), 2, figsize=(10.4, 1.55 * len(steps) + 0.3), width_ratios=[5.2, 1], squeeze=False
    )
    colours = plt.get_cmap("viridis_r").with_extremes(bad=DROPPED)
    for (whole, part), (words, mask) in zip(axes, steps, strict=True):
        kept = np.where(mask, matrix, np.nan)
        for ax, shown in ((whole, kept), (part, kept[zoom])):
            image = ax.imshow(shown, cmap=colours, vmin=0, vmax=top, interpolation="nearest", aspect="auto")
            ax.set(xticks=[], yticks=[])
            ax.grid(visible=False)
        whole.set_title(f"{words}: {mask.mean():.2%} of {mask.size:,}", fontsize=9.5, fontweight="normal")
        rows, columns = zoom
        corner, size = (
            (columns.start - 0.5, rows.start - 0.5),
            (columns.stop - columns.start, rows.stop - rows.start),
        )
        whole.add_patch(Rectangle(corner, *size, fill=False, edgecolor="#D55E00", lw=1.4))
        for spine in part.spines.values():
            spine.set(visible=True, color="#D55E00", linewidth=1.4)
    axes[0][1].set_title("the framed part", fontsize=9.5, fontweight="normal")
    figure.colorbar(image, ax=axes, label="magnitude", shrink=0.6, pad=0.01)
    style.heading(figure, note)
    return figure


def _window(mask: NDArray[np.bool_], coarse: Pattern) -> tuple[slice, slice]:
    """Two by two of the large blocks, three of them kept where there is such a place, near the middle."""
    (height, width), (rows, columns) = coarse.levels[0].block, mask.shape
    top, left = range(0, rows, height), range(0, columns, width)
    kept = np.add.reduceat(np.add.reduceat(mask, top, axis=0, dtype=int), left, axis=1) > 0

    def unfit(place: tuple[int, int]) -> tuple[int, float]:
        i, j = place
        return abs(int(kept[i : i + 2, j : j + 2].sum()) - 3), abs(j + 1 - len(left) / 2)

    places = [(i, j) for i in range(max(1, len(top) - 1)) for j in range(max(1, len(left) - 1))]
    i, j = min(places, key=unfit)
    return slice(i * height, min(rows, (i + 2) * height)), slice(j * width, min(columns, (j + 2) * width))


def _mark(ax: Axes, rows: pd.DataFrame, x: str, name: str, scale: float = 1.0) -> None:
    """Mean accuracies of one family with their standard deviations, in percent."""
    words, colour, marker = FAMILIES[name]
    spread = 100 * rows.sd.fillna(0)
    ax.errorbar(
        scale * rows[x],
        100 * rows.accuracy,
        yerr=spread,
        fmt=marker,
        color=colour,
        ms=7,
        elinewidth=1.2,
        capsize=3,
        label=words,
        zorder=3,
    )


def sparsities(table: pd.DataFrame, note: str = "") -> Figure:
    """Accuracy by share of zeros, every family of patterns a line; the dense net is a level line with its spread.

    - table: see pattern_runs.laptop.
    """
    import matplotlib.pyplot as plt

    means = pattern_runs.means(table)
    figure, ax = plt.subplots(figsize=(7.6, 4.4))
    dense = means[means.family == "dense"]
    if len(dense):
        mean, spread = 100 * float(dense.accuracy.iloc[0]), 100 * float(dense.sd.fillna(0).iloc[0])
        ax.axhspan(mean - spread, mean + spread, color=style.COLOURS["margin"], lw=0)
        ax.axhline(mean, color=FAMILIES["dense"][1], lw=1.2, ls="--", label="dense")
    wanted = sorted(means[means.family.isin(FAMILIES) & (means.family != "dense")].sparsity.round(4).unique())
    places = {value: i for i, value in enumerate(_near(wanted))}
    for name in [n for n in FAMILIES if n != "dense"]:
        rows = means[means.family == name].copy()
        if rows.empty:
            continue
        rows["place"] = [places[min(places, key=lambda p: abs(p - s))] for s in rows.sparsity]
        rows = rows.sort_values("place")
        offset = 0.05 * (list(FAMILIES).index(name) - 4)  # side by side, so that bars do not hide one another
        _mark(ax, rows.assign(place=rows.place + offset), "place", name)
        ax.plot(rows.place + offset, 100 * rows.accuracy, color=FAMILIES[name][1], lw=1.2, alpha=0.7)
    ax.set_xticks(list(places.values()), [f"{100 * p:.4g} %" for p in places])
    ax.set_xlim(-0.5, len(places) - 0.5)
    ax.set(xlabel="zeros in the pruned layers", ylabel="test accuracy, %")
    ax.set_title(note or "Accuracy by sparsity and kind of pattern")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9)
    return figure


def _near(values: Sequence[float]) -> list[float]:
    """Values that differ by more than a rounding of block counts (0.005)."""
    kept: list[float] = []
    for value in values:
        if not kept or value - kept[-1] > 0.005:
            kept.append(value)
    return kept


def pareto(
    table: pd.DataFrame, times: Mapping[str, Mapping[str, float]], batch: int, note: str = ""
) -> Figure:
    """Accuracy against measured time, one panel for each kind of time, with the front that nothing else beats.

    - times: what was timed → arm → seconds for `batch` images (see pattern_runs.seconds). A family's points are
      joined, the two-level ones labelled with their zeros.
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        1, len(times), figsize=(1.6 + 5.0 * len(times), 5.2), sharey=True, squeeze=False
    )
    for ax, (what, own) in zip(axes[0], times.items(), strict=True):
        points = pattern_runs.timed(table, own)
        points = points[points.family.isin(FAMILIES)].sort_values("sparsity")
        for name in FAMILIES:
            rows = points[points.family == name]
            if len(rows):
                ax.plot(1e3 * rows.seconds, 100 * rows.accuracy, color=FAMILIES[name][1], lw=1, alpha=0.4)
                _mark(ax, rows, "seconds", name, scale=1e3)
        labelled = points[points.family == "hierarchical"]
        for zeros, seconds, accuracy in labelled[["sparsity", "seconds", "accuracy"]].to_numpy(float):
            ax.annotate(
                f"{100 * zeros:.4g} %",
                (1e3 * seconds, 100 * accuracy),
                xytext=(-7, 5),
                textcoords="offset points",
                ha="right",
                fontsize=8,
                color=FAMILIES["hierarchical"][1],
            )
        kept = points.iloc[pattern_runs.front(list(zip(points.seconds, points.accuracy, strict=True)))]
        wide = {"color": "#DDD6C8", "lw": 7, "solid_capstyle": "round", "zorder": 0, "label": "Pareto front"}
        ax.plot(1e3 * kept.seconds, 100 * kept.accuracy, **wide)
        # Not from zero: what no pattern changes of a whole net's time would squeeze all points into a corner.
        ax.margins(x=0.15)
        ax.set_xlabel(f"ms for {batch} images, one thread")
        ax.set_title("whole net" if what == "net" else what)
    axes[0][0].set_ylabel("test accuracy, %")
    axes[0][-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9)
    style.heading(figure, note)
    return figure


def pairs(found: pd.DataFrame, confidence: float, note: str = "") -> Figure:
    """Paired differences by seed, their mean and its interval.

    - found: see runs.pairs. confidence: of the one-sided test; the interval has 1 − 2 · (1 − it).
    """
    import matplotlib.pyplot as plt

    level = 1 - 2 * (1 - confidence)
    interval = statistics.paired_difference(
        found.treatment.tolist(), found.control.tolist(), confidence=level
    )
    points = 100 * found.difference
    figure, ax = plt.subplots(figsize=(7.2, 1.7 + 0.28 * len(points)))
    ax.axvline(0, color=style.COLOURS["neutral"], lw=0.8)
    ax.plot(points, np.arange(len(points)), "o", color=FAMILIES["hierarchical"][1], ms=8)
    if interval.low is not None and interval.high is not None:
        spread = [[100 * (interval.mean - interval.low)], [100 * (interval.high - interval.mean)]]
        ax.errorbar(
            [100 * interval.mean],
            [len(points)],
            xerr=spread,
            fmt="D",
            color=style.COLOURS["neutral"],
            capsize=5,
            ms=7,
        )
    names = [*(f"seed {seed}" for seed in found.seed), f"mean, {100 * level:.0f} % interval"]
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(points) + 0.6, -0.6)
    ax.set_xlabel("test accuracy, hierarchical minus 4×4 blocks, percentage points")
    ax.set_title(note or "Paired differences at 87.5 % zeros")
    return figure


def ablations(
    table: pd.DataFrame, reference: str, groups: Mapping[str, Mapping[str, str]], note: str = ""
) -> Figure:
    """Accuracy of variants minus that of the reference arm from the same seed: dots are seeds, bars means.

    - groups: title → {arm: words}. Arms without runs are left out.
    """
    import matplotlib.pyplot as plt

    lines: list[tuple[str, str, pd.Series[float]]] = []
    for title, arms in groups.items():
        for arm, words in arms.items():
            found = runs.pairs(table, "test_accuracy", reference, arm)
            if len(found):
                lines.append((title, words, 100 * found.difference))
    figure, ax = plt.subplots(figsize=(7.8, 1.2 + 0.3 * len(lines)))
    colours = dict(zip(groups, ("#0072B2", "#009E73", "#CC79A7", "#E69F00"), strict=False))
    for i, (title, _, points) in enumerate(lines):
        ax.barh(i, points.mean(), color=colours[title], alpha=0.35, height=0.6)
        ax.plot(points, np.full(len(points), i), "o", color=colours[title], ms=5)
    ax.axvline(0, color=style.COLOURS["neutral"], lw=0.8)
    ax.set_yticks(range(len(lines)), [words for _, words, _ in lines])
    ax.invert_yaxis()
    for title in groups:
        if any(line[0] == title for line in lines):
            ax.barh([np.nan], [np.nan], color=colours[title], alpha=0.6, label=title)
    ax.set_xlabel("test accuracy minus the two-level arm's, percentage points")
    ax.set_title(note or "What the choices are worth, at 87.5 % zeros")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9)
    return figure
