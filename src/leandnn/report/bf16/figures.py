"""Figures of paper 1: a panel a net, paired differences in units of their margins, losses at fixed steps, places."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from leandnn.claims import statistics
from leandnn.claims.claimfile import Claim, Equivalence, Ratio, Rule
from leandnn.report import runs, style
from leandnn.report.bf16.frames import ARMS, Domain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINES = {"fp32": "-", "bf16": "--"}
SCALES = {"laptop": ("o", "#56B4E9"), "desk": ("D", style.COLOURS["bf16"])}  # marker and colour


def curves(domains: Sequence[Domain], note: str = "") -> Figure:
    """Every net's metric after each epoch: thin lines are seeds, thick ones means, bands one standard deviation."""
    import matplotlib.pyplot as plt

    columns = min(3, len(domains))
    rows = math.ceil(len(domains) / columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.5 * columns, 2.9 * rows), squeeze=False)
    for ax, domain in zip(axes.flat, domains, strict=False):
        for arm, line in LINES.items():
            own = domain.history[domain.history.arm == arm]
            for _, run in own.groupby("seed"):
                ax.plot(run.epoch, run[domain.metric], color=style.COLOURS[arm], lw=0.8, alpha=0.5)
            mean, spread = (getattr(own.groupby("epoch")[domain.metric], f)() for f in ("mean", "std"))
            ax.fill_between(
                mean.index, mean - spread, mean + spread, color=style.COLOURS[arm], alpha=0.15, lw=0
            )
            ax.plot(
                mean.index, mean, line, color=style.COLOURS[arm], lw=2.2, marker="o", ms=4, label=ARMS[arm]
            )
        ax.set(xlabel="epoch", ylabel=domain.label)
        ax.set_title(f"{domain.title} (n = {domain.pairs})", fontsize=9)
        ax.xaxis.get_major_locator().set_params(integer=True)
    for ax in axes.flat[len(domains) :]:
        ax.set_axis_off()
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    style.heading(figure, note)
    return figure


def in_margins(rule: Rule, final: pd.DataFrame) -> tuple[list[float], float, float | None, float | None]:
    """Paired differences of a rule's metric in units of its margin, signed so that more is better for BF16.

    Returns (values, mean, low, high) with the ends of the interval that the rule is judged by. A ratio that must
    reach `at_least` is shown by its logarithm, in units of that of 1 / at_least.
    """
    control, treatment = rule.control.split("/")[-1], rule.treatment.split("/")[-1]
    pairs = runs.pairs(final, rule.metric, control, treatment)
    first, second = pairs.treatment.to_numpy(), pairs.control.to_numpy()
    if rule.better == "lower":
        first, second = second, first
    level = 1 - 2 * (1 - rule.confidence)
    if isinstance(rule, Ratio):
        unit = -math.log(rule.at_least)
        ratio = statistics.paired_ratio(first.tolist(), second.tolist(), level)
        low, high = (None if end is None else math.log(end) / unit for end in (ratio.low, ratio.high))
        return (np.log(first / second) / unit).tolist(), math.log(ratio.ratio) / unit, low, high
    if not isinstance(rule, Equivalence):
        raise TypeError(f"a rule of kind {rule.kind} has no margin, expected an equivalence or a ratio")
    d = statistics.paired_difference(first.tolist(), second.tolist(), level)
    low, high = (None if end is None else end / rule.margin for end in (d.low, d.high))
    return ((first - second) / rule.margin).tolist(), d.mean / rule.margin, low, high


def forest(claims: Sequence[tuple[Claim, str]], found: Mapping[str, Mapping[str, pd.DataFrame]]) -> Figure:
    """Every claim's paired differences on one axis, in units of its own margin.

    - claims: with a short name for each.
    - found: scale ("laptop", "desk") → claim id → final metrics (see runs.load).
    """
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(8.4, 0.62 * len(claims) + 1.3))
    ax.axvspan(-1, 1, color=style.COLOURS["margin"], lw=0)
    ax.axvline(0, color=style.COLOURS["neutral"], lw=0.8)
    reach = 1.6
    for row, (claim, _) in enumerate(claims):
        for at, (scale, (marker, colour)) in enumerate(SCALES.items()):
            final = found.get(scale, {}).get(claim.id)
            if final is None:
                continue
            values, mean, low, high = in_margins(claim.rules[0], final)
            y = row + (at - 0.5) * 0.4
            ax.plot(values, [y] * len(values), marker, color=colour, ms=4, alpha=0.45, lw=0)
            if low is not None and high is not None:
                ax.plot([low, high], [y, y], color=colour, lw=2.4, solid_capstyle="butt")
                reach = max(reach, abs(low), abs(high))
            label = f"{scale}: pairs, mean and 90 % interval"
            ax.plot(mean, y, marker, color=colour, ms=8, mec="black", label=label)
            reach = max(reach, *map(abs, values))
    ax.set_yticks(range(len(claims)), [name for _, name in claims])
    ax.set_ylim(len(claims) - 0.5, -0.5)
    ax.set_xlim(-1.06 * reach, 1.06 * reach)
    ax.set_xlabel("BF16 against FP32, in margins: right is better, shaded is equal")
    ax.grid(axis="y", visible=False)
    handles, labels = ax.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=2, fontsize=9)
    return figure


def at_fixed_steps(domains: Sequence[Domain], margins: Sequence[float]) -> Figure:
    """BF16's training loss minus FP32's from the same seed at fixed steps, with 90 % intervals and the margin."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(domains), figsize=(2.7 * len(domains), 2.8), squeeze=False)
    for ax, domain, margin in zip(axes[0], domains, margins, strict=True):
        _differences(ax, runs.trace(domain.final), margin)
        ax.set_title(f"{domain.title} (n = {domain.pairs})", fontsize=8)
        ax.set_xlabel("step", fontsize=9)
        ax.tick_params(labelsize=8)
    axes[0][0].set_ylabel("training loss,\nBF16 − FP32, nats", fontsize=9)
    return figure


def _differences(ax: Axes, trace: pd.DataFrame, margin: float) -> None:
    wide = trace.pivot(index="seed", columns=["arm", "step"], values="train_loss")
    wide = wide.dropna()  # a seed that one arm alone has is no pair
    difference = wide["bf16"] - wide["fp32"]
    ax.axhspan(-margin, margin, color=style.COLOURS["margin"], lw=0)
    ax.axhline(0, color=style.COLOURS["neutral"], lw=0.8)
    for _, values in difference.iterrows():
        ax.plot(difference.columns, values, color=style.COLOURS["bf16"], lw=0.7, alpha=0.5)
    intervals = [
        statistics.paired_difference(wide["bf16"][step], wide["fp32"][step], 0.9)
        for step in difference.columns
    ]
    low, high = ([getattr(i, end) for i in intervals] for end in ("low", "high"))
    if None not in low:
        ax.fill_between(difference.columns, low, high, color=style.COLOURS["bf16"], alpha=0.25, lw=0)
    ax.plot(difference.columns, [i.mean for i in intervals], color=style.COLOURS["bf16"], lw=2)


def contrasts(
    panels: Sequence[tuple[str, str, pd.DataFrame]], order: Sequence[str], scale: Mapping[str, float]
) -> Figure:
    """What other formats and roundings do: a dot a run, a bar the mean of each arm, FP32's mean as a line.

    - panels: (title, metric, final metrics of all arms).
    - order: the arms from top to bottom; scale: metric → factor for its axis (100 for percent).
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        1, len(panels), figsize=(4.6 * len(panels), 0.36 * len(order) + 1.4), squeeze=False
    )
    for ax, (title, metric, final) in zip(axes[0], panels, strict=True):
        factor = scale.get(metric, 1.0)
        for row, arm in enumerate(order):
            own = final[final.arm == arm]
            colour = style.COLOURS["fp16" if "fp16" in arm else "fp32" if arm == "fp32" else "bf16"]
            failed = own.failure.notna()
            for mask, marker in ((~failed, "o"), (failed, "x")):
                values = factor * own[mask][metric]
                ax.plot(values, [row] * len(values), marker, color=colour, ms=5, alpha=0.55, lw=0)
            if len(own):
                ax.plot([factor * own[metric].mean()] * 2, [row - 0.32, row + 0.32], color=colour, lw=2.6)
        ax.axvline(
            factor * final[final.arm == "fp32"][metric].mean(),
            color=style.COLOURS["neutral"],
            lw=0.9,
            ls=":",
        )
        ax.set_title(title)
        ax.set_yticks(range(len(order)), order if ax is axes[0][0] else [""] * len(order))
        ax.set_ylim(len(order) - 0.5, -0.5)
        ax.locator_params(axis="x", nbins=5)
        ax.set_xlabel(metric.replace("_", " ") + (", %" if factor == 100 else ""))
        ax.grid(axis="y", visible=False)
    return figure


def places(reports: Mapping[str, Mapping[str, pd.DataFrame]]) -> Figure:
    """What rounding does at each place of one training step, in the order of the step: a row a net, a colour a format.

    - reports: net → format ("bf16" or "fp16") → its rows, with the fields of leandnn.bf16.site_report.Site as columns.

    Left: the mean relative error of the values that stay normal. Right: the share of values that the format holds
    with fewer digits (subnormal) or not at all (overflow, or to zero). Shaded places are of the backward pass.
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(reports), 2, figsize=(10.5, 2.0 * len(reports) + 0.7), squeeze=False)
    for (left, right), (net, formats) in zip(axes, reports.items(), strict=True):
        for fmt, rows in formats.items():
            at = range(len(rows))
            shared = {"color": style.COLOURS[fmt], "ms": 3.5, "lw": 0, "label": fmt.upper()}
            left.semilogy(at, rows.mean_error.where(rows.mean_error > 0), "o", **shared)
            hurt = rows[["overflows", "zeros", "subnormals"]].sum(axis=1) / rows["values"].clip(lower=1)
            right.plot(at, 100 * hurt, "o", **shared)
        backward = int((rows.stage == "forward").sum())
        for ax in (left, right):
            ax.axvspan(backward - 0.5, len(rows) - 0.5, color=style.COLOURS["margin"], lw=0)
            ax.set_xlim(-0.5, len(rows) - 0.5)
            ax.tick_params(labelsize=8)
            ax.grid(axis="x", visible=False)
        left.set_title(f"{net}, {len(rows)} places", fontsize=10)
        left.set_ylim(2e-5, 4e-3)
        left.set_ylabel("mean relative error", fontsize=9)
        right.set_ylim(-4, 104)
        right.set_ylabel("out of range, %", fontsize=9)
    for ax in axes[-1]:
        ax.set_xlabel("place of the step, forward then backward", fontsize=9)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure
