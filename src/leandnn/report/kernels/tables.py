"""The kernels' speed: products of block-sparse matrices, rounding, and a training step with sparse layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from leandnn.bench.benchfile import BenchFile, Row, ratio
from leandnn.bench.kernels.targets import TARGETS
from leandnn.report import tables
from leandnn.report.tables import Column, each, of_bench, provenance, rate, share, spread, times, zeros

NARROW = 8  # products of at most as many columns are bound by reading the values
PEERS = {
    "torch.mm": "× `torch.mm`",
    "onednn.linear (prepacked)": "× oneDNN, prepacked",
    "deepsparse": "× DeepSparse",
    "torch.csr": "× `torch.csr`",
    "torch.bsr4x4": "× `torch.bsr` 4×4",
    "leandnn.csr": "× own CSR",
}
FURTHER = {
    "torch.bsr16x16": "× `torch.bsr` 16×16",
    "scipy.csr": "× `scipy.csr`",
    "leandnn (token-major)": "× own, token-major",
}
PATTERNS = {
    "rbgp4": "RBGP4",
    "block4x4": "4×4 blocks",
    "block16x16": "16×16 blocks",
    "hbs64-4x4": "4×4 in 64×64 blocks",
}
LIBRARIES = ("ml_dtypes", "pychop", "gfloat", "qtorch")
Case = dict[str, Any]


def shape(case: Mapping[str, Any]) -> str:
    """M × K × N."""
    return f"{case['M']} × {case['K']} × {case['N']}"


PRODUCT: list[Column[Case]] = [("M × K × N", shape), ("zeros", zeros)]


def forward(bench: BenchFile, pattern: str = "rbgp4", *, narrow: bool = False) -> list[Case]:
    """The cases of a pattern's forward product in FP32: those with many columns, or the narrow ones."""
    cases = bench.cases(pattern=pattern, dtype="fp32", product="forward")
    return [case for case in cases if (case["N"] <= NARROW) == narrow]


def panels(bench: BenchFile) -> str:
    """The RBGP4 products on one thread: forward beside its peers, BF16 and gradients beside the forward."""

    def ours(case: Case, **other: str) -> float | None:
        return bench.rate("leandnn", **{**case, **other})

    columns: list[Column[Case]] = [
        *PRODUCT,
        ("Gflop/s", lambda case: rate(ours(case))),
        ("of the FMA peak", lambda case: share(ratio(ours(case), bench.machine.get("fma_peak_gflops")))),
        *each(PEERS, lambda case, peer: times(bench.times(peer, **case))),
        ("BF16 × FP32", lambda case: times(ratio(ours(case, dtype="bf16"), ours(case)))),
        ("BF16 × `torch.mm` BF16", lambda case: times(bench.times("torch.mm", **{**case, "dtype": "bf16"}))),
        ("dX, of forward", lambda case: share(ratio(ours(case, product="dX"), ours(case)))),
        ("dW, of forward", lambda case: share(ratio(ours(case, product="dW"), ours(case)))),
    ]
    about = "RBGP4, FP32, one thread; Gflop/s count the non-zeros' operations; own CSR is unstructured."
    table = tables.table(columns, forward(bench), "forward product of rbgp4 in fp32")
    return f"{provenance(bench, about)}\n\n{table}"


def panels_further(bench: BenchFile) -> str:
    """What `panels` leaves out: threads, instruction sets, narrow products, other patterns, further peers."""
    further: list[Column[Case]] = [
        *PRODUCT,
        *each(FURTHER, lambda case, peer: times(bench.times(peer, **case))),
    ]
    parts = [
        ("**Threads and instruction sets**, RBGP4, FP32, Gflop/s", _threads(bench)),
        (
            "**Few columns**, RBGP4, FP32, one thread; the bound is `torch.sum` over as many bytes as the values take, "
            "for N > 1 with X and Y",
            _narrow(bench),
        ),
        ("**Patterns and products**, FP32, one thread, Gflop/s", _patterns(bench)),
        ("**Further peers**, RBGP4 forward, FP32, one thread", tables.table(further, forward(bench), "product")),
    ]  # fmt: skip
    texts = [f"{title}\n\n{table}" for title, table in parts]
    call = next((row for row in bench.rows if row["unit"] == "call"), None)
    if call:
        texts.append(f"**A call's overhead** (4×4 by one column): {call['median_s'] * 1e6:.1f} µs.")
    return "\n\n".join([provenance(bench, "The implementations of a case take turns."), *texts])


def _threads(bench: BenchFile) -> str:
    def two(case: Case) -> float | None:
        return bench.rate("leandnn", 2, **case)

    paths = {"leandnn.baseline": "baseline", "leandnn.avx2": "AVX2", "leandnn.avx512": "AVX-512"}
    columns: list[Column[Case]] = [
        *PRODUCT,
        ("one thread", lambda case: rate(bench.rate("leandnn", **case))),
        ("two threads", lambda case: rate(two(case))),
        ("two over one", lambda case: times(ratio(two(case), bench.rate("leandnn", **case)))),
        ("× `torch.mm` on two", lambda case: times(bench.times("torch.mm", 2, **case))),
        *each(paths, lambda case, impl: rate(bench.rate(impl, **case))),
    ]
    found = (case for case in forward(bench) if two(case) or bench.rate(tuple(paths), **case))
    return tables.table(columns, found, "product by two threads")


def _narrow(bench: BenchFile) -> str:
    def ours(case: Case) -> float | None:
        return bench.rate("leandnn", **case)

    columns: list[Column[Case]] = [
        *PRODUCT,
        ("time", lambda case: f"{bench.of(**case)[0]['median_s'] * 1e6:.0f} µs"),
        ("Gflop/s", lambda case: rate(ours(case))),
        (
            "of the reading bound",
            lambda case: share(ratio(ours(case), bench.rate("torch.sum (reading)", **case))),
        ),
        ("× `torch.mm`", lambda case: times(bench.times("torch.mm", **case))),
    ]
    return tables.table(columns, filter(ours, forward(bench, narrow=True)), "narrow product")


def _patterns(bench: BenchFile) -> str:
    columns: list[Column[Case]] = [("pattern", lambda case: PATTERNS[case["pattern"]]), *PRODUCT]
    for product in ("forward", "dX", "dW"):
        columns += each(
            {product: product}, lambda case, p: rate(bench.rate("leandnn", **{**case, "product": p}))
        )
        dense = {product: "× `torch.mm`"}
        columns += each(dense, lambda case, p: times(bench.times("torch.mm", **{**case, "product": p})))
    return tables.table(columns, (case for name in PATTERNS for case in forward(bench, name)), "product")


def rounding(bench: BenchFile) -> str:
    """`round_to` beside a copy of the same bytes, torch's pair of casts and other libraries."""
    Key = tuple[int, Case]  # threads, and what is rounded: into a tensor that is there, or a new one

    def case(key: Key, output: str) -> Case:
        return {**key[1], "output": output}

    def peer(key: Key, name: str, output: str = "preallocated") -> str | None:
        return times(bench.times(name, key[0], **case(key, output)))

    def libraries(key: Key) -> str | None:
        return ", ".join(f"{name} {found}" for name in LIBRARIES if (found := peer(key, name, "new"))) or None

    columns: list[Column[Key]] = [
        ("FP32 in", lambda key: f"{key[1]['mib']} MiB"),
        ("rounded to", lambda key: f"{key[1]['format'].upper()}, {key[1]['mode'].replace('_', ' ')}"),
        ("threads", lambda key: str(key[0])),
        ("G values/s", lambda key: f"{bench.rate('leandnn', key[0], **case(key, 'preallocated')):.1f}"),
        ("× a copy", lambda key: peer(key, "torch.copy")),
        ("× torch's casts", lambda key: peer(key, "torch.casts")),
        ("the same, new output", lambda key: peer(key, "torch.casts", "new")),
        ("× libraries, new output", libraries),
    ]
    keys: list[Key] = []
    for found in bench.cases(output="preallocated"):
        for threads in sorted({row["threads"] for row in bench.of(**found) if row["impl"] == "leandnn"}):
            key = threads, {name: found[name] for name in ("mib", "format", "mode")}
            keys += [key] if key not in keys else []
    table = tables.table(columns, keys, "row of leandnn")
    about = "Into a tensor that is there, unless it says new."
    return f"{provenance(bench, about)}\n\n{table}\n\n{tables.targets(TARGETS['rounding'], bench)}"


def sparse_step(bench: BenchFile) -> str:
    """A training step of a net with sparse layers beside the dense net, a masked one and BF16 autocast."""

    def speed(row: Row) -> str | None:
        return times(ratio(row["rate"], bench.rate("torch.dense", row["threads"], **row["case"])))

    columns: list[Column[Row]] = [
        ("one training step", lambda row: f"{row['case']['net']}, batch {row['case']['batch']}"),
        ("zeros", lambda row: f"{zeros(row['case'])}, {row['case']['pattern'].upper()}"),
        ("", lambda row: "**leandnn**" if row["impl"] == "leandnn" else f"`{row['impl']}`"),
        ("median (quartiles)", spread),
        ("images/s", lambda row: f"{row['rate']:,.1f}"),
        ("speed to dense FP32", speed),
    ]
    table, asked = tables.table(columns, bench.rows), tables.targets(TARGETS["sparse-step"], bench)
    return f"{provenance(bench, 'One thread.')}\n\n{table}\n\n{asked}"


TABLES = tables.named(
    of_bench("panels", "panels", "Products of block-sparse matrices", panels),
    of_bench(
        "panels",
        "panels-further",
        "The same: threads, instruction sets, few columns, patterns",
        panels_further,
    ),
    of_bench("rounding", "rounding", "Rounding", rounding),
    of_bench("sparse-step", "sparse-step", "A training step with sparse layers", sparse_step),
)
