"""Figures of paper 3's results: accuracy by sparsity and by spectral gap, time and memory; the speed in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from leandnn.bench.benchfile import BenchFile
from leandnn.report import pattern_runs, style
from leandnn.report.rbgp.method import GRAPHS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# What is drawn: comparisons by paper. WIDE has another net.
COMPARISONS = {
    "blocksparse": ("baselines", "sparsities"),
    "rbgp": ("patterns", "sparsities", "distillation"),
}
WIDE = {"rbgp": ("wide_resnet",)}
# Family of arms → words, colour, marker; as in the figures of paper 4 where both have it. RANDOM: at random places
# that are fixed before training, as RBGP4's are.
RANDOM = {
    "random": ("random single weights", "#7A6FB0", "o"),
    "random4x4": ("random 4×4 blocks", "#8DD3A0", "^"),
    "random16x16": ("random 16×16 blocks", "#B8A07E", "<"),
}
TAUGHT = {"distilled": ("RBGP4, taught by the dense net", "#A6541B", "*")}
FAMILIES = {**pattern_runs.FAMILIES, **TAUGHT, **RANDOM}
# Implementation in bench-rbgp.json → words, colour; from the slowest kind to ours.
IMPLS = {
    "torch.dense": ("dense, torch", "#555555"),
    "torch.dense (channels last)": ("dense, torch, channels last", "#888888"),
    "onednn (folded, prepacked)": ("dense, oneDNN, folded and packed", "#BBBBBB"),
    "leandnn.unstructured": ("single weights, our kernels", "#0072B2"),
    "leandnn.block4x4": ("4×4 blocks, our kernels", "#009E73"),
    "leandnn": ("RBGP4, our kernels", "#E69F00"),
}


def accuracy(nets: Mapping[str, pd.DataFrame], note: str = "") -> Figure:
    """Accuracy by share of zeros, a panel a net: means with a band of one standard deviation, a line for every pattern.

    - nets: title → table, see pattern_runs.laptop; without runs at several sparsities it has points with bars.
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(nets), figsize=(8.4 + 4.4 * (len(nets) - 1), 4.4), squeeze=False)
    shown: dict[str, Any] = {}
    for ax, (title, table) in zip(axes[0], nets.items(), strict=True):
        _by_sparsity(ax, pattern_runs.means(table))
        ax.set(xlabel="zeros in the sparse layers")
        ax.set_title(title)
        handles, labels = ax.get_legend_handles_labels()
        shown = dict(zip(labels, handles, strict=True)) | shown
    order = [words for words, _, _ in FAMILIES.values() if words in shown]
    axes[0][0].set_ylabel("test accuracy, %")
    axes[0][-1].legend(
        [shown[words] for words in order], order, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9
    )
    style.heading(figure, note)
    return figure


def _by_sparsity(ax: Axes, means: pd.DataFrame) -> None:
    """One net's lines, see accuracy; the axis has the sparsities that were run, to within a rounding of blocks."""
    halvings = sorted({
        round(-np.log2(1 - s)) for s in means[(means.family != "dense") & means.family.isin(FAMILIES)].sparsity
    })  # fmt: skip
    ax.set_xticks(halvings, [f"{100 * (1 - 0.5**h):.4g} %" for h in halvings])
    ax.set_xlim(min(halvings, default=1) - 0.3, max(halvings, default=1) + 0.3)
    for number, (name, (words, colour, marker)) in enumerate(FAMILIES.items()):
        rows = means[means.family == name].sort_values("sparsity")
        if rows.empty:
            continue
        mean, spread = 100 * rows.accuracy.to_numpy(), 100 * rows.sd.fillna(0).to_numpy()
        if name == "dense":
            ax.axhspan(mean[0] - spread[0], mean[0] + spread[0], color=style.COLOURS["margin"], lw=0)
            ax.axhline(mean[0], color=colour, lw=1.2, ls="--", label=words)
            continue
        # Zeros by halvings of what is left: 50, 75, 87.5 and 93.75 % stand at equal distances.
        x = -np.log2(1 - rows.sparsity.to_numpy()) + (0.035 * (number - 5) if len(rows) == 1 else 0)
        line = "--" if name in RANDOM else "-"
        ax.plot(x, mean, line, marker=marker, ms=6.5, lw=1.6, color=colour, label=words)
        if len(rows) == 1:
            ax.errorbar(x, mean, yerr=spread, color=colour, capsize=3, lw=1.2)
        else:
            ax.fill_between(x, mean - spread, mean + spread, color=colour, alpha=0.15, lw=0)


def gaps(studies: Mapping[str, pd.DataFrame], note: str = "") -> Figure:
    """Accuracy of nets whose graphs have the same degrees, by spectral gap and by the spread of path counts.

    - studies: title → runs of the ablation (see runs.load) with spectral_gap and path_spread; a row of panels each.
    """
    import matplotlib.pyplot as plt

    figure, rows = plt.subplots(
        len(studies), 2, figsize=(9.6, 0.6 + 3.3 * len(studies)), sharey="row", squeeze=False
    )
    for axes, (title, final) in zip(rows, studies.items(), strict=True):
        for name, (words, colour) in GRAPHS.items():
            own = final[final.arm == name]
            if own.empty:
                continue
            for ax, column in zip(axes, ("spectral_gap", "path_spread"), strict=True):
                ax.plot(own[column], 100 * own.test_accuracy, "o", color=colour, ms=5, alpha=0.55, mew=0)
                mean, spread = 100 * own.test_accuracy.mean(), 100 * own.test_accuracy.std()
                ax.errorbar(
                    own[column].mean(), mean, yerr=0 if np.isnan(spread) else spread, fmt="D", color=colour,
                    ms=7, capsize=4, label=words,
                )  # fmt: skip
        axes[0].set_title(title)
        axes[0].set_ylabel("test accuracy, %")
    rows[-1][0].set_xlabel("spectral gap 1 − σ₂/σ₁, mean of the layers")
    rows[-1][1].set_xlabel("spread of the path counts (sd / mean)")
    handles, labels = rows[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=9)
    style.heading(figure, note)
    return figure


def connectivity(nets: Mapping[str, pd.DataFrame], note: str = "") -> Figure | None:
    """Accuracy of every kind of pattern against its spectral gap: a row a net, a panel a sparsity; None without gaps.

    - nets: title → table, see pattern_runs.laptop; runs without spectral_gap are left out.
    """
    import matplotlib.pyplot as plt

    sweeps = {title: found for title, table in nets.items() if len(found := _with_gaps(table))}
    if not sweeps:
        return None
    halvings = sorted({int(h) for found in sweeps.values() for h in found.halvings})
    figure, axes = plt.subplots(
        len(sweeps), len(halvings), figsize=(0.8 + 2.6 * len(halvings), 0.9 + 2.7 * len(sweeps)),
        sharex=True, sharey="row", squeeze=False,
    )  # fmt: skip
    shown: dict[str, Any] = {}
    for row, (title, found) in zip(axes, sweeps.items(), strict=True):
        for ax, h in zip(row, halvings, strict=True):
            for name, (words, colour, marker) in FAMILIES.items():
                own = found[(found.family == name) & (found.halvings == h)]
                if len(own):
                    shown[words], = ax.plot(
                        own.spectral_gap, 100 * own.test_accuracy, marker, color=colour, ms=7, alpha=0.8, mew=0
                    )  # fmt: skip
            ax.set_title(f"{title}, {100 * (1 - 0.5**h):.4g} %", fontsize=9.5)
        row[0].set_ylabel("test accuracy, %")
    for ax in axes[-1]:
        ax.set_xlabel("spectral gap")
    order = [words for words, _, _ in FAMILIES.values() if words in shown]
    figure.legend([shown[words] for words in order], order, loc="outside lower center", ncols=5, fontsize=9)
    style.heading(figure, note)
    return figure


def _with_gaps(table: pd.DataFrame) -> pd.DataFrame:
    """The sparse runs whose gap was measured, with `halvings`: how often the weights were halved."""
    if "spectral_gap" not in table:
        return table.iloc[:0]
    found = table[table.spectral_gap.notna() & (table.sparsity > 0) & table.family.isin(FAMILIES)]
    return found.assign(halvings=(-np.log2(1 - found.sparsity)).round())


def gap_in_words(table: pd.DataFrame) -> str:
    """Spearman's rank correlation of gap and accuracy over kinds of patterns, by sparsity; empty below four kinds."""
    found, said = _with_gaps(table), []
    for h in sorted({int(h) for h in found.get("halvings", ())}):
        own = found[found.halvings == h]
        means = own.groupby("family")[["spectral_gap", "test_accuracy"]].mean()
        if len(means) >= 4:
            rho = means.rank().corr().to_numpy()[0, 1]
            said.append(f"{100 * (1 - 0.5**h):.4g} % zeros {rho:+.2f} ({len(means)} kinds)")
    return f"rank correlation of gap and accuracy over kinds of patterns: {', '.join(said)}" if said else ""


def speed_in_words(rounds: Mapping[str, Sequence[float]]) -> str:
    """What the rounds of `leandnn bench rbgp` say; empty where an arm is missing.

    - rounds: seconds of all sparse layers of VGG19, batch 128, 87.5 % zeros, by arm.
    """
    arms = ("rbgp4", "unstructured", "block4x4", "unstructured_library", "block4x4_library")
    if not all(rounds.get(arm) for arm in arms):
        return ""
    ours, single, blocks, csr, bsr = (median(rounds[arm]) for arm in arms)
    said = (
        f"All sparse layers of VGG19, batch 128, 87.5 % zeros, n = {len(rounds['rbgp4'])} rounds: RBGP4 takes "
        f"{1e3 * ours:.0f} ms, our kernels for single weights {single / ours:.2f} times and for 4×4 blocks "
        f"{blocks / ours:.2f} times as long, MKL's for single weights {csr / ours:.1f} times and for 4×4 blocks "
        f"{bsr / ours:.1f} times."
    )
    if single <= ours:
        return said
    part = (single - blocks) / (single - ours)
    most = "most" if part > 0.5 else "not most"
    return (
        f"{said} Random 4×4 blocks, whose rows share their columns too, have {part:.0%} of what RBGP4 saves over "
        f"single weights: {most} of the speed comes from rows that share a support."
    )


def costs(bench: BenchFile, sparsity: float, note: str = "") -> Figure:
    """Time an image of VGG19 takes at every measured batch, and its peak memory, as bars, of what was measured.

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
            values = {name: 1e3 * row["median_s"] / batch for name, row in found.items()}
            _bars(ax, values, f"batch {batch}: ms an image")
        else:
            values = {name: float(row["case"]["peak_mib"]) for name, row in found.items()}
            _bars(ax, values, f"batch {batch}: peak MiB")
    handles = [Patch(color=colour) for _, colour in IMPLS.values()]
    figure.legend(
        handles, [words for words, _ in IMPLS.values()], loc="outside lower center", ncols=3, fontsize=9
    )
    style.heading(figure, note)
    return figure


def _batches(rows: Sequence[Mapping[str, Any]], unit: str) -> list[int]:
    """The batches that rows of a unit have, ascending."""
    return sorted({row["case"]["batch"] for row in rows if row["unit"] == unit})


def _bars(ax: Axes, values: Mapping[str, float], title: str) -> None:
    """A bar for every implementation of IMPLS that has a value, side by side, the value above it."""
    names = [name for name in IMPLS if name in values]
    heights = [values[name] for name in names]
    bars = ax.bar(range(len(names)), heights, color=[IMPLS[name][1] for name in names], width=0.8)
    ax.bar_label(bars, [f"{v:.1f}" if v < 100 else f"{v:.0f}" for v in heights], fontsize=8, padding=1)
    ax.set_title(title, fontsize=9.5, fontweight="normal", loc="center")
    ax.set(xticks=[], ylim=(0, 1.15 * max(heights, default=1)))
    ax.grid(visible=False)
