"""A figure of the panel products' rates: forward, BF16 and gradients by sparsity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leandnn.report.benchfile import BenchFile
from leandnn.report.kernels.roofline import GREY, shapes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PRODUCTS = {  # words → case, colour, marker
    "forward, BF16": ({"dtype": "bf16", "product": "forward"}, "#0072B2", "s"),
    "forward": ({"dtype": "fp32", "product": "forward"}, "#D55E00", "o"),
    "dX": ({"dtype": "fp32", "product": "dX"}, "#009E73", "^"),
    "dW": ({"dtype": "fp32", "product": "dW"}, "#CC79A7", "v"),
}


def draw(bench: BenchFile) -> Figure:
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
