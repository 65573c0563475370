"""Inference on Huffman-coded weights: AlexNet at full size with structured weights (huffman/full_alexnet.py).

Sizes, rates of decoding alone, linear layers that multiply while they decode beside dense, narrower and sparse ones,
memory, threads, the whole net, and what batch sizes per layer gain. All times of a case are taken in turns.
"""

from __future__ import annotations

import functools

import torch

from leandnn.bench.benchfile import Row
from leandnn.bench.huffman import decode, gpu, layers, peers, plans
from leandnn.bench.huffman.plans import Scored
from leandnn.huffman import full_alexnet
from leandnn.huffman.compress import encode
from leandnn.huffman.costs import BATCHES, Costs
from leandnn.huffman.full_alexnet import AlexNet
from leandnn.huffman.model import Compressed
from leandnn.machine import determinism

REPEATS, QUICK_REPEATS = 25, 3
ROUNDS, QUICK_ROUNDS = 40, 4  # of costs; half of them choose plans, half score them
RUNS = 5  # of the plans that are run; each takes a second or more
SHRINK = 8  # of the quick run's net


@functools.cache
def nets(quick: bool) -> tuple[AlexNet, dict[str, Compressed]]:
    """The net, pruned and shared; and coded: "lanes", as a CPU with AVX2 has it by default, and "smallest".

    The codebooks of its convolutions are too large for lanes: "lanes" has them in streams.
    """
    net = full_alexnet.shared(shrink=SHRINK if quick else 1)
    return net, {"lanes": encode(net), "smallest": encode(net, layout="streams")}


@functools.cache
def costs(quick: bool) -> dict[str, Costs]:
    """What the lane-coded net's units cost by each decoder; one thread."""
    determinism.configure(seed=0, threads=1)
    batches = (1, 2, 4) if quick else BATCHES
    return plans.measure(nets(quick)[1]["lanes"], batches, QUICK_ROUNDS if quick else ROUNDS)


@functools.cache
def chosen_plans(quick: bool) -> dict[tuple[int, str, str], Scored | None]:
    """Plans for all caps, chosen on one half of the rounds and scored on the other."""
    return plans.scored(costs(quick))


def rows(quick: bool) -> list[Row]:
    """Measured rows; leaves torch at one thread. Quick: a smaller net, fewer repeats, cases and batches."""
    determinism.configure(seed=0, threads=1)
    net, models = nets(quick)
    model, repeats = models["lanes"], QUICK_REPEATS if quick else REPEATS
    with torch.no_grad():
        found = decode.sizes(models, net.shrink)
        found += decode.rates(net, repeats, tuple(decode.CASES)[: 1 if quick else None])
        found += gpu.rates(net, repeats)
        names = ("fc6",) if quick else tuple(full_alexnet.FC)
        batches = layers.BATCHES[: 2 if quick else None]
        found += layers.linear(net, model, names, batches, repeats)
        found += layers.threads(model, repeats)
        found += layers.memory_rows(model)
        found += layers.whole(models, (1,) if quick else (1, 16), repeats)
    found += plans.planned(chosen_plans(quick))
    found += plans.surface(costs(quick))
    return found + plans.run(model, chosen_plans(quick), 1 if quick else RUNS)


def rounds(quick: bool) -> dict[str, list[float]]:
    """Seconds of an image, round by round of those that did not choose the plans; plans.arms."""
    return plans.arms(chosen_plans(quick))


def summary(rows: list[Row]) -> str:
    """What plans gain, and which decoders were not there to compare with."""
    lines = [plans.gains(rows)]
    if SHRINK in {r["case"].get("shrink") for r in rows}:
        lines.append(
            f"a quick run: the net has an {SHRINK}th of AlexNet's channels, targets are for all of them"
        )
    if absent := peers.absent():
        lines.append(f"decoders that are not installed: {', '.join(absent)}")
    return "\n".join(lines)
