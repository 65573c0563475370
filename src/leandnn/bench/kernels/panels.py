"""How fast the panel products are: beside dense products, torch's and SciPy's sparse ones, and a plain CSR.

Every time includes packing X. The implementations of a case take turns, so each finds in the caches what the
others left there (no hot loops). `work` is always 2 · nnz · N, the useful operations, for dense peers too: a
ratio of rates is a ratio of times. FP32 X is feature-major (K × N), except in rows named token-major.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from leandnn.bench.benchfile import Row
from leandnn.bench.kernels import panels_peers
from leandnn.bench.timing import interleave, on_threads, row
from leandnn.blocksparse import Pattern
from leandnn.errors import LeandnnError
from leandnn.kernels import dispatch
from leandnn.kernels.panels.plan import Plan, Prepared
from leandnn.machine import determinism

SHAPES = ((4096, 4096, 256), (1024, 1024, 1024), (512, 4608, 1024))
SPARSITIES = (50.0, 75.0, 87.5, 93.75)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
REPEATS = 25
Call = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """What is computed; the key of a row."""

    M: int
    K: int
    N: int
    sparsity: float
    pattern: str
    dtype: str
    product: str


def pattern_of(name: str, rows: int, columns: int, sparsity: float) -> Pattern:
    """The pattern that a bench calls `name`, from a fixed seed.

    - rbgp4: G_r = (4, 2), G_b = (4, 4), G_o and G_i biregular and random. blockHxW: random blocks.
    - hbs64-4x4: half of the 64 × 64 blocks, in them 4 × 4 blocks. unstructured: single weights.
    """
    generator = torch.Generator().manual_seed(0)
    part = sparsity / 100
    if name == "rbgp4":
        return Pattern.random_product(rows, columns, part, (4, 2), (4, 4), generator)
    if name == "unstructured":
        return Pattern.random_unstructured(rows, columns, part, generator)
    if name == "hbs64-4x4":
        coarse = Pattern.random_blocks(rows, columns, (64, 64), 0.5, generator).mask()
        fine = Pattern.random_blocks(rows, columns, (4, 4), 1 - 2 * (1 - part), generator).mask()
        return Pattern.hierarchical((coarse & fine)[::4, ::4].numpy(), ((64, 64), (4, 4)))
    height, width = (int(size) for size in name.removeprefix("block").split("x"))
    return Pattern.random_blocks(rows, columns, (height, width), part, generator)


class Bench:
    """One case: its matrices, the calls of ours, and the check of every call's result against float64.

    - pattern: of the weight, that of the case's name (see pattern_of) if None.
    """

    def __init__(self, case: Case, pattern: Pattern | None = None) -> None:
        self.case = case
        self.pattern = pattern or pattern_of(case.pattern, case.M, case.K, case.sparsity)
        generator = torch.Generator().manual_seed(1)
        dtype = DTYPES[case.dtype]
        self.plan = Plan(self.pattern.panels)
        self.values = torch.randn(self.pattern.nnz, generator=generator).to(dtype)
        self.weight = self.pattern.scatter(self.values)
        self.x = torch.randn(case.K, case.N, generator=generator).to(dtype)
        self.dy = torch.randn(case.M, case.N, generator=generator).to(dtype)
        self.work = 2 * self.pattern.nnz * case.N / 1e9

    def ours(self) -> Mapping[str, Call]:
        """Our implementations of the case's product."""
        case, dtype = self.case, self.x.dtype
        if case.product == "dX":
            dx = torch.empty(case.K, case.N, dtype=dtype)
            return {"leandnn": lambda: self.plan.transposed_product(self.values, self.dy, out=dx)}
        if case.product == "dW":
            return {"leandnn": lambda: self.plan.sampled_product(self.dy, self.x)}
        prepared, y = Prepared(self.plan, self.values), torch.empty(case.M, case.N, dtype=dtype)
        tokens, y_tokens = self.x.t().contiguous(), torch.empty(case.N, case.M, dtype=dtype)
        return {
            "leandnn": lambda: prepared(self.x, y),
            "leandnn (token-major)": lambda: prepared(tokens.t(), y_tokens.t()),
        }

    def dense(self) -> Mapping[str, Call]:
        """torch's dense product of the same matrices."""
        case, dtype = self.case, self.x.dtype
        if case.product == "dX":
            dx = torch.empty(case.K, case.N, dtype=dtype)
            return {"torch.mm": lambda: torch.mm(self.weight.t(), self.dy, out=dx)}
        if case.product == "dW":
            dw = torch.empty(case.M, case.K, dtype=dtype)
            return {"torch.mm": lambda: torch.mm(self.dy, self.x.t(), out=dw)}
        y = torch.empty(case.M, case.N, dtype=dtype)
        return {"torch.mm": lambda: torch.mm(self.weight, self.x, out=y)}

    def check(self, name: str, call: Call) -> None:
        """Raises LeandnnError unless a call's result is the product, to the dtype's rounding."""
        found = call()
        assert isinstance(found, Tensor)
        w, x, dy = self.weight.double(), self.x.double(), self.dy.double()
        pair = {"forward": (w, x), "dX": (w.t(), dy), "dW": (dy, x.t())}[self.case.product]
        exact, size = pair[0] @ pair[1], pair[0].abs() @ pair[1].abs()
        if found.dim() == 1:  # the values of dW
            exact, size = self.pattern.gather(exact), self.pattern.gather(size)
        unit = 2**-8 if self.x.dtype == torch.bfloat16 else 2**-20
        error = ((found.double() - exact).abs() / size.clamp(min=1e-30)).max().item()
        if not error <= unit:
            raise LeandnnError(
                f"{name} is wrong in {self.case}: relative error {error:.2g}, expected at most {unit:.2g}"
            )

    def rows(self, calls: Mapping[str, Call], repeats: int, threads: int = 1) -> list[Row]:
        """Measured rows of these calls, checked before."""
        for name, call in calls.items():
            if name in panels_peers.UNCHECKED:
                continue
            self.check(name, call)
        case = dict(vars(self.case))
        times = interleave(calls, repeats=repeats, label=" ".join(map(str, case.values())))
        return [row("panels", case, name, threads, t, self.work, "Gflop") for name, t in times.items()]


def _on_path(call: Call, path: str) -> Call:
    def run() -> object:
        with dispatch.using(path):
            return call()

    return run


def _forward(bench: Bench, repeats: int) -> list[Row]:
    """Our product, a plain CSR of ours, and all peers."""
    plain = Bench(Case(**{**vars(bench.case), "pattern": "unstructured"}))
    csr = plain.ours()["leandnn"]
    plain.check("leandnn.csr", csr)
    peers = panels_peers.sparse(bench.weight, bench.x, bench.case.sparsity)
    calls = {**bench.ours(), **bench.dense(), **peers, "leandnn.csr": csr}
    other = panels_peers.deepsparse(bench.weight, bench.x)
    if other is None:
        return bench.rows(calls, repeats)
    try:
        return bench.rows({**calls, "deepsparse": other}, repeats)
    finally:
        other.close()


def _overhead(repeats: int) -> list[Row]:
    """What a call costs beside its arithmetic: a product of 4 × 4 with one column, 100 calls at a time."""
    bench = Bench(Case(4, 4, 1, 0.0, "block4x4", "fp32", "forward"))
    call = bench.ours()["leandnn"]
    bench.check("leandnn", call)
    times = interleave({"leandnn": lambda: [call() for _ in range(100)]}, repeats=repeats, label="overhead")
    return [row("panels", vars(bench.case), "leandnn", 1, [t / 100 for t in times["leandnn"]], 1.0, "call")]


def _narrow(case: Case, repeats: int) -> list[Row]:
    """N = 1 and 8, whose bound is reading the values once: torch's sum of as many bytes."""
    bench = Bench(case)
    read = torch.ones(bench.pattern.nnz + (0 if case.N == 1 else (case.K + case.M) * case.N))
    return bench.rows({**bench.ours(), **bench.dense(), "torch.sum (reading)": lambda: read.sum()}, repeats)


def rows(quick: bool) -> list[Row]:
    """Measured rows; leaves torch at one thread."""
    determinism.configure(seed=0, threads=1)
    if quick:
        return _forward(Bench(Case(1024, 1024, 1024, 75.0, "rbgp4", "fp32", "forward")), 20)
    found = _overhead(REPEATS)
    for m, k, n in SHAPES:
        for sparsity in SPARSITIES:
            found += _forward(Bench(Case(m, k, n, sparsity, "rbgp4", "fp32", "forward")), REPEATS)
            for dtype, product in (("bf16", "forward"), ("fp32", "dX"), ("fp32", "dW")):
                bench = Bench(Case(m, k, n, sparsity, "rbgp4", dtype, product))
                found += bench.rows({**bench.ours(), **bench.dense()}, REPEATS)
        for pattern in ("block4x4", "block16x16", "hbs64-4x4"):
            for product in ("forward", "dX", "dW"):
                bench = Bench(Case(m, k, n, 75.0, pattern, "fp32", product))
                found += bench.rows({**bench.ours(), **bench.dense()}, REPEATS)
        bench = Bench(Case(m, k, n, 75.0, "rbgp4", "fp32", "forward"))
        ours = bench.ours()["leandnn"]
        paths = {f"leandnn.{path}": _on_path(ours, path) for path in dispatch.supported()[1:]}
        found += bench.rows({**paths, **bench.dense()}, REPEATS)
        with on_threads(
            2
        ):  # more of them: now and then the system leaves both threads on one core for a while
            found += bench.rows({"leandnn": ours, **bench.dense()}, 4 * REPEATS, threads=2)
        for narrow in (1, 8):
            found += _narrow(Case(m, k, narrow, 75.0, "rbgp4", "fp32", "forward"), REPEATS)
    return found


def summary(rows: list[Row]) -> str:
    """Ours against the peers of the same case."""
    lines = []
    for mine in (r for r in rows if r["impl"] == "leandnn" and r["unit"] == "Gflop"):
        same = {r["impl"]: r for r in rows if r["case"] == mine["case"] and r["threads"] == mine["threads"]}
        ratios = ", ".join(
            f"{name} × {r['median_s'] / mine['median_s']:.2f}"
            for name, r in same.items()
            if name != "leandnn"
        )
        case = " ".join(str(value) for value in mine["case"].values())
        lines.append(f"{case}, {mine['threads']} threads: {mine['rate']:.0f} Gflop/s; over {ratios}")
    return "\n".join(lines)
