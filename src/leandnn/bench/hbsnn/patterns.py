"""How fast hierarchical patterns (our interpretation of HBsNN) are, and how fast a weight is pruned to one.

Kinds of rows, named by `what` in their case:

- product: forward, dX and dW of a matrix in several hierarchical patterns, beside RBGP4, blocks and single weights
  of the same sparsity, by the same kernels, and torch's CSR and dense product.
- layer: forward pass of the convolutions of the study's net and of VGG19 at their real sizes, the same patterns.
- net, pruned layers: forward pass of the small net in the patterns of all arms of the studies, whole, and of its
  pruned layers alone.
- prune: `hierarchical` on a weight, beside torch's pruning of single weights.

All patterns of a case take turns in one interleaved run, one thread, FP32. `work` is 2 · nnz · N (of dense peers,
too), so that a ratio of rates is a ratio of times at equal sparsity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn.utils import prune as torch_prune

from leandnn.bench.benchfile import Row
from leandnn.bench.hbsnn import nets
from leandnn.bench.kernels import panels, panels_peers
from leandnn.bench.timing import interleave, row
from leandnn.blocksparse import Pattern
from leandnn.blocksparse import study as shared
from leandnn.hbsnn import hierarchical, study
from leandnn.machine import determinism

REPEATS, ROUNDS = 25, 20
INNER = ((4, 1), (4, 4), (8, 1), (8, 8), (16, 4))  # rows × columns of the smallest blocks
FORMS = (*(f"hbs64-{h}x{w}" for h, w in INNER), "hbs64-16-8x1", "hbs64-8-1x1")
PATTERNS = ("rbgp4", *FORMS, "block4x4", "unstructured")
Call = Callable[[], object]


def densities_of(levels: int, density: float) -> tuple[float, ...]:
    """A half at every level but the last, which takes the rest."""
    return (0.5,) * (levels - 1) + (density * 2 ** (levels - 1),)


def pattern_of(name: str, rows: int, columns: int, sparsity: float) -> Pattern:
    """A random pattern of a sparsity in percent by its name: hbs<sizes>, coarsest first, or as panels.pattern_of."""
    if not name.startswith("hbs"):
        return panels.pattern_of(name, rows, columns, sparsity)
    sizes = [tuple(int(side) for side in part.split("x")) for part in name.removeprefix("hbs").split("-")]
    blocks = [(size[0], size[-1]) for size in sizes]
    densities = densities_of(len(blocks), 1 - sparsity / 100)
    return hierarchical(torch.ones(rows, columns), blocks, densities, saliency="random")


def _product(shape: tuple[int, int, int], sparsity: float, product: str, repeats: int) -> list[Row]:
    """One product of every pattern, checked, in one interleaved run."""
    calls: dict[tuple[str, str], Call] = {}
    benches: dict[str, panels.Bench] = {}
    for name in PATTERNS:
        case = panels.Case(*shape, sparsity, name, "fp32", product)
        bench = benches[name] = panels.Bench(case, pattern_of(name, *shape[:2], sparsity))
        calls[name, "leandnn"] = bench.ours()["leandnn"]
    single = benches["unstructured"]
    calls["unstructured", "torch.mm"] = single.dense()["torch.mm"]
    if product == "forward":
        calls["unstructured", "torch.csr"] = panels_peers.sparse(single.weight, single.x, sparsity)[
            "torch.csr"
        ]
    for (name, impl), call in calls.items():
        benches[name].check(impl, call)
    label = " ".join(map(str, (*shape, sparsity, product)))
    times = interleave({"|".join(key): call for key, call in calls.items()}, repeats=repeats, label=label)
    found = []
    for name, impl in calls:
        facts: dict[str, Any] = {"what": "product", **vars(benches[name].case)}
        found.append(row("hbsnn", facts, impl, 1, times[f"{name}|{impl}"], benches[name].work, "Gflop"))
    return found


def _pruning(repeats: int, side: int = 4096) -> list[Row]:
    """Pruning a weight: hierarchically in several forms, and torch's way to single weights."""
    weight = torch.randn(side, side, generator=torch.Generator().manual_seed(0))
    shapes: Mapping[str, Any] = {
        "64, 4×4": (64, (4, 4)),
        "64, 4×1": (64, (4, 1)),
        "64, 8, 4×1": (64, 8, (4, 1)),
        "64, 8, 1×1": (64, 8, (1, 1)),
    }
    calls: dict[str, Call] = {
        name: lambda blocks=blocks: hierarchical(weight, blocks, densities_of(len(blocks), 0.125))  # type: ignore[misc]
        for name, blocks in shapes.items()
    }
    calls["torch"] = lambda: torch_prune.L1Unstructured(0.875).compute_mask(weight, torch.ones_like(weight))
    times = interleave(calls, repeats=repeats, warmup=1, label="prune")
    found = []
    for name in calls:
        ours = name != "torch"
        case = {"what": "prune", "M": side, "K": side, "sparsity": 87.5, "blocks": name if ours else "1×1"}
        impl = "leandnn" if ours else "torch.l1_unstructured"
        found.append(row("hbsnn", case, impl, 1, times[name], weight.numel() / 1e6, "Mweights"))
    return found


def rows(quick: bool) -> list[Row]:
    """Measured rows; leaves torch at one thread. Quick: the forward product of one shape and the pruning."""
    determinism.configure(seed=0, threads=1)
    if quick:
        return [*_product((1024, 1024, 1024), 75.0, "forward", 10), *_pruning(5)]
    found = _pruning(REPEATS)
    for shape in panels.SHAPES:
        for sparsity in (75.0, 87.5, 93.75):
            found += _product(shape, sparsity, "forward", REPEATS)
        for product in ("dX", "dW"):
            found += _product(shape, 75.0, product, REPEATS)
    for net in nets.NETS:
        for sparsity in (75.0, 87.5):
            found += nets.layers(net, sparsity, REPEATS)
    return found + nets.whole_net(nets.arms(), 128, REPEATS)


def rounds(quick: bool) -> dict[str, list[float]]:
    """Seconds of all pruned layers of VGG19, round by round of one interleaved run, by arm of the speed claim.

    Batch 128 at 87.5 %, FP32, one thread, all by our kernels. "hierarchical" and "three_levels" are the study's forms:
    4 × 1 blocks, or single weights in 4 × 4 blocks, inside 16 × 12 blocks.
    """
    determinism.configure(seed=0, threads=1)
    arms = {
        "unstructured": shared.select("unstructured"),
        "hierarchical": study.FORMS["hierarchical"].select(0),
        "three_levels": study.FORMS["three_levels_87"].select(0),
        "block4x4": shared.select("block4x4"),
    }
    return nets.rounds(arms, *((2, 3) if quick else (128, ROUNDS)))


PEERS = {
    "RBGP4": ("rbgp4", "leandnn"),
    "own CSR": ("unstructured", "leandnn"),
    "torch.csr": ("unstructured", "torch.csr"),
}


def summary(rows: list[Row]) -> str:
    """Rates beside RBGP4's and those of CSR, and seconds of pruning."""
    lines = []
    groups: dict[tuple[object, ...], dict[tuple[str, str], Row]] = {}
    for r in rows:
        case = r["case"]
        if case["what"] == "product":
            key = tuple(case[name] for name in ("M", "K", "N", "sparsity", "product"))
            groups.setdefault(key, {})[case["pattern"], r["impl"]] = r
        elif case["what"] == "prune":
            what = f"pruning {case['M']} × {case['K']} to {case['blocks']} ({r['impl']})"
            lines.append(f"{what}: {r['median_s']:.2f} s")
    for (m, k, n, sparsity, product), same in groups.items():
        for name in FORMS:
            mine = same[name, "leandnn"]["rate"]
            ratios = ", ".join(
                f"{mine / same[key]['rate']:.2f} × {peer}" for peer, key in PEERS.items() if key in same
            )
            case_text = f"{m} × {k} × {n}, {sparsity:g} % zeros, {product}"
            lines.append(f"{case_text}, {name}: {mine:.0f} Gflop/s, {ratios}")
    return "\n".join(lines)
