"""The search for batch sizes: dynamic programming over the units, exact by what `evaluate` says of a choice.

A choice's seconds an image add up unit by unit. Its memory is a maximum: while unit l runs there are its own peak, its
input, what falling boundaries before it hold for later (`after`, buffers.py) and what rising ones behind it have
gathered (`before`); while a result is copied there are the result and its buffer instead. So a choice for the
first l units is known by four numbers: its last batch size, seconds, what it will hold while later units run, and its
peak so far, to which every later boundary adds its `before`. Of two choices with one last size, one that is no better
in any of the other three can never be part of the best plan for lack of the other; the rest are kept.

A latency is a bound on period × seconds an image. For each period the sizes are its divisors, and fewer seconds an
image are then less latency, so that the search above answers for both.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from leandnn.huffman.buffers import copies, copying, held
from leandnn.huffman.costs import Costs


@dataclass(frozen=True)
class Score:
    """Of a choice of batch sizes; measured as in batch_plan.BatchPlan."""

    seconds_per_image: float
    latency: float
    memory_nbytes: int


@dataclass(frozen=True)
class _Partial:
    """A choice for the first units."""

    batches: tuple[int, ...]
    seconds: float
    after: int  # bytes held while later units run
    peak: int  # bytes at the peak so far, buffers behind included


def evaluate(batches: Sequence[int], costs: Costs) -> Score:
    """What costs say of batch sizes, one a unit. ValueError for another number of them, or one not measured."""
    if len(batches) != len(costs.units):
        raise ValueError(f"there are {len(batches)} batch sizes for {len(costs.units)} units")
    if unknown := [size for size in batches if size not in costs.batches]:
        raise ValueError(f"batch size {unknown[0]} was not measured, {costs.batches} were")
    table = _Table(costs)
    choice = _START
    for unit, size in enumerate(batches):
        choice = table.extended(choice, unit, size)
    return Score(choice.seconds, math.lcm(*batches) * choice.seconds, costs.held_nbytes + choice.peak)


def best(
    costs: Costs, memory: int | None, latency: float | None, *, uniform: bool = False
) -> tuple[int, ...] | None:
    """The batch sizes of fewest seconds an image within the budgets; of equal ones those of least memory."""
    found = [
        (choice.seconds, choice.peak, choice.batches)
        for period, sizes in _periods(costs, latency)
        for choice in _choices(costs, sizes, memory, uniform=uniform)
        if latency is None or period * choice.seconds <= latency
    ]
    return min(found)[2] if found else None


def refusal(costs: Costs, memory: int | None, latency: float | None, *, uniform: bool = False) -> str:
    """A sentence on the least budgets that would do, where `best` finds nothing."""
    least_memory = _least_memory(costs, None, uniform=uniform)
    if memory is not None and (least_memory is None or least_memory > memory):
        return f"no batch sizes fit into {memory / 1e6:g} MB: the least that would do is {_mb(least_memory)}"
    least_latency = _least_latency(costs, None, uniform=uniform)
    if latency is not None and (least_latency is None or least_latency > latency):
        return f"no batch sizes answer within {latency:g} s: the least that would do is {_s(least_latency)}"
    assert memory is not None and latency is not None  # each alone would do
    return (
        f"no batch sizes fit into {memory / 1e6:g} MB and answer within {latency:g} s: in that memory "
        f"the least latency is {_s(_least_latency(costs, memory, uniform=uniform))}, at that latency the least memory "
        f"{_mb(_least_memory(costs, latency, uniform=uniform))}"
    )


class _Table:
    """Costs as plain numbers by unit and size, and how they extend a choice by one unit.

    - timed: False counts no seconds, where only memory matters.
    """

    def __init__(self, costs: Costs, *, timed: bool = True) -> None:
        seconds, copied = costs.typical()
        self.seconds = [dict(zip(costs.batches, row, strict=True)) for row in (seconds * timed).tolist()]
        self.copied: list[float] = (copied * timed).tolist()
        self.peaks = [dict(zip(costs.batches, row, strict=True)) for row in costs.peak_nbytes.tolist()]
        self.items: list[int] = costs.item_nbytes.tolist()

    def extended(self, choice: _Partial, unit: int, size: int) -> _Partial:
        """The choice with a size for the next unit."""
        before = choice.batches[-1] if choice.batches else 1  # images come one by one
        between, item = held(before, size), self.items[unit]
        copied = self.copied[unit] if copies(before, size) else 0.0
        return _Partial(
            (*choice.batches, size),
            choice.seconds + self.seconds[unit][size] / size + copied,
            choice.after + between.after * item,
            max(
                choice.peak + between.before * item,
                choice.after + copying(before, size) * item,
                choice.after + between.at * item + self.peaks[unit][size],
            ),
        )


_START = _Partial((), 0.0, 0, 0)


def _choices(
    costs: Costs,
    sizes: Sequence[int],
    memory: int | None,
    seconds: float = math.inf,
    *,
    timed: bool = True,
    uniform: bool = False,
) -> Iterator[_Partial]:
    """All choices of these sizes that may be the best by memory or seconds, within caps of both.

    - memory: bytes; None: memory does not matter, and only the fastest choices are kept.
    """
    table = _Table(costs, timed=timed)
    room = math.inf if memory is None else memory - costs.held_nbytes
    if uniform:
        for size in sizes:
            choice = _START
            for unit in range(len(costs.units)):
                choice = table.extended(choice, unit, size)
            if choice.peak <= room and choice.seconds <= seconds:
                yield choice
        return
    kept = [_START]
    for unit in range(len(costs.units)):
        following: list[_Partial] = []
        for size in sizes:
            longer = (table.extended(choice, unit, size) for choice in kept)
            fitting = [own for own in longer if own.peak <= room and own.seconds <= seconds]
            if memory is None and fitting:
                fitting = [min(fitting, key=lambda own: (own.seconds, own.peak))]
            following += _undominated(fitting)
        kept = following
    yield from kept


def _undominated(choices: Iterable[_Partial]) -> list[_Partial]:
    """Those of one last size for which no other is as good in seconds, peak and after."""
    kept: list[_Partial] = []
    # Among those kept so far, which are no slower: peaks ascending, and `after` falling.
    peaks, afters = list[int](), list[int]()
    for choice in sorted(choices, key=lambda own: (own.seconds, own.peak, own.after)):
        place = bisect.bisect_right(peaks, choice.peak)
        if place and afters[place - 1] <= choice.after:
            continue
        kept.append(choice)
        end = place
        while end < len(afters) and afters[end] >= choice.after:
            end += 1
        peaks[place:end], afters[place:end] = [choice.peak], [choice.after]
    return kept


def _periods(costs: Costs, latency: float | None) -> Iterator[tuple[int, tuple[int, ...]]]:
    """(period, the sizes that divide it) for all periods that may answer in time; all sizes where nothing asks."""
    if latency is None:
        yield 0, costs.batches
        return
    longest = latency / _fastest(costs)
    periods = {1} if longest >= 1 else set[int]()
    for size in costs.batches:
        periods |= {own for period in periods if (own := math.lcm(period, size)) <= longest}
    for period in sorted(periods):
        if sizes := tuple(size for size in costs.batches if period % size == 0):
            yield period, sizes


def _fastest(costs: Costs) -> float:
    """Seconds an image that no choice can fall below."""
    seconds, _ = costs.typical()
    return float((seconds / costs.batches).min(axis=1).sum())


def _least_memory(costs: Costs, latency: float | None, *, uniform: bool) -> int | None:
    everything = 2**62  # a cap, so that memory is looked at
    peaks = [
        choice.peak
        for period, sizes in _periods(costs, latency)
        for choice in _choices(
            costs,
            sizes,
            everything,
            math.inf if latency is None else latency / period,
            timed=latency is not None,
            uniform=uniform,
        )
    ]
    return min(peaks) + costs.held_nbytes if peaks else None


def _least_latency(costs: Costs, memory: int | None, *, uniform: bool) -> float | None:
    """By ever longer latencies until one answers: of the periods that this allows, the least."""
    ceiling = _fastest(costs)
    slowest = math.lcm(*costs.batches) * float(costs.typical()[0].sum() + costs.typical()[1].sum())
    while True:
        found = [
            period * choice.seconds
            for period, sizes in _periods(costs, ceiling)
            for choice in _choices(costs, sizes, memory, ceiling / period, uniform=uniform)
        ]
        if found:
            return min(found)
        if ceiling > slowest:
            return None
        ceiling *= 2


def _mb(nbytes: int | None) -> str:
    return "none" if nbytes is None else f"{_up(nbytes / 1e6):g} MB"


def _s(seconds: float | None) -> str:
    return "none" if seconds is None else f"{_up(seconds):g} s"


def _up(value: float) -> float:
    """Four digits, rounded up: a budget of what is said has room for the value."""
    step = 10.0 ** (math.floor(math.log10(value)) - 3)
    return math.ceil(value / step) * step
