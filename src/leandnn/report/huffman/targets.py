"""What the Huffman bench is to reach, and whether it does: ratios of medians of one interleaved run, as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]  # see bench/timing.py

HUFF0 = "huff0 (zstandard)"

# fc6 by batch: × dense FP32, × decode → CSR, × int8.
DENSE = {1: 3.2, 4: 6.5, 16: 6.5, 64: 6.5, 256: 5.5}
CSR = {1: 4.0, 4: 4.0, 16: 3.5, 64: 4.0, 256: 4.0}
INT8 = {1: 0.85, 4: 0.75, 16: 1.05, 64: 1.05, 256: 1.05}
SIZES = {"lanes": 33.0, "smallest": 35.5}
DECODE = {"fc6, 7 bits": 4.0, "fc6, 8 bits": 3.3}
PORTABLE = 1.0  # × huff0, without AVX-512 VBMI
THREADS = 1.7
MEMORY = 1.05  # at most
NET_MEMORY = 15.0


@dataclass(frozen=True)
class Target:
    """What is to be reached: at least, or at most; None where it was not measured."""

    what: str
    wanted: float
    measured: float | None
    at_most: bool = False

    @property
    def met(self) -> str:
        """yes, no, or not measured."""
        if self.measured is None:
            return "not measured"
        reached = self.measured <= self.wanted if self.at_most else self.measured >= self.wanted
        return "yes" if reached else "NO"


def targets(rows: Sequence[Row]) -> list[Target]:
    """All targets, in the order of the bench."""
    found = _Found(rows)
    return [*_sizes(found), *_decode(found), *_layers(found), *_memory(found), *_net(found), *_plans(found)]


def table(rows: Sequence[Row]) -> str:
    """The targets as aligned text."""
    lines = [("target", "wanted", "measured", "met")]
    for own in targets(rows):
        sign = "≤" if own.at_most else "≥"
        measured = "" if own.measured is None else f"{own.measured:.3g}"
        lines.append((own.what, f"{sign} {own.wanted:g}", measured, own.met))
    widths = [max(len(line[i]) for line in lines) for i in range(4)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


class _Found:
    """Rows by case and implementation."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows

    def all(self, **case: Any) -> list[Row]:
        return [r for r in self.rows if case.items() <= r["case"].items()]

    def rate(self, impls: str | Sequence[str], threads: int = 1, **case: Any) -> float | None:
        """The best rate of these implementations."""
        names = (impls,) if isinstance(impls, str) else impls
        rates = [r["rate"] for r in self.all(**case) if r["impl"] in names and r["threads"] == threads]
        return max(rates) if rates else None

    def times(self, over: str | Sequence[str], **case: Any) -> float | None:
        """How many times the rate of others our own is."""
        return _ratio(self.rate("leandnn", **case), self.rate(over, **case))


def _ratio(ours: float | None, theirs: float | None) -> float | None:
    return None if ours is None or theirs is None else ours / theirs


def _sizes(found: _Found) -> Iterator[Target]:
    for layout, wanted in SIZES.items():
        for r in found.all(what="size", layout=layout, layer="all"):
            yield Target(f"× smaller than FP32, {layout}", wanted, r["case"]["dense_bytes"] / r["work"])


def _decode(found: _Found) -> Iterator[Target]:
    for name, wanted in DECODE.items():
        yield Target(f"decode {name}, × huff0", wanted, found.times(HUFF0, what="decode", case=name))
    case: dict[str, Any] = {"what": "decode", "case": "fc6, 7 bits"}
    for path in ("avx2", "baseline"):
        ours = found.rate([f"leandnn.{path}.{layout}" for layout in ("lanes", "streams")], **case)
        name = f"decode fc6 by {path}, the better layout, × huff0"
        yield Target(name, PORTABLE, _ratio(ours, found.rate(HUFF0, **case)))


def _layers(found: _Found) -> Iterator[Target]:
    dense = ("torch.dense", "torch.dense (feature-major)")
    for peer, impls, wanted in (
        ("dense FP32", dense, DENSE),
        ("decode → CSR", "decode → torch.csr", CSR),
        ("int8", "torch.int8 (dynamic)", INT8),
    ):
        for batch, least in wanted.items():
            measured = found.times(impls, what="layer", layer="fc6", batch=batch)
            yield Target(f"fc6, batch {batch}, × {peer}", least, measured)
    for batch in sorted({r["case"]["batch"] for r in found.all(what="threads")} or {1}):
        case: dict[str, Any] = {"what": "threads", "layer": "fc6", "batch": batch}
        two, one = found.rate("leandnn", 2, **case), found.rate("leandnn", 1, **case)
        yield Target(f"fc6, batch {batch}, two threads × one", THREADS, _ratio(two, one))


def _memory(found: _Found) -> Iterator[Target]:
    for r in found.all(what="memory"):
        case = r["case"]
        name = f"{case['layer']}, batch {case['batch']}, bytes × compressed"
        yield Target(f"{name}, accounted", MEMORY, r["work"] / case["compressed_bytes"], at_most=True)
        if case["measured_bytes"] is not None:
            measured = case["measured_bytes"] / case["compressed_bytes"]
            yield Target(f"{name}, measured", MEMORY, measured, at_most=True)


def _net(found: _Found) -> Iterator[Target]:
    dense = ("torch.dense", "torch.dense (channels last)")
    yield Target("net, batch 1, × dense FP32", 1.0, found.times(dense, what="net", batch=1))
    held = {r["impl"]: r["case"]["weight_bytes"] for r in found.all(what="net", batch=1)}
    measured = _ratio(held.get("torch.dense"), held.get("leandnn"))
    yield Target("net, batch 1, × less weight memory", NET_MEMORY, measured)


def _plans(found: _Found) -> Iterator[Target]:
    for cap in dict.fromkeys(r["case"]["cap_mb"] for r in found.all(what="plan")):
        case = {"what": "plan", "cap_mb": cap}
        ours = found.rate("fused variable", **case)
        if ours is not None:
            slow = found.rate("slow variable", **case)
            yield Target(f"plan for {cap} MB, fused + variable × slow + variable", 1.0, _ratio(ours, slow))
