"""What batch sizes per layer gain on the whole AlexNet, by a slow decoder and by the fused one, cap by cap of memory.

Both decoders are timed in turns, unit by unit and batch by batch. Plans are chosen on the even rounds and scored on
the odd ones. The plans of one cap are run for real, too.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from leandnn.bench.benchfile import Row
from leandnn.bench.timing import interleave, row
from leandnn.errors import LeandnnError
from leandnn.huffman.batch_plan import BatchPlan, plan, score
from leandnn.huffman.chain import units
from leandnn.huffman.costs import Costs, copy_seconds, timed
from leandnn.huffman.decoders import Decoder
from leandnn.huffman.full_alexnet import IMAGE
from leandnn.huffman.layers import HuffmanLayer
from leandnn.huffman.model import Compressed
from leandnn.kernels import dispatch

MB = 1_000_000
CAPS = (16, 24, 32, 48, 64, 96)  # MB
KINDS = ("uniform", "variable")
LATENCIES = (0.05, 0.1, 0.2, 0.5, 1.0)  # seconds
RUN_CAP = 32  # MB: the cap whose plans are run


def slow(layer: HuffmanLayer, x: Tensor) -> Tensor:
    """The same products by a decoder of the paper's time: one symbol after another, no wide vectors."""
    with dispatch.using("baseline"):
        y: Tensor = layer(x)
        return y


DECODERS: dict[str, Decoder | None] = {"fused": None, "slow": slow}


@dataclass(frozen=True)
class Scored:
    """A plan and, of each round that did not choose it, the seconds an image; None where nothing fits the cap."""

    chosen: BatchPlan
    held_out: BatchPlan
    seconds: tuple[float, ...]


def measure(model: Compressed, batches: Sequence[int], repeats: int) -> dict[str, Costs]:
    """Costs of the net by each decoder, all in the same rounds: in each, whole nets in turns."""
    costs = {
        name: Costs.measure(model, IMAGE, batches, 1, decoder=decoder) for name, decoder in DECODERS.items()
    }
    chains = {name: units(model, decoder) for name, decoder in DECODERS.items()}
    shape = len(costs["fused"].units), len(batches)
    seconds = {name: np.zeros((repeats, *shape)) for name in DECODERS}
    copied = {name: np.zeros((repeats, shape[0])) for name in DECODERS}
    images = torch.randn(max(batches), *IMAGE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for repeat in tqdm(range(repeats), desc="costs", leave=False, disable=None):
            for (column, size), (name, chain) in itertools.product(enumerate(batches), chains.items()):
                for row, (x, own) in enumerate(timed(chain, images[:size])):
                    seconds[name][repeat, row, column] = own
                    if size == max(batches):
                        copied[name][repeat, row] = copy_seconds(x)
    return {
        name: replace(own, seconds=seconds[name], copy_seconds=copied[name]) for name, own in costs.items()
    }


def scored(costs: dict[str, Costs]) -> dict[tuple[int, str, str], Scored | None]:
    """(cap in MB, decoder, kind) → the plan chosen on the even rounds, by the odd ones."""
    return {
        (cap, name, kind): _scored(own, cap, uniform=kind == "uniform")
        for cap, (name, own), kind in itertools.product(CAPS, costs.items(), KINDS)
    }


def surface(costs: dict[str, Costs]) -> list[Row]:
    """Rows of the plans of batch sizes per layer that also keep a limit of latency."""
    rows = []
    for cap, latency, (name, own) in itertools.product(CAPS, LATENCIES, costs.items()):
        found = _scored(own, cap, latency)
        if found is not None:
            case = {**_case("surface", cap, found), "latency_cap_ms": round(latency * 1e3)}
            rows.append(row("huffman", case, f"{name} variable", 1, found.seconds, 1, "images"))
    return rows


def _scored(costs: Costs, cap: int, latency: float | None = None, *, uniform: bool = False) -> Scored | None:
    choosing, scoring = costs.split()
    try:
        chosen = plan(None, memory=cap * MB, latency=latency, uniform=uniform, costs=choosing)
    except LeandnnError:  # nothing fits
        return None
    rounds = (
        replace(scoring, seconds=scoring.seconds[r : r + 1], copy_seconds=scoring.copy_seconds[r : r + 1])
        for r in range(len(scoring.seconds))
    )
    seconds = tuple(score(chosen, one).seconds_per_image for one in rounds)
    return Scored(chosen, score(chosen, scoring), seconds)


def planned(plans: dict[tuple[int, str, str], Scored | None]) -> list[Row]:
    """Rows of plans: seconds of an image in the rounds that did not choose them."""
    rows = []
    for (cap, name, kind), own in plans.items():
        if own is None:
            continue
        rows.append(row("huffman", _case("plan", cap, own), f"{name} {kind}", 1, own.seconds, 1, "images"))
    return rows


def _case(what: str, cap: int, own: Scored) -> dict[str, Any]:
    return {
        "what": what, "cap_mb": cap, "batches": list(own.chosen.batches),
        "latency_ms": round(own.held_out.latency * 1e3, 1), "memory_mb": round(own.chosen.memory_nbytes / MB, 2),
        "choosing_ms": round(own.chosen.seconds_per_image * 1e3, 3),
    }  # fmt: skip


def gains(rows: Sequence[Row]) -> str:
    """What batch sizes per layer gain over one size, cap by cap: in the rounds that chose the plans, and held out."""
    lines = []
    for cap, name in itertools.product(CAPS, DECODERS):
        own = {r["impl"]: r for r in rows if r["case"].get("cap_mb") == cap and r["case"]["what"] == "plan"}
        uniform, variable = own.get(f"{name} uniform"), own.get(f"{name} variable")
        if uniform is None or variable is None:
            lines.append(f"{cap} MB, {name} decoder: nothing fits")
            continue
        chosen = uniform["case"]["choosing_ms"] / variable["case"]["choosing_ms"] - 1
        lines.append(
            f"{cap} MB, {name} decoder: {uniform['rate']:.1f} → {variable['rate']:.1f} images/s, "
            f"{variable['rate'] / uniform['rate'] - 1:+.1%} held out ({chosen:+.1%} where chosen), latency "
            f"{uniform['case']['latency_ms']:.0f} → {variable['case']['latency_ms']:.0f} ms"
        )
    return "\n".join(lines)


def run(model: Compressed, plans: dict[tuple[int, str, str], Scored | None], repeats: int) -> list[Row]:
    """Rows of the plans of RUN_CAP, run on a queue of images, twice the largest batch; results are compared."""
    chosen = {
        f"{name} {kind}": (plans[RUN_CAP, name, kind], decoder)
        for (name, decoder), kind in itertools.product(DECODERS.items(), KINDS)
    }
    count = 2 * max((max(own.chosen.batches) for own, _ in chosen.values() if own), default=1)
    images = torch.randn(count, *IMAGE, generator=torch.Generator().manual_seed(1))

    def call(own: BatchPlan, decoder: Decoder | None) -> Tensor:
        return torch.stack(list(own.run(model, images, decoder)))

    calls = {
        impl: functools.partial(call, own.chosen, decoder)
        for impl, (own, decoder) in chosen.items()
        if own is not None
    }
    with torch.no_grad():
        expected = torch.cat([model(part) for part in images.split(16)])
    for impl, own_call in calls.items():
        distance = float((own_call() - expected).norm() / expected.norm())
        if not distance <= 1e-4:
            raise LeandnnError(f"the plan of {impl} computes another net: {distance:.2g} away, expected 1e-4")
    times = interleave(calls, repeats=repeats, warmup=0, label="plans")
    rows = []
    for impl, t in times.items():
        own = chosen[impl][0]
        assert own is not None
        case = {"what": "run", "cap_mb": RUN_CAP, "batches": list(own.chosen.batches)}
        case["predicted_ms"] = round(own.held_out.seconds_per_image * 1e3, 3)
        rows.append(row("huffman", case, impl, 1, t, count, "images"))
    return rows


def arms(plans: dict[tuple[int, str, str], Scored | None]) -> dict[str, list[float]]:
    """Seconds of an image, round by round of those that did not choose the plans, by arm of the speed claim.

    "uniform-batch" and "variable-batch" are the slow decoder's, a mean over all caps that both fit in; with
    "-fused" the fused one's, with "-16mb" (and so on) those of one cap.
    """
    found: dict[str, list[float]] = {}
    for name, suffix in (("slow", ""), ("fused", "-fused")):
        fitting = [cap for cap in CAPS if all(plans[cap, name, kind] for kind in KINDS)]
        for kind in KINDS:
            own = {cap: plans[cap, name, kind] for cap in fitting}
            rounds = {cap: list(one.seconds) for cap, one in own.items() if one is not None}
            if rounds:
                found[f"{kind}-batch{suffix}"] = np.mean(list(rounds.values()), axis=0).tolist()
            found |= {f"{kind}-batch{suffix}-{cap}mb": seconds for cap, seconds in rounds.items()}
    return found
