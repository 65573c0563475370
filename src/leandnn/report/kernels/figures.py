"""Figures of the panel products: under the roofline of the machine's limits, and their rates by sparsity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from leandnn.bench.benchfile import BenchFile
from leandnn.report import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colour-blind safe (Okabe and Ito); dense peers are dashed, so that no line is told by its colour alone.
IMPLEMENTATIONS: dict[str, tuple[str, str, str, str]] = {  # bench's name → words, colour, line, marker
    "leandnn": ("leandnn", "#D55E00", "-", "o"),
    "onednn.linear (prepacked)": ("oneDNN, dense", "#0072B2", "--", "s"),
    "torch.mm": ("torch.mm, dense", "#56B4E9", "--", "D"),
    "leandnn.csr": ("leandnn, CSR", "#E69F00", "-", "v"),
    "torch.bsr4x4": ("torch, BSR 4×4", "#009E73", "-", "^"),
    "deepsparse": ("DeepSparse", "#882255", "-", "*"),
    "torch.csr": ("torch, CSR", "#CC79A7", "-", "P"),
    "scipy.csr": ("SciPy, CSR", "#000000", "-", "X"),
}
PRODUCTS = {  # words → case, colour, marker
    "forward, BF16": ({"dtype": "bf16", "product": "forward"}, "#0072B2", "s"),
    "forward": ({"dtype": "fp32", "product": "forward"}, "#D55E00", "o"),
    "dX": ({"dtype": "fp32", "product": "dX"}, "#009E73", "^"),
    "dW": ({"dtype": "fp32", "product": "dW"}, "#CC79A7", "v"),
}
GREY = style.COLOURS["neutral"]
Shape = tuple[int, int, int]


def shapes(bench: BenchFile) -> list[Shape]:
    """M, K, N of the RBGP4 forward products that were measured at several sparsities, in the file's order."""
    cases = bench.cases(pattern="rbgp4", dtype="fp32", product="forward")
    found = [(case["M"], case["K"], case["N"]) for case in cases]
    return [shape for shape in dict.fromkeys(found) if found.count(shape) > 1]


def intensity(case: Mapping[str, Any]) -> float:
    """Useful operations per byte of an FP32 product when values, X and Y move once: 2·nnz·N / 4(nnz + KN + MN)."""
    m, k, n = case["M"], case["K"], case["N"]
    nnz = m * k * (1 - case["sparsity"] / 100)
    return float(2 * nnz * n / (4 * (nnz + k * n + m * n)))


def roofline(bench: BenchFile, shape: Shape, note: str = "") -> Figure:
    """The roofline of one shape: all of it with the narrow products (left), and its sparsities (right).

    - note: the figure's title in place of the shape.
    """
    import matplotlib.pyplot as plt

    figure, (whole, close) = plt.subplots(1, 2, figsize=(9.6, 4.4), width_ratios=[1, 1.35])
    m, k, n = shape
    cases = bench.cases(M=m, K=k, pattern="rbgp4", dtype="fp32", product="forward")
    narrow = [case for case in cases if case["N"] != n]
    wide = sorted((case for case in cases if case["N"] == n), key=intensity)
    for name in ("leandnn", "torch.mm"):
        words, colour, _, marker = IMPLEMENTATIONS[name]
        for group, face, label in ((wide, colour, words), (narrow, "white", "")):
            points = _points(bench, name, group)
            whole.plot(*points, ls="", color=colour, marker=marker, ms=6, mfc=face, label=label)
    copy = bench.machine.get("copy_gbytes") or float("inf")
    for case in narrow:
        if rate := bench.rate("leandnn", **case):
            x = intensity(case)
            up = 8 if rate > x * copy else -16  # away from the slope
            whole.annotate(
                f"N = {case['N']}", (x, rate), (0, up), textcoords="offset points", ha="center", fontsize=9
            )
    _roof(whole, bench, 0.25, max(map(intensity, cases)) * 2)
    whole.legend(loc="upper left", fontsize=9, ncols=2, handletextpad=0.2, columnspacing=1)
    whole.set(xlabel="useful flop per byte", ylabel="useful Gflop/s, one thread", title="Under the roof")
    _lines(close, bench, wide)
    title = note or f"RBGP4, {' × '.join(map(str, shape))}, FP32"
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    return figure


def _points(
    bench: BenchFile, name: str, cases: Sequence[Mapping[str, Any]]
) -> tuple[list[float], list[float]]:
    measured = [(intensity(case), rate) for case in cases if (rate := bench.rate(name, **case))]
    return [x for x, _ in measured], [y for _, y in measured]


def _roof(ax: Axes, bench: BenchFile, low: float, high: float) -> None:
    """The copy bandwidth as a slope up to the FMA peak, on logarithmic axes."""
    peak, copy = bench.machine.get("fma_peak_gflops"), bench.machine.get("copy_gbytes")
    ax.set(xscale="log", yscale="log", xlim=(low, high))
    _plain_numbers(ax)
    if not (peak and copy):
        return
    ridge = peak / copy
    ax.plot([low, ridge, high], [copy * low, peak, peak], color=GREY, lw=1.4)
    ax.set_ylim(top=peak * 5)
    ax.text(ridge, peak * 1.12, f"FMA peak, {peak:.0f}", color=GREY, fontsize=9)
    ax.text(low * 1.15, copy * low * 8, f"copy, {copy:.0f} GB/s", color=GREY, fontsize=9)


def _lines(ax: Axes, bench: BenchFile, cases: Sequence[Mapping[str, Any]]) -> None:
    """One line per implementation over the sparsities, named at its right end."""
    ends = {}
    for name, (_, colour, line, marker) in IMPLEMENTATIONS.items():
        x, y = _points(bench, name, cases)
        if x:
            ax.plot(x, y, line, color=colour, marker=marker, ms=6, lw=2.4 if name == "leandnn" else 1.4)
            ends[name] = (x[-1], y[-1])
    ax.set(xscale="log", yscale="log")
    _plain_numbers(ax)
    x = [intensity(case) for case in cases]
    labels = [f"{v:.3g}\n{case['sparsity']:g} %" for v, case in zip(x, cases, strict=True)]
    ax.set_xticks(x, labels, fontsize=9)
    ax.set_xlim(x[0] / 1.12, x[-1] * (x[-1] / x[0]) ** 0.55)
    peak = bench.machine.get("fma_peak_gflops")
    if peak:
        ax.axhline(peak, color=GREY, lw=1.4)
        ax.text(x[0] / 1.1, peak * 1.05, "FMA peak", color=GREY, fontsize=9)
        ax.set_ylim(top=1.4 * max(peak, *(y for _, y in ends.values())))
    bottom, top = ax.get_ylim()
    gap, last = (top / bottom) ** 0.055, 0.0
    for name, end in sorted(ends.items(), key=lambda item: item[1][1]):
        last = max(end[1], last * gap)  # a label that would touch the one below moves up
        words, colour, *_ = IMPLEMENTATIONS[name]
        place = (end[0], last)
        ax.annotate(words, place, (8, 0), textcoords="offset points", va="center", color=colour, fontsize=9)
    ax.set(xlabel="useful flop per byte, and share of zeros", title="By sparsity, beside peers")


def _plain_numbers(ax: Axes) -> None:
    """10, 20, 50, 100 instead of powers of ten."""
    from matplotlib.ticker import LogLocator

    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.minorticks_off()


def rates(bench: BenchFile) -> Figure:
    """Our forward product, BF16 and gradients by sparsity, one panel per shape."""
    import matplotlib.pyplot as plt

    all_shapes = shapes(bench)
    figure, axes = plt.subplots(1, len(all_shapes), figsize=(9.6, 3.7), sharey=True, squeeze=False)
    for ax, (m, k, n) in zip(axes[0], all_shapes, strict=True):
        for words, (what, colour, marker) in PRODUCTS.items():
            cases = bench.cases(M=m, K=k, N=n, pattern="rbgp4", **what)
            found = {c["sparsity"]: rate for c in cases if (rate := bench.rate("leandnn", **c))}
            places = [f"{sparsity:g}" for sparsity in found]
            ax.plot(places, found.values(), color=colour, marker=marker, lw=1.8, label=words)
        if peak := bench.machine.get("fma_peak_gflops"):
            ax.axhline(peak, color=GREY, lw=1.4, label="FMA peak, FP32")
        ax.set(title=f"{m} × {k} × {n}", xlabel="zeros, %")
        ax.set_ylim(bottom=0)
        ax.tick_params(labelsize=9)
    axes[0][0].set_ylabel("useful Gflop/s, one thread")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=9)
    return figure
