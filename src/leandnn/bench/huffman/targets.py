"""What coded weights are to reach: ratios of medians of one interleaved run, and bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from leandnn.bench.benchfile import BenchFile, ratio
from leandnn.bench.targets import Target

HUFF0 = "huff0 (zstandard)"
DENSE = ("torch.dense", "torch.dense (feature-major)")
# fc6 by batch, in times of a peer.
LAYERS: dict[str, tuple[Sequence[str], dict[int, float]]] = {
    "dense FP32": (DENSE, {1: 3.2, 4: 6.5, 16: 6.5, 64: 6.5, 256: 5.5}),
    "decode → CSR": (("decode → torch.csr",), {1: 4.0, 4: 4.0, 16: 3.5, 64: 4.0, 256: 4.0}),
    "int8": (("torch.int8 (dynamic)",), {1: 0.85, 4: 0.75, 16: 1.05, 64: 1.05, 256: 1.05}),
}
Values = Callable[[BenchFile], Iterable[float | None]]


def _smaller(layout: str) -> Values:
    return lambda bench: (
        row["case"]["dense_bytes"] / row["work"] for row in bench.of(what="size", layout=layout, layer="all")
    )


def _decoded(case: str) -> Values:
    return lambda bench: [bench.times(HUFF0, what="decode", case=case)]


def _decoded_by(path: str) -> Values:
    def values(bench: BenchFile) -> Iterable[float | None]:
        ours = [f"leandnn.{path}.{layout}" for layout in ("lanes", "streams")]
        rates = (bench.rate(impls, what="decode", case="fc6, 7 bits") for impls in (ours, HUFF0))
        return [ratio(*rates)]

    return values


def _layer(peers: Sequence[str], batch: int) -> Values:
    return lambda bench: [bench.times(peers, what="layer", layer="fc6", batch=batch)]


def _threads(bench: BenchFile) -> Iterable[float | None]:
    cases = bench.cases(what="threads")
    return (ratio(*(bench.rate("leandnn", n, **case) for n in (2, 1))) for case in cases)


def _accounted(bench: BenchFile) -> Iterable[float]:
    return (row["work"] / row["case"]["compressed_bytes"] for row in bench.of(what="memory"))


def _grown(bench: BenchFile) -> Iterable[float | None]:
    cases = bench.cases(what="memory")
    return (ratio(case["measured_bytes"], case["compressed_bytes"]) for case in cases)


def _net(bench: BenchFile) -> Iterable[float | None]:
    return [bench.times(("torch.dense", "torch.dense (channels last)"), what="net", batch=1)]


def _net_memory(bench: BenchFile) -> Iterable[float | None]:
    rows = (bench.row(impl, what="net", batch=1) for impl in ("torch.dense", "leandnn"))
    return [ratio(*(None if row is None else row["case"]["weight_bytes"] for row in rows))]


def _plans(bench: BenchFile) -> Iterable[float | None]:
    for cap in dict.fromkeys(row["case"]["cap_mb"] for row in bench.of(what="plan")):
        rates = (bench.rate(f"{name} variable", what="plan", cap_mb=cap) for name in ("fused", "slow"))
        yield ratio(*rates)


TARGETS = {
    "huffman": (
        Target("{} × smaller than FP32, lanes", 33.0, _smaller("lanes")),
        Target("{} × smaller than FP32, the smallest layout", 35.5, _smaller("smallest")),
        Target("decode fc6, 7 bits: {} × huff0", 4.0, _decoded("fc6, 7 bits")),
        Target("decode fc6, 8 bits: {} × huff0", 3.3, _decoded("fc6, 8 bits")),
        *(
            Target(f"decode fc6 by {path}, the better layout: {{}} × huff0", 1.0, _decoded_by(path))
            for path in ("avx2", "baseline")
        ),
        *(
            Target(f"fc6, batch {batch}: {{}} × {words}", bound, _layer(peers, batch))
            for words, (peers, bounds) in LAYERS.items()
            for batch, bound in bounds.items()
        ),
        Target("fc6 at every batch: two threads {} × one", 1.7, _threads),
        Target(
            "linear layers at every batch: bytes {} × the compressed ones, accounted",
            1.05,
            _accounted,
            at_most=True,
        ),
        Target("the same, measured: {}", 1.05, _grown, at_most=True),
        Target("the net, batch 1: {} × dense FP32", 1.0, _net),
        Target("the net: {} × less weight memory than dense", 15.0, _net_memory),
        Target("plans of batch sizes per layer under every cap: fused {} × slow decoder", 1.0, _plans),
    )
}
