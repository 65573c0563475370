"""How time is taken: warm-up, interleaved repeats, medians with quartiles."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from tqdm import tqdm

from leandnn.bench.benchfile import Row


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """Torch computes by `count` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def interleave(
    calls: Mapping[str, Callable[[], object]], *, repeats: int, warmup: int = 3, label: str = ""
) -> dict[str, list[float]]:
    """Seconds of each call, taken in turns so that a slow spell of the machine hits all of them alike.

    Every round has its own order (seeded), so that no call always finds the caches as the same other one left them.

    - calls: implementation name → function.
    - repeats: at least 20 for a number that is kept.
    - warmup: untimed rounds before.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for i in tqdm(range(warmup + repeats), desc=label or "bench", leave=False, disable=None):
        for name in random.Random(i).sample(list(calls), len(calls)):
            call = calls[name]
            start = time.perf_counter()
            call()
            elapsed = time.perf_counter() - start
            if i >= warmup:
                times[name].append(elapsed)
    return times


def row(
    bench: str, case: dict[str, Any], impl: str, threads: int, times: Sequence[float], work: float, unit: str
) -> Row:
    """A row from the seconds of its repeats."""
    p25, median, p75 = statistics.quantiles(times, n=4) if len(times) > 1 else [times[0]] * 3
    return Row(
        bench=bench,
        case=case,
        impl=impl,
        threads=threads,
        median_s=median,
        p25_s=p25,
        p75_s=p75,
        n=len(times),
        work=work,
        unit=unit,
        rate=work / median,
    )


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned text, losers included."""
    head = ("case", "impl", "threads", "median ms", "quartiles ms", "n", "rate")
    body = [
        (
            " ".join(f"{k}={v}" for k, v in r["case"].items()),
            r["impl"],
            str(r["threads"]),
            f"{r['median_s'] * 1e3:.2f}",
            f"{r['p25_s'] * 1e3:.2f} to {r['p75_s'] * 1e3:.2f}",
            str(r["n"]),
            f"{r['rate']:,.1f} {r['unit']}/s",
        )
        for r in rows
    ]
    widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip()
        for line in [head, *body]
    )
