"""What RBGP4 saves in inference: every layer of VGG19 and WRN-40-4 at its real shape, and whole nets.

In the same interleaved runs stand the dense convolutions of torch (in both memory layouts) and of oneDNN with its
weight packed beforehand, and other sparse weights of the same sparsity: 4 × 4 blocks and single weights in our
kernels and in torch's CSR and BSR. The first convolution and the classifier are dense in all nets. `work` is
the multiply-adds of the non-zeros, twice, for dense peers too: ratios of rates are ratios of times.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leandnn.bench.benchfile import Row
from leandnn.bench.rbgp import memory, peers
from leandnn.bench.rbgp.nets import NETS, PATTERNS, Shape, dense, patterns, shapes, sparse
from leandnn.bench.rbgp.peers import Call
from leandnn.bench.timing import interleave, row
from leandnn.blocksparse import BlockSparseConv2d, convert, to_dense
from leandnn.errors import LeandnnError
from leandnn.machine import determinism

# The library's product for a kind of pattern, and its blocks.
LIBRARY = {"unstructured": ("torch.csr", (1, 1)), "block4x4": ("torch.bsr4x4", (4, 4))}
SPARSITIES = (75.0, 87.5)
LAYER_BATCH = 16
BATCHES = (1, 16, 128)
REPEATS, QUICK_REPEATS, ROUNDS = 20, 3, 12
TOLERANCE = 2.0**-18  # distance of a layer's output from float64's, relative


def _layer_calls(shape: Shape, sparsity: float, x: Tensor) -> dict[str, Call]:
    """Implementation → one layer's output; the sparse ones are checked."""
    calls = peers.dense_layers(shape.module(), x)
    for kind in PATTERNS:
        module = shape.module()
        layer = convert(module, patterns(module, kind, sparsity))
        if not isinstance(layer, BlockSparseConv2d):
            continue  # no factors for this shape: reported as a row that is not there
        name = "leandnn" if kind == "rbgp4" else f"leandnn.{kind}"
        calls[name] = functools.partial(layer, x)
        _check(name, shape, calls[name](), layer.to_dense(), x)
        if kind in LIBRARY:
            peer, block = LIBRARY[kind]
            calls[peer] = peers.library_layer(layer.to_dense(), x, block)
            _check(peer, shape, calls[peer](), layer.to_dense(), x)
    return calls


def _check(name: str, shape: Shape, found: Tensor, layer: nn.Conv2d, x: Tensor) -> None:
    """LeandnnError unless an output is that of float64."""
    exact = F.conv2d(x.double(), layer.weight.double(), None, layer.stride, layer.padding)
    distance = float((found.double() - exact).norm() / exact.norm())
    if not distance <= TOLERANCE:
        raise LeandnnError(
            f"{name} is wrong in {shape}: {distance:.2g} away, expected at most {TOLERANCE:.2g}"
        )


def _layers(found: Mapping[Shape, Mapping[str, int]], sparsity: float, repeats: int) -> list[Row]:
    """Rows of layers; the case counts how often each net has the layer."""
    rows: list[Row] = []
    for shape, nets in found.items():
        x = torch.randn(LAYER_BATCH, shape.inputs, shape.side, shape.side)
        calls = _layer_calls(shape, sparsity, x)
        pixels = ((shape.side - 1) // shape.stride + 1) ** 2
        weights = shape.inputs * shape.outputs * shape.kernel**2
        work = 2 * LAYER_BATCH * pixels * weights * (1 - sparsity / 100) / 1e9
        case = {
            "layer": str(shape), "channels": min(shape.inputs, shape.outputs), "batch": LAYER_BATCH,
            "sparsity": sparsity, **nets,
        }  # fmt: skip
        times = interleave(calls, repeats=repeats, label=f"{shape} {sparsity}")
        rows += [row("rbgp", case, name, 1, t, work, "Gflop") for name, t in times.items()]
    return rows


def net_rows(net: str, batch: int, sparsity: float, repeats: int) -> list[Row]:
    """Rows of whole nets; the RBGP4 ones are checked against the dense net with the same zeros."""
    x = torch.randn(batch, 3, 32, 32)
    calls = peers.dense_nets(dense(net), x)
    plain, folded = sparse(net, "rbgp4", sparsity, folded=False), sparse(net, "rbgp4", sparsity)
    half, x_half = copy.deepcopy(folded).bfloat16(), x.bfloat16()
    calls |= {
        "leandnn": lambda: folded(x),
        "leandnn (not folded)": lambda: plain(x),
        "leandnn (bf16)": lambda: half(x_half),
    }
    masked = to_dense(copy.deepcopy(plain))(x)
    for name, allowed in (("leandnn", 1e-4), ("leandnn (not folded)", 1e-4), ("leandnn (bf16)", 0.1)):
        distance = float((calls[name]().float() - masked).norm() / masked.norm())
        if not distance <= allowed:
            raise LeandnnError(f"{name} is wrong in {net}: {distance:.2g} away, expected at most {allowed:g}")
    for kind in PATTERNS[1:]:
        calls[f"leandnn.{kind}"] = functools.partial(sparse(net, kind, sparsity), x)
    case = {"net": net, "batch": batch, "sparsity": sparsity}
    times = interleave(calls, repeats=repeats, warmup=1, label=f"{net} {batch} {sparsity}")
    return [row("rbgp", case, name, 1, t, batch, "images") for name, t in times.items()]


def _memory(sparsity: float, batch: int) -> list[Row]:
    """Rows of peak memory, which the case holds; their time and rate mean nothing."""
    names = {"rbgp4": "leandnn", "torch.dense": "torch.dense", "onednn": "onednn (folded, prepacked)"}
    found = []
    for impl in ("torch.dense", "onednn", *PATTERNS):
        measured = {key: round(value, 1) for key, value in memory.measure(impl, batch, sparsity).items()}
        case = {"net": "VGG19", "batch": batch, "sparsity": sparsity, **measured}
        peak = measured["peak_mib"]
        found.append(row("rbgp", case, names.get(impl, f"leandnn.{impl}"), 1, [1.0], peak, "MiB"))
    return found


def rounds(quick: bool) -> dict[str, list[float]]:
    """Seconds of all sparse layers of VGG19, round by round of one interleaved run, by arm of the speed claims.

    Batch 128 at 87.5 %, FP32, one thread. "unstructured" and "block4x4" run by our kernels, which are the fastest
    that we know of for them on a CPU; with "_library" by MKL, which stands where the paper had a GPU's libraries.
    """
    determinism.configure(seed=0, threads=1)
    batch = LAYER_BATCH if quick else BATCHES[-1]
    calls: dict[str, list[Call]] = {}
    with torch.inference_mode():
        for shape, names in shapes("VGG19").items():
            x = torch.randn(batch, shape.inputs, shape.side, shape.side)
            for kind in PATTERNS:
                module = shape.module()
                layer = convert(module, patterns(module, kind, 87.5))
                assert isinstance(layer, BlockSparseConv2d)
                calls.setdefault(kind, []).extend([functools.partial(layer, x)] * len(names))
                if kind in LIBRARY:
                    peer = peers.library_layer(layer.to_dense(), x, LIBRARY[kind][1])
                    calls.setdefault(f"{kind}_library", []).extend([peer] * len(names))
        repeats = QUICK_REPEATS if quick else ROUNDS
        return interleave({arm: _together(own) for arm, own in calls.items()}, repeats=repeats, warmup=1)


def _together(calls: list[Call]) -> Callable[[], None]:
    """All of the calls, one after another."""

    def run() -> None:
        for call in calls:
            call()

    return run


def rows(quick: bool) -> list[Row]:
    """Measured rows; leaves torch at one thread. Quick: one layer and VGG19 at batch 16, 87.5 %."""
    determinism.configure(seed=0, threads=1)
    counts: dict[Shape, dict[str, int]] = {}
    for net in NETS:
        for shape, names in shapes(net).items():
            counts.setdefault(shape, dict.fromkeys(NETS, 0))[net] = len(names)
    with torch.inference_mode():
        if quick:
            one = Shape(512, 512, 3, 1, 4)
            return _layers({one: counts[one]}, 87.5, QUICK_REPEATS) + net_rows(
                "VGG19", 16, 87.5, QUICK_REPEATS
            )
        found: list[Row] = []
        for sparsity in SPARSITIES:
            found += _layers(counts, sparsity, REPEATS)
            for batch in BATCHES:
                found += net_rows("VGG19", batch, sparsity, REPEATS)
            found += net_rows("WRN-40-4", LAYER_BATCH, sparsity, REPEATS)
            for batch in (BATCHES[0], BATCHES[-1]):
                found += _memory(sparsity, batch)
        return found


def summary(rows: list[Row]) -> str:
    """Ours against every peer of the same layer or net, and memory."""
    lines = []
    for mine in (r for r in rows if r["impl"] == "leandnn" and r["unit"] != "MiB"):
        case = mine["case"]
        times = {r["impl"]: r["median_s"] / mine["median_s"] for r in rows if r["case"] == case}
        ratios = ", ".join(f"{impl} × {times[impl]:.2f}" for impl in times if impl != "leandnn")
        lines.append(
            f"{case.get('layer') or case['net']}, batch {case['batch']}, {case['sparsity']} %: {ratios}"
        )
    lines += [
        f"memory, batch {case['batch']}, {case['sparsity']} %, {impl}: weights {case['weights_mib']} MiB, "
        f"peak {case['peak_mib']} MiB"
        for case, impl in ((r["case"], r["impl"]) for r in rows if r["unit"] == "MiB")
    ]
    return "\n".join(lines)
