"""Figures of paper 5: accuracy and size stage by stage, decoding, coded layers, batch sizes under a cap of memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from leandnn.report import style
from leandnn.report.huffman import frames
from leandnn.report.huffman.frames import CLAIMED, CONTROL, DECODERS, KINDS, PARTS, SIZES, STAGES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREY = style.COLOURS["neutral"]
STAGE_MARKS = (("#555555", "s"), ("#56B4E9", "v"), ("#009E73", "o"), ("#D55E00", "D"))  # of SIZES
PART_COLOURS = ("#D55E00", "#0072B2", "#E69F00", "#BBBBBB")
# Implementation → words, colour, marker; what is not named here is not drawn.
LAYERS = {
    "leandnn": ("coded, fused (ours)", "#D55E00", "o"),
    "torch.int8 (dynamic)": ("int8", "#0072B2", "s"),
    "torch.bf16": ("BF16", "#56B4E9", "v"),
    "torch.csr, already decoded": ("CSR, decoded before", "#009E73", "^"),
    "decode → torch.csr": ("decode, then CSR", "#CC79A7", "D"),
    "decode → torch.dense": ("decode, then dense", "#999999", "X"),
}
PLANS = {
    "slow uniform": ("#56B4E9", "o", "--"),
    "slow variable": ("#0072B2", "o", "-"),
    "fused uniform": ("#E69F00", "D", "--"),
    "fused variable": ("#D55E00", "D", "-"),
}


def stages(found: pd.DataFrame, note: str = "") -> Figure:
    """Accuracy after every stage, and enlarged what remains of it against the dense net that was trained on.

    - found: see frames.accuracies.
    """
    import matplotlib.pyplot as plt

    wide = found.pivot(index="seed", columns="stage", values="accuracy")
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.0, 3.4), width_ratios=[1.25, 1])
    order = list(STAGES)
    for _, own in wide.iterrows():
        left.plot(range(len(order)), 100 * own[order], "o-", color="#D55E00", alpha=0.45, lw=1, ms=5)
    left.plot(range(len(order)), 100 * wide[order].mean(), "D", color=GREY, ms=7, label="mean of the seeds")
    level = 100 * float(wide[CONTROL].mean())
    left.axhline(level, color="#0072B2", ls="--", lw=1.2, label="dense, trained on (mean)")
    left.set_xticks(range(len(order)), [STAGES[stage] for stage in order], fontsize=9)
    left.set(ylabel="test accuracy, %", title="After every stage")
    left.legend(fontsize=9, loc="lower right")
    kept = ["dense", "retrained", "shared", "fine_tuned", "coded"]
    for place, stage in enumerate(kept):
        points = 100 * (wide[stage] - wide[CONTROL])
        right.plot(np.full(len(points), place), points, "o", color="#D55E00", alpha=0.6, ms=6)
        right.plot([place], [points.mean()], "D", color=GREY, ms=7)
    right.axhline(0, color="#0072B2", ls="--", lw=1.2)
    right.set_xticks(range(len(kept)), [STAGES[stage] for stage in kept], fontsize=9)
    right.set_xlim(-0.5, len(kept) - 0.5)
    right.set(ylabel="minus the control's, points", title="Against dense, trained on")
    style.heading(figure, note)
    return figure


def waterfall(sizes: pd.DataFrame, names: Mapping[str, str], note: str = "") -> Figure:
    """Bytes of all weights after every stage, and bits a weight of every layer.

    - sizes: see frames.sizes. names: layer → words.
    """
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9.4, 3.5), width_ratios=[1, 1.5])
    totals = sizes.sum() / 1e3
    for place, (stage, (colour, _)) in enumerate(zip(SIZES, STAGE_MARKS, strict=True)):
        left.barh(place, totals[stage], color=colour, height=0.62)
        times = f", {totals['dense'] / totals[stage]:.1f}×" if stage != "dense" else ""
        left.annotate(
            f"{totals[stage]:,.0f} kB{times}",
            (totals[stage], place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    # From zero: the length of a bar on a logarithmic axis says nothing.
    left.set_xlim(0, 1.4 * totals.max())
    left.locator_params(axis="x", nbins=4)
    left.set_yticks(
        range(len(SIZES)), [words.replace(": ", ":\n").replace(", rel", ",\nrel") for words in SIZES.values()]
    )
    left.invert_yaxis()
    left.tick_params(axis="y", labelsize=9)
    left.set(xlabel="kB, all weights", title="All layers")
    left.grid(axis="y", visible=False)
    # Marks, not bars: a logarithmic axis has no zero for bars to stand on.
    for number, (stage, (colour, marker)) in enumerate(zip(SIZES, STAGE_MARKS, strict=True)):
        places = np.arange(len(sizes)) + 0.15 * (number - (len(SIZES) - 1) / 2)
        values = 8 * sizes[stage] / (sizes["dense"] / 4)
        right.plot(places, values, marker, color=colour, ms=6.5, label=SIZES[stage].split(":")[0])
    right.set_yscale("log", base=2)
    ticks = [0.5, 1, 2, 4, 8, 16, 32]
    right.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    right.set_xticks(range(len(sizes)), [names.get(name, name) for name in sizes.index], fontsize=9)
    right.set(ylabel="bits a weight (log scale)", title="Layer by layer")
    right.legend(fontsize=9, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.12), columnspacing=1.2)
    style.heading(figure, note)
    return figure


def bits(tables: Mapping[str, tuple[pd.DataFrame, Mapping[str, str]]], note: str = "") -> Figure:
    """Where the bits of the coded layers go, per weight that is not zero, with Shannon's bound for the code words.

    - tables: title → (see frames.bits, layer → words).
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        1, len(tables), figsize=(1.0 + 4.1 * len(tables), 3.4), sharey=True, squeeze=False
    )
    for ax, (title, (table, names)) in zip(axes[0], tables.items(), strict=True):
        kept = table.nonzeros.clip(lower=1)
        base = np.zeros(len(table))
        for words, colour in zip(PARTS, PART_COLOURS, strict=True):
            heights = (table[words] / kept).to_numpy()
            ax.bar(range(len(table)), heights, 0.66, bottom=base, color=colour, label=words)
            base += heights
        bound = (table.entropy / kept).to_numpy()
        ax.plot(range(len(table)), bound, "_", color="black", ms=22, mew=1.8, label="entropy of the symbols")
        ax.set_xticks(range(len(table)), [names.get(name, name) for name in table.index], fontsize=9)
        ax.set_title(title)
    axes[0][0].set_ylabel("bits a non-zero weight")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=min(5, 3 * len(tables)),
        fontsize=9,
        columnspacing=1.2,
    )
    style.heading(figure, note)
    return figure


def decoding(found: pd.DataFrame) -> Figure:
    """Rates of decoding alone, a panel a case; ours in orange.

    - found: frames.of_case(bench, "decode", ("case",)).
    """
    import matplotlib.pyplot as plt

    cases = list(dict.fromkeys(found.case))
    impls = list(found.groupby("impl").rate.max().sort_values().index)
    figure, axes = plt.subplots(
        1, len(cases), figsize=(2.0 + 2.4 * len(cases), 1.1 + 0.25 * len(impls)), sharey=True, squeeze=False
    )
    for ax, case in zip(axes[0], cases, strict=True):
        rates = found[found.case == case].set_index("impl").rate.reindex(impls)
        ours = [impl.split(".")[0] == "leandnn" for impl in impls]
        colours = ["#D55E00" if own else "#9DB4C6" for own in ours]
        ax.barh(range(len(impls)), rates.fillna(0), color=colours, height=0.7)
        for place, rate in enumerate(rates):
            if np.isfinite(rate):
                text = f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"
                ax.annotate(
                    text, (rate, place), xytext=(3, 0), textcoords="offset points", va="center", fontsize=8
                )
        ax.set_xscale("log")
        ax.set_xlim(10.0 ** np.floor(np.log10(found.rate.min())), found.rate.max() * 9)
        ax.set_title(case)
        ax.set_xlabel("million symbols/s (log scale)", fontsize=9)
        ax.grid(axis="y", visible=False)
    axes[0][0].set_yticks(range(len(impls)), [_words(impl) for impl in impls], fontsize=9)
    return figure


def _words(impl: str) -> str:
    """ "leandnn.avx2.lanes" → "ours: avx2, lanes"."""
    ours, *how = impl.split(".")
    if ours != "leandnn":
        return impl
    return f"ours: {', '.join(how)}" if how else "ours: best path, lanes"


def layers(found: pd.DataFrame) -> Figure:
    """Speed of linear layers over the batch, as a multiple of the dense FP32 product's, a panel a layer.

    - found: see frames.against_dense.
    """
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(found.layer))
    figure, axes = plt.subplots(
        1, len(names), figsize=(1.2 + 2.6 * len(names), 3.5), sharey=True, squeeze=False
    )
    shown = found[found.impl.isin(LAYERS)]
    for ax, name in zip(axes[0], names, strict=True):
        batches = sorted(found[found.layer == name].batch.unique())
        for impl, (words, colour, marker) in LAYERS.items():
            own = shown[(shown.layer == name) & (shown.impl == impl)].sort_values("batch")
            places = [batches.index(batch) for batch in own.batch]
            wide = 2.4 if impl == "leandnn" else 1.4
            ax.plot(places, own.times, color=colour, marker=marker, lw=wide, ms=6, label=words)
        ax.axhline(1, color=GREY, lw=1.2, ls="--", label="dense FP32")
        ax.set_yscale("log", base=2)
        ax.set_xticks(range(len(batches)), [f"{batch:g}" for batch in batches])
        ax.set(title=name, xlabel="batch")
    axes[0][0].set_ylabel("times as fast as dense FP32")
    ticks = [2.0**k for k in range(-4, 5) if found.times.min() / 2 <= 2.0**k <= found.times.max() * 2]
    axes[0][0].set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=9)
    return figure


def caps(found: pd.DataFrame) -> Figure:
    """Throughput under caps of memory by decoder and kind of plan, and what batch sizes per layer gain.

    - found: see frames.plans.
    """
    import matplotlib.pyplot as plt

    free = found[found.latency_cap_ms.isna()]
    wanted = sorted(free.cap_mb.unique())
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.6), width_ratios=[1.25, 1])
    for impl, (colour, marker, line) in PLANS.items():
        own = free[free.impl == impl].sort_values("cap_mb")
        places = [wanted.index(cap) for cap in own.cap_mb]
        decoder, kind = impl.split(" ")
        words = f"{decoder} decoder, {'per layer' if kind == 'variable' else 'one batch size'}"
        left.plot(places, own.rate, color=colour, marker=marker, ls=line, lw=1.8, ms=6, label=words)
    left.set_ylim(bottom=0)
    left.set(ylabel="images/s, held out", title="Throughput")
    left.legend(fontsize=9, loc="lower right")
    gained = frames.gains(found)
    low, high = (100 * bound for bound in CLAIMED)
    right.axhspan(low, high, color="#F3DDCB", lw=0, label=f"published: {low:.0f} to {high:.0f} %")
    right.axhline(0, color=GREY, lw=0.8)
    for decoder in DECODERS:
        own = gained[gained.decoder == decoder]
        spots = [wanted.index(cap) for cap in own.cap_mb]
        colour, marker, _ = PLANS[f"{decoder} variable"]
        words = f"{decoder} decoder, held out"
        right.plot(spots, 100 * own.held_out, marker=marker, color=colour, ms=6, lw=1, label=words)
        # A line across the mark: both stay visible where they agree, which they do nearly everywhere.
        right.plot(spots, 100 * own.chosen, "_", color=colour, ms=18, mew=1.5)
    right.plot([], [], "_", color=GREY, ms=18, mew=1.5, label="in the rounds that chose the plan")
    right.set(ylabel="gain over one batch size, %", title="What batch sizes per layer gain")
    right.legend(fontsize=8.5, loc="upper right")
    for ax in (left, right):
        ax.set_xticks(range(len(wanted)), [f"{cap:g}" for cap in wanted])
        ax.set_xlim(-0.5, len(wanted) - 0.5)
        ax.set_xlabel("cap of memory, MB")
    return figure


def surface(found: pd.DataFrame) -> Figure:
    """Throughput by latency, a colour a cap of memory, a panel a decoder: plans with and without a limit of latency.

    - found: see frames.plans.
    """
    import matplotlib.pyplot as plt

    wanted = sorted(found.cap_mb.unique())
    shades = plt.get_cmap("viridis")(np.linspace(0.05, 0.9, len(wanted)))
    figure, axes = plt.subplots(1, 2, figsize=(8.8, 3.4), sharey=True)
    for ax, decoder in zip(axes, DECODERS, strict=True):
        for cap, colour in zip(wanted, shades, strict=True):
            own = found[(found.decoder == decoder) & (found.cap_mb == cap)].sort_values("latency_ms")
            for kind, marker in zip(KINDS, ("s", "o"), strict=True):
                points = own[own.kind == kind]
                filled = colour if kind == "variable" else "white"
                ax.plot(points.latency_ms, points.rate, marker, color=colour, mfc=filled, ms=7, zorder=3)
            ax.plot(own.latency_ms, own.rate, color=colour, lw=1, alpha=0.6, label=f"{cap:g} MB")
        ax.set_xscale("log")
        ax.set(xlabel="latency, ms (log scale)", title=f"{decoder} decoder")
        _plain_ticks(ax)
    axes[0].set_ylabel("images/s, held out")
    axes[0].set_ylim(bottom=0)
    grey = {"color": GREY, "ls": "", "ms": 7}
    axes[1].plot([], [], "s", mfc="white", label="one batch size", **grey)
    axes[1].plot([], [], "o", label="per layer", **grey)
    handles, labels = axes[1].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside right center", fontsize=9, title="cap of memory", title_fontsize=9
    )
    return figure


def _plain_ticks(ax: Axes) -> None:
    """Numbers as people write them on a logarithmic axis, and few of them."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    ax.xaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
