"""What hierarchical patterns are to reach: shares of RBGP4's rate, times of CSR's, seconds of pruning.

Rates count the non-zeros' operations: at equal sparsity a ratio of rates is one of times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from leandnn.bench.benchfile import BenchFile, ratio
from leandnn.bench.targets import Target

ROWS = 4  # of the smallest blocks that the targets ask for
WHOSE = f"smallest blocks of ≥ {ROWS} rows"


def smallest(pattern: str) -> tuple[int, int]:
    """(Rows, columns) of a hierarchical pattern's smallest blocks: of "hbs64-16-8x1" (8, 1)."""
    rows, _, columns = pattern.rpartition("-")[2].partition("x")
    return int(rows), int(columns)


def _rates(
    peer: str, impl: str = "leandnn", columns: int = 1, **product: object
) -> Callable[[BenchFile], Iterable[float | None]]:
    """Rates of the patterns whose smallest blocks have ROWS rows and `columns` columns or more, over a peer's."""

    def values(bench: BenchFile) -> Iterable[float | None]:
        for case in bench.cases(what="product", **product):
            form = str(case["pattern"])
            if form.startswith("hbs") and smallest(form) >= (ROWS, 0) and smallest(form)[1] >= columns:
                yield ratio(bench.rate("leandnn", **case), bench.rate(impl, **{**case, "pattern": peer}))

    return values


def _pruning(bench: BenchFile) -> Iterable[float]:
    return (row["median_s"] for row in bench.of(what="prune") if row["impl"] == "leandnn")


TARGETS = {
    "hbsnn": (
        Target(f"{WHOSE}, forward: {{}} × RBGP4's rate", 0.9, _rates("rbgp4", product="forward")),
        Target(
            "the same, those of ≥ 4 columns, too: {}", 0.9, _rates("rbgp4", columns=ROWS, product="forward")
        ),
        Target(f"{WHOSE}, dX: {{}} × RBGP4's rate", 0.9, _rates("rbgp4", product="dX")),
        Target("the same, those of ≥ 4 columns, too: {}", 0.9, _rates("rbgp4", columns=ROWS, product="dX")),
        Target(
            f"{WHOSE}, forward, 75 % zeros: {{}} × our CSR",
            2.0,
            _rates("unstructured", product="forward", sparsity=75.0),
        ),
        Target(
            f"{WHOSE}, forward, 75 % zeros: {{}} × `torch.csr`",
            5.0,
            _rates("unstructured", "torch.csr", product="forward", sparsity=75.0),
        ),
        Target("pruning 4096 × 4096: {} s", 0.3, _pruning, "s", at_most=True),
    )
}
