"""Markdown tables of the kernels' speed, from reference/<machine>/bench-{panels,rounding,sparse-step}.json.

A ratio `× peer` is the peer's time over ours, so that below 1 the peer is faster; "–" was not measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from leandnn.report import benchfile, tables
from leandnn.report.benchfile import BenchFile

NARROW = 8  # products of at most as many columns are bound by reading the values
_PANELS = {
    "torch.mm": "× `torch.mm`",
    "onednn.linear (prepacked)": "× oneDNN, prepacked",
    "deepsparse": "× DeepSparse",
    "torch.csr": "× `torch.csr`",
    "torch.bsr4x4": "× `torch.bsr` 4×4",
    "leandnn.csr": "× own CSR",
}
_FURTHER = {
    "torch.bsr16x16": "× `torch.bsr` 16×16",
    "scipy.csr": "× `scipy.csr`",
    "leandnn (token-major)": "× own, token-major",
}
_PATTERNS = {"block4x4": "4×4 blocks", "block16x16": "16×16 blocks", "hbs64-4x4": "4×4 in 64×64 blocks"}
_LIBRARIES = ("ml_dtypes", "pychop", "gfloat", "qtorch")


def written(root: Path, name: str, text_of: Callable[[BenchFile], str]) -> str:
    """The text of every machine's file, then what was refused, or how to measure it."""
    texts, refused = tables.by_machine(
        root, f"bench-{name}.json", lambda content: text_of(benchfile.parse(content))
    )
    texts = texts or [f"Not measured yet (`leandnn bench {name} --reference`)."]
    return "\n\n".join([*texts, *(["\n".join(refused)] if refused else [])])


def trimmed(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table without the columns that nothing was measured for."""
    kept = [i for i in range(len(head)) if any(row[i] != "–" for row in rows)]
    return tables.markdown([head[i] for i in kept], [[row[i] for i in kept] for row in rows])


def _rate(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def times_faster(ours: float | None, peers: float | None) -> str:
    """How many times faster ours is, by the rates."""
    if ours is None or peers is None:
        return "–"
    times = ours / peers
    return f"{times:.0f}" if times >= 100 else f"{times:.1f}" if times >= 10 else f"{times:.2f}"


def _share(part: float | None, whole: float | None) -> str:
    return "–" if part is None or whole is None else f"{100 * part / whole:.0f} %"


def shape(case: dict[str, Any]) -> str:
    """M × K × N."""
    return f"{case['M']} × {case['K']} × {case['N']}"


def wide(bench: BenchFile) -> list[dict[str, Any]]:
    """The cases of the RBGP4 pattern's forward product in FP32, without the narrow ones."""
    cases = bench.cases(pattern="rbgp4", dtype="fp32", product="forward")
    found = [case for case in cases if case["N"] > NARROW]
    if not found:
        raise ValueError("it has no forward product of rbgp4 in fp32")
    return found


def provenance(bench: BenchFile, what: str) -> str:
    """A line below a table: how it was measured and where; rows of memory, measured once, do not count."""
    card = bench.machine
    peak = card.get("fma_peak_gflops")
    measured = f", FMA peak {_rate(peak)} Gflop/s a core" if peak else ""
    copy = f", copies {card['copy_gbytes']:.0f} GB/s" if card.get("copy_gbytes") else ""
    n = min(row["n"] for row in bench.rows if row.get("unit") != "MiB")
    return f"{what} Medians, n ≥ {n}. {tables.machine(card)}{measured}{copy}."


def panels(root: Path) -> str:
    """The RBGP4 products on one thread: forward beside its peers, BF16 and gradients beside the forward."""

    def text_of(bench: BenchFile) -> str:
        rows = []
        for case in wide(bench):
            forward = bench.rate("leandnn", **case)
            bf16 = {**case, "dtype": "bf16"}
            gradients = [bench.rate("leandnn", **{**case, "product": product}) for product in ("dX", "dW")]
            rows.append(
                [
                    shape(case),
                    f"{case['sparsity']:g} %",
                    _rate(forward),
                    _share(forward, bench.machine.get("fma_peak_gflops")),
                    *(times_faster(forward, bench.rate(peer, **case)) for peer in _PANELS),
                    times_faster(bench.rate("leandnn", **bf16), forward),
                    times_faster(bench.rate("leandnn", **bf16), bench.rate("torch.mm", **bf16)),
                    *(_share(gradient, forward) for gradient in gradients),
                ]
            )
        ours = ["M × K × N", "zeros", "Gflop/s", "of the FMA peak"]
        others = ["BF16 × FP32", "BF16 × `torch.mm` BF16", "dX, of forward", "dW, of forward"]
        about = "RBGP4, FP32, one thread; Gflop/s count the non-zeros' operations; own CSR is unstructured."
        return f"{trimmed([*ours, *_PANELS.values(), *others], rows)}\n\n{provenance(bench, about)}"

    return written(root, "panels", text_of)


def panels_further(root: Path) -> str:
    """What `panels` leaves out: threads, instruction sets, narrow products, other patterns, further peers."""

    def text_of(bench: BenchFile) -> str:
        parts = [_threads(bench), _narrow(bench), _patterns(bench), _further(bench)]
        call = next((row for row in bench.rows if row.get("unit") == "call"), None)
        if call:
            parts.append(f"**A call's overhead** (4×4 by one column): {call['median_s'] * 1e6:.1f} µs.")
        return "\n\n".join([*parts, provenance(bench, "The implementations of a case take turns.")])

    return written(root, "panels", text_of)


def _threads(bench: BenchFile) -> str:
    rows = []
    for case in wide(bench):
        one, two = bench.rate("leandnn", **case), bench.rate("leandnn", 2, **case)
        paths = [bench.rate(f"leandnn.{path}", **case) for path in ("baseline", "avx2", "avx512")]
        if two is None and not any(paths):
            continue
        dense = bench.rate("torch.mm", 2, **case)
        cells = [_rate(one), _rate(two), times_faster(two, one), times_faster(two, dense), *map(_rate, paths)]
        rows.append([shape(case), f"{case['sparsity']:g} %", *cells])
    head = ["M × K × N", "zeros", "one thread", "two threads", "two over one", "× `torch.mm` on two"]
    table = trimmed([*head, "baseline", "AVX2", "AVX-512"], rows)
    return f"**Threads and instruction sets**, RBGP4, FP32, Gflop/s\n\n{table}"


def _narrow(bench: BenchFile) -> str:
    rows = []
    for case in bench.cases(pattern="rbgp4", dtype="fp32", product="forward"):
        found = bench.row("leandnn", **case)
        if case["N"] > NARROW or found is None:
            continue
        reading = bench.rate("torch.sum (reading)", **case)
        times = [_rate(found["rate"]), _share(found["rate"], reading)]
        ratio = times_faster(found["rate"], bench.rate("torch.mm", **case))
        rows.append(
            [shape(case), f"{case['sparsity']:g} %", f"{found['median_s'] * 1e6:.0f} µs", *times, ratio]
        )
    head = ["M × K × N", "zeros", "time", "Gflop/s", "of the reading bound", "× `torch.mm`"]
    bound = "the bound is `torch.sum` over as many bytes as the values take, for N > 1 with X and Y"
    return f"**Few columns**, RBGP4, FP32, one thread; {bound}\n\n{trimmed(head, rows)}"


def _patterns(bench: BenchFile) -> str:
    rows = []
    for pattern, words in {"rbgp4": "RBGP4", **_PATTERNS}.items():
        for case in bench.cases(pattern=pattern, dtype="fp32", product="forward"):
            if case["N"] <= NARROW:
                continue
            cells = []
            for product in ("forward", "dX", "dW"):
                ours, dense = (
                    bench.rate(impl, **{**case, "product": product}) for impl in ("leandnn", "torch.mm")
                )
                cells += [_rate(ours), times_faster(ours, dense)]
            rows.append([words, shape(case), f"{case['sparsity']:g} %", *cells])
    mm = "× `torch.mm`"
    head = ["pattern", "M × K × N", "zeros", "forward", mm, "dX", mm, "dW", mm]
    return f"**Patterns and products**, FP32, one thread, Gflop/s\n\n{trimmed(head, rows)}"


def _further(bench: BenchFile) -> str:
    rows = [
        [
            shape(case),
            f"{case['sparsity']:g} %",
            *(times_faster(bench.rate("leandnn", **case), bench.rate(peer, **case)) for peer in _FURTHER),
        ]
        for case in wide(bench)
    ]
    head = ["M × K × N", "zeros", *_FURTHER.values()]
    return f"**Further peers**, RBGP4 forward, FP32, one thread\n\n{trimmed(head, rows)}"


def rounding(root: Path) -> str:
    """`round_to` beside a copy of the same bytes, torch's pair of casts and other libraries."""

    def text_of(bench: BenchFile) -> str:
        rows, done = [], []
        for case in bench.cases(output="preallocated"):
            what = {key: case[key] for key in ("mib", "format", "mode")}
            for threads in sorted({row["threads"] for row in bench.rows}):
                ours = bench.rate("leandnn", threads, **case)
                if ours is None or (what, threads) in done:
                    continue
                done.append((what, threads))
                new = {**what, "output": "new"}
                fresh = bench.rate("leandnn", threads, **new)
                libraries = [
                    f"{name} {times_faster(fresh, rate)}"
                    for name in _LIBRARIES
                    if (rate := bench.rate(name, threads, **new))
                ]
                rows.append(
                    [
                        f"{what['mib']} MiB",
                        f"{what['format'].upper()}, {what['mode'].replace('_', ' ')}",
                        str(threads),
                        f"{ours:.1f}",
                        times_faster(ours, bench.rate("torch.copy", threads, **case)),
                        times_faster(ours, bench.rate("torch.casts", threads, **case)),
                        times_faster(fresh, bench.rate("torch.casts", threads, **new)),
                        ", ".join(libraries) or "–",
                    ]
                )
        if not rows:
            raise ValueError("it has no row of leandnn")
        head = ["FP32 in", "rounded to", "threads", "G values/s", "× a copy", "× torch's casts"]
        table = trimmed([*head, "the same, new output", "× libraries, new output"], rows)
        return f"{table}\n\n{provenance(bench, 'Into a tensor that is there, unless it says new.')}"

    return written(root, "rounding", text_of)


def sparse_step(root: Path) -> str:
    """A training step of a net with sparse layers beside the dense net, a masked one and BF16 autocast."""

    def text_of(bench: BenchFile) -> str:
        rows = []
        for row in bench.rows:
            case = row["case"]
            dense = bench.rate("torch.dense", row["threads"], **case)
            ours = row["impl"] == "leandnn"
            rows.append(
                [
                    f"{case['net']}, batch {case['batch']}",
                    f"{case['sparsity']:g} %, {case['pattern'].upper()}",
                    "**leandnn**" if ours else f"`{row['impl']}`",
                    f"{row['median_s'] * 1e3:,.0f} ms ({row['p25_s'] * 1e3:,.0f} to {row['p75_s'] * 1e3:,.0f})",
                    f"{row['rate']:,.1f}",
                    times_faster(row["rate"], dense),
                ]
            )
        if not rows:
            raise ValueError("it has no row")
        head = ["one training step", "zeros", "", "median (quartiles)", "images/s", "speed to dense FP32"]
        return f"{trimmed(head, rows)}\n\n{provenance(bench, 'One thread.')}"

    return written(root, "sparse-step", text_of)


TABLES: dict[str, Callable[[Path], str]] = {  # a table's name in README.md and on the site
    "panels": panels,
    "panels-further": panels_further,
    "rounding": rounding,
    "sparse-step": sparse_step,
}
