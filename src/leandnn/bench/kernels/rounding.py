"""How fast `round_to` is: beside a plain copy of the same bytes, torch's pair of casts, and other libraries.

Three kinds of output, compared like for like: into a tensor that is there, over the input, and into a new
one (of which a large one costs more in fresh pages than in rounding). A call on 1 MiB is timed 16 at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from leandnn.bench.benchfile import Row
from leandnn.bench.kernels import rounding_peers
from leandnn.bench.timing import interleave, row
from leandnn.errors import LeandnnError
from leandnn.kernels import Format, dispatch, round_to
from leandnn.kernels.rounding import reference
from leandnn.machine import card, determinism

Call = Callable[[], object]
MIB = 1 << 20
SIZES = (64, 1)
FORMATS = {"bf16": Format(8, 7), "fp16": Format(5, 10), "e5m2": Format(5, 2)}
CASTS = {"bf16": torch.bfloat16, "fp16": torch.float16, "e5m2": torch.float8_e5m2}
CASES = [
    *(("bf16", mode) for mode in ("nearest_even", "toward_zero", "stochastic")),
    *(("fp16", mode) for mode in ("nearest_even", "toward_zero", "stochastic")),
    ("e5m2", "nearest_even"),
]
SEED = 7


def _values(mib: int) -> Tensor:
    """Normal, subnormal and huge values, of both signs, in that many MiB."""
    n = mib * MIB // 4
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, generator=generator)
    x[::1000] *= 2.0**-20
    x[1::1000] *= 2.0**17
    return x


def _calls(x: Tensor, fmt: str, mode: str) -> dict[tuple[str, str], Call]:
    """(kind of output, implementation) → call; each returns its result."""
    name: Any = fmt if fmt in ("bf16", "fp16") else FORMATS[fmt]
    out, over = torch.empty_like(x), x.clone()
    calls: dict[tuple[str, str], Call] = {
        ("preallocated", "leandnn"): lambda: round_to(x, name, mode, seed=SEED, out=out),
        ("preallocated", "torch.copy"): lambda: out.copy_(x),
        ("in place", "leandnn"): lambda: round_to(over, name, mode, seed=SEED, out=over),
        ("new", "leandnn"): lambda: round_to(x, name, mode, seed=SEED),
    }
    if mode == "nearest_even":
        dtype = CASTS[fmt]
        narrow = torch.empty(x.shape, dtype=dtype)
        calls["preallocated", "torch.casts"] = lambda: out.copy_(narrow.copy_(x))
        calls["new", "torch.casts"] = lambda: x.to(dtype).float()
    return calls


def _check(x: Tensor, fmt: str, mode: str) -> None:
    """Every measured call of ours and torch's gives the reference's bits."""
    expected = reference.round_to(x, FORMATS[fmt], mode, seed=SEED)
    for (output, impl), call in _calls(x, fmt, mode).items():
        found = call()
        assert isinstance(found, Tensor)
        wanted = x if impl == "torch.copy" else expected
        if not torch.equal(found.view(torch.int32), wanted.view(torch.int32)):
            raise LeandnnError(f"{impl} ({output}) rounds to {fmt} {mode} unlike the reference kernel")


def _peers(x: Tensor, fmt: str, mode: str) -> dict[tuple[str, str], Call]:
    """Calls of the installed peers that do what is asked: all but ties equal, or stochastic within a step."""
    expected = round_to(x, FORMATS[fmt], mode, seed=SEED)
    down = round_to(x, FORMATS[fmt], "toward_zero")
    calls: dict[tuple[str, str], Call] = {}
    for name, rounder in rounding_peers.installed(FORMATS[fmt], mode).items():
        found = torch.as_tensor(rounder(x)).float()
        right = (found == expected) | ((mode == "stochastic") & (found.abs() >= down.abs()))
        if right.float().mean() > 0.999:
            calls["new", name] = lambda rounder=rounder: rounder(x)  # type: ignore[misc]
    return calls


def rows(quick: bool) -> list[Row]:
    """Measured rows; leaves torch at one thread. quick: 1 MiB alone, fewer repeats."""
    determinism.configure(seed=0, threads=1)
    found: list[Row] = []
    repeats = 20 if quick else 60
    for mib in (1,) if quick else SIZES:
        x = _values(mib)
        for fmt, mode in CASES:
            _check(x, fmt, mode)
            if mib == 1:  # some peers need a second for 64 MiB
                found += _measure(_peers(x, fmt, mode), (mib, fmt, mode), 20)
            found += _measure(_calls(x, fmt, mode), (mib, fmt, mode), repeats, batch=16 if mib == 1 else 1)
    if not quick and card.cores() > 1:
        determinism.configure(seed=0, threads=card.cores())
        case = (SIZES[0], *CASES[0])
        found += _measure(_calls(_values(SIZES[0]), *CASES[0]), case, repeats, threads=card.cores())
        determinism.configure(seed=0, threads=1)
    return found


def _measure(
    calls: dict[tuple[str, str], Call],
    what: tuple[int, str, str],
    repeats: int,
    *,
    batch: int = 1,
    threads: int = 1,
) -> list[Row]:
    def many(call: Call) -> Call:
        def run() -> None:
            for _ in range(batch):
                call()

        return run

    mib, fmt, mode = what
    named = {f"{output}/{impl}": many(call) for (output, impl), call in calls.items()}
    taken = interleave(named, repeats=repeats, label=f"{mib} MiB {fmt} {mode}")
    found = []
    for (output, impl), seconds in zip(calls, taken.values(), strict=True):
        case = {"mib": mib, "format": fmt, "mode": mode, "output": output, "kernel": dispatch.active()}
        each = [s / batch for s in seconds]
        found.append(row("rounding", case, impl, threads, each, mib * MIB / 4 / 1e9, "G values"))
    return found


def summary(rows: list[Row]) -> str:
    """Ratios to a copy and to torch's casts, the stochastic mode's time, and the peers that were not there."""

    def seconds(impl: str, output: str, mib: int, fmt: str, mode: str) -> float | None:
        wanted = {"mib": mib, "format": fmt, "mode": mode, "output": output}
        return next(
            (
                r["median_s"]
                for r in rows
                if r["impl"] == impl and r["threads"] == 1 and wanted.items() <= r["case"].items()
            ),
            None,
        )

    lines = []
    for mib in SIZES:
        for fmt, mode in CASES:
            ours = seconds("leandnn", "preallocated", mib, fmt, mode)
            copy = seconds("torch.copy", "preallocated", mib, fmt, mode)
            if ours is None or copy is None:
                continue
            words = [f"{copy / ours:.2f} × a copy's speed"]
            for output in ("preallocated", "new"):
                mine, casts = (seconds(i, output, mib, fmt, mode) for i in ("leandnn", "torch.casts"))
                if mine and casts:
                    words.append(f"{casts / mine:.2f} × torch's casts {output}")
            if mode == "stochastic":
                words = [f"{ours / (mib * MIB / 4) * 1e9:.2f} ns a value"]
            lines.append(f"{mib} MiB {fmt} {mode}: {', '.join(words)}")
    absent = rounding_peers.missing()
    if absent:
        lines.append(f"peers that are not installed: {', '.join(absent)}")
    return "\n".join(lines)
