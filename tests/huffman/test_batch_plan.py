"""Plans against brute force, and what they say of memory and latency against a run."""

from __future__ import annotations

import itertools
import json
import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from leandnn.errors import LeandnnError
from leandnn.huffman import BatchPlan, Costs, buffers, execute, plan, score, search
from leandnn.huffman.buffers import Buffer
from leandnn.huffman.chain import Unit


def made_up(seed: int, units: int, batches: tuple[int, ...], repeats: int = 1) -> Costs:
    """Costs that favour larger batches, noisily, by sizes that nothing orders."""
    random = np.random.default_rng(seed)
    sizes = np.array(batches)
    overhead, own = random.uniform(0, 8, (units, 1)), random.uniform(0.5, 2, (units, 1))
    return Costs(
        units=tuple(f"unit{number}" for number in range(units)),
        batches=batches,
        seconds=(overhead + own * sizes) * random.uniform(0.7, 1.3, (repeats, units, len(batches))),
        copy_seconds=random.uniform(0, 0.2, (repeats, units)),
        peak_nbytes=(
            random.integers(1, 40, (units, 1)) * sizes + random.integers(0, 60, (units, len(batches)))
        ),
        item_nbytes=random.integers(1, 40, units),
        held_nbytes=int(random.integers(0, 100)),
    )


def brute_force(costs: Costs, memory: float, latency: float) -> search.Score | None:
    choices = itertools.product(costs.batches, repeat=len(costs.units))
    scores = [search.evaluate(choice, costs) for choice in choices]
    fitting = [own for own in scores if own.memory_nbytes <= memory and own.latency <= latency]
    return min(fitting, key=lambda own: own.seconds_per_image, default=None)


grids = st.sampled_from([(1, 2, 4, 8), (1, 2, 3, 4, 6), (2, 3, 5), (4,), (1, 6, 10, 15), (3, 4, 8, 9)])


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), grids, st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_plans_are_as_good_as_the_best_of_all_choices(
    seed: int, units: int, grid: tuple[int, ...], room: float, patience: float, hurried: bool
):
    costs = made_up(seed, units, grid)
    scores = [search.evaluate(choice, costs) for choice in itertools.product(grid, repeat=units)]
    budgets = sorted(own.memory_nbytes for own in scores), sorted(own.latency for own in scores)
    memory = budgets[0][int(room * (len(scores) - 1))]
    latency = budgets[1][int(patience * (len(scores) - 1))] if hurried else None
    expected = brute_force(costs, memory, math.inf if latency is None else latency)
    if expected is None:
        with pytest.raises(LeandnnError, match="the least"):
            plan(None, costs=costs, memory=memory, latency=latency)
        return
    found = plan(None, costs=costs, memory=memory, latency=latency)
    assert found.seconds_per_image == expected.seconds_per_image
    assert found.memory_nbytes <= memory and (latency is None or found.latency <= latency)
    unlimited = plan(None, costs=costs, latency=latency)
    assert unlimited.seconds_per_image <= found.seconds_per_image


@given(st.integers(0, 10**6))
@settings(max_examples=20)
def test_the_least_that_a_refusal_names_is_just_enough(seed: int):
    costs = made_up(seed, 3, (1, 2, 3, 4, 6))
    scores = [search.evaluate(choice, costs) for choice in itertools.product(costs.batches, repeat=3)]
    memory, latency = min(own.memory_nbytes for own in scores), min(own.latency for own in scores)
    with pytest.raises(LeandnnError) as refused:
        plan(None, costs=costs, memory=1)
    said = float(re.findall(r"would do is ([0-9.e-]+) MB", str(refused.value))[0])
    assert memory <= round(said * 1e6, 6) <= memory * 1.001
    assert plan(None, costs=costs, memory=memory).memory_nbytes == memory
    with pytest.raises(LeandnnError) as refused:
        plan(None, costs=costs, latency=latency / 1.01)
    said = float(re.findall(r"would do is ([0-9.e-]+) s", str(refused.value))[0])
    assert latency <= said <= latency * 1.001
    assert plan(None, costs=costs, latency=said).latency == pytest.approx(latency)


def test_budgets_impossible_together_are_refused_with_each_need():
    # One by one is lean and slow; both at once need memory.
    costs = Costs(
        units=("a", "b"),
        batches=(1, 4),
        seconds=np.array([[[5.0, 5.0], [5.0, 5.0]]]),
        copy_seconds=np.zeros((1, 2)),
        peak_nbytes=np.array([[10, 80], [10, 80]]),
        item_nbytes=np.array([1, 1]),
        held_nbytes=0,
    )
    slow, large = plan(None, costs=costs, memory=20), plan(None, costs=costs)
    assert (slow.batches, large.batches) == ((1, 1), (4, 4))
    costs.seconds[0, 0, 0] = 50.0  # one by one is now too slow for the latency
    with pytest.raises(LeandnnError) as refused:
        plan(None, costs=costs, memory=20, latency=12.0)
    assert re.fullmatch(
        r"no batch sizes fit into 2e-05 MB and answer within 12 s: in that memory the least latency is 55 s, "
        r"at that latency the least memory 8\.4e-05 MB",
        str(refused.value),
    ), refused.value


def test_a_uniform_plan_is_the_best_of_its_kind_and_no_better():
    for seed in range(10):
        costs = made_up(seed, 4, (1, 2, 4, 8))
        memory = search.evaluate((4, 4, 4, 4), costs).memory_nbytes
        found = plan(None, costs=costs, memory=memory, uniform=True)
        scores = [search.evaluate((size,) * 4, costs) for size in costs.batches]
        fitting = [own.seconds_per_image for own in scores if own.memory_nbytes <= memory]
        assert len(set(found.batches)) == 1 and found.seconds_per_image == min(fitting)
        assert plan(None, costs=costs, memory=memory).seconds_per_image <= found.seconds_per_image


def test_a_plan_is_scored_on_repeats_that_did_not_choose_it():
    costs = made_up(3, 3, (1, 2, 4), repeats=5)
    even, odd = costs.split()
    np.testing.assert_array_equal(even.seconds, costs.seconds[[0, 2, 4]])
    np.testing.assert_array_equal(odd.seconds, costs.seconds[[1, 3]])
    chosen = plan(None, costs=even, memory=10**6)
    held_out = score(chosen, odd)
    assert held_out.batches == chosen.batches and held_out.memory_nbytes == chosen.memory_nbytes
    seconds, copied = np.median(odd.seconds, axis=0), np.median(odd.copy_seconds, axis=0)
    sizes = dict(zip(odd.batches, range(3), strict=True))
    expected, before = 0.0, 1
    for row, size in enumerate(chosen.batches):
        expected += seconds[row, sizes[size]] / size + (copied[row] if before % size else 0.0)
        before = size
    assert held_out.seconds_per_image == pytest.approx(expected)
    assert held_out.latency == pytest.approx(math.lcm(*chosen.batches) * expected)
    with pytest.raises(LeandnnError, match="the costs for"):
        score(chosen, made_up(0, 2, (1, 2, 4)))
    with pytest.raises(ValueError, match="was not measured"):
        score(chosen, made_up(0, 3, (64,)))


def test_ten_sizes_and_eight_units_are_searched_in_seconds():
    costs = made_up(5, 8, (1, 2, 4, 8, 12, 16, 24, 32, 48, 64))
    memory = search.evaluate((8,) * 8, costs).memory_nbytes
    found = plan(None, costs=costs, memory=memory)
    assert found.memory_nbytes <= memory
    # No change of a single size improves it.
    for unit, size in itertools.product(range(8), costs.batches):
        other = search.evaluate((*found.batches[:unit], size, *found.batches[unit + 1 :]), costs)
        assert other.memory_nbytes > memory or other.seconds_per_image >= found.seconds_per_image


# Memory: what the schedule really holds whenever a unit runs, against what a plan says.


def run_counted(batches: tuple[int, ...], items: list[int], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Most bytes that lie in buffers and in the unit's input whenever each unit runs, by the real schedule."""
    between: list[Buffer] = []

    class Counted(Buffer):
        def __init__(self, p: int, c: int) -> None:
            super().__init__(p, c)
            between.append(self)

    monkeypatch.setattr(execute, "Buffer", Counted)
    most = [0] * len(batches)

    def unit(number: int) -> Unit:
        def call(x: Tensor) -> Tensor:
            tensors = [x, *(own._rest for own in between if own._rest is not None)]
            storages = {own.untyped_storage().data_ptr(): own.untyped_storage().nbytes() for own in tensors}
            # Of a buffer that gathers results those pages count that were written.
            gathered = sum(4 * own._filled * size for own, size in zip(between, items, strict=True))
            most[number] = max(most[number], sum(storages.values()) + gathered)
            return torch.zeros(len(x), (items[number + 1] if number + 1 < len(items) else 1))

        return Unit(f"unit{number}", call)

    count = 3 * math.lcm(*batches)
    chain = [unit(number) for number in range(len(batches))]
    assert len(list(execute.run(chain, batches, (torch.zeros(items[0]) for _ in range(count))))) == count
    return most


@pytest.mark.parametrize(
    "batches",
    [
        (4, 4, 4),
        (1, 1, 1),
        (1, 2, 8),
        (8, 4, 1),
        (2, 8, 2),
        (8, 2, 8),
        (4, 6, 9),
        (6, 4, 4),
        (3, 2, 5),
        (1, 4, 4),
    ],
)
def test_what_a_plan_holds_is_what_the_schedule_holds(
    batches: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
):
    items = [7, 3, 5]  # floats of an item of each unit's input
    counted = run_counted(batches, items, monkeypatch)
    monotone = list(batches) == sorted(batches) or list(batches) == sorted(batches, reverse=True)
    divides = all(a % b == 0 or b % a == 0 for a, b in itertools.pairwise(batches))
    for unit, most in enumerate(counted):
        before = (1, *batches)
        between = [buffers.held(a, b) for a, b in itertools.pairwise(before)]
        said = between[unit].at * items[unit]
        said += sum(own.after * items[number] for number, own in enumerate(between[:unit]))
        said += sum(own.before * items[number] for number, own in enumerate(between) if number > unit)
        assert most <= 4 * said
        if monotone and divides:
            assert most == 4 * said
    # evaluate says the most of all units, for units that need nothing themselves.
    sizes = tuple(sorted(set(batches)))
    costs = Costs(
        units=("a", "b", "c"),
        batches=sizes,
        seconds=np.ones((1, 3, len(sizes))),
        copy_seconds=np.zeros((1, 3)),
        peak_nbytes=np.zeros((3, len(sizes)), np.int64),
        item_nbytes=np.array([4 * size for size in items]),
        held_nbytes=0,
    )
    said = search.evaluate(batches, costs).memory_nbytes
    copied = [
        4 * size * buffers.copying(a, b)
        for size, (a, b) in zip(items, itertools.pairwise((1, *batches)), strict=True)
    ]
    assert max(counted) <= said
    if monotone and divides:
        assert said == max(*counted, *copied)


def test_no_image_waits_longer_than_a_plan_says():
    for batches in [(1, 1, 1), (2, 4, 8), (8, 4, 2), (2, 8, 2), (8, 2, 8), (4, 6, 9)]:
        seconds = [3.0, 2.0, 5.0]
        clock, entered, waited = 0.0, list[float](), list[float]()

        def unit(number: int, entered: list[float] = entered, seconds: list[float] = seconds) -> Unit:
            def call(x: Tensor) -> Tensor:
                nonlocal clock
                if number == 0:
                    entered.extend([clock] * len(x))
                clock += seconds[number]
                return x

            return Unit(str(number), call)

        period = math.lcm(*batches)
        results = execute.run([unit(n) for n in range(3)], batches, torch.zeros(3 * period, 1))
        waited = [clock - entered[number] for number, _ in enumerate(results)]
        said = period * sum(own / size for own, size in zip(seconds, batches, strict=True))
        assert max(waited) <= said + 1e-9, batches
        if list(batches) in (sorted(batches), sorted(batches, reverse=True)) and period == max(batches):
            assert max(waited) == pytest.approx(said)


def test_arguments_out_of_range_are_refused():
    costs = made_up(0, 2, (1, 2))
    for arguments, message in (
        ({"memory": 0}, "memory is 0 bytes, expected more than 0"),
        ({"latency": 0.0}, "latency is 0.0 s, expected more than 0"),
        ({"batches": (1, 3)}, "batch size 3 was not measured"),
    ):
        with pytest.raises(ValueError, match=message):
            plan(None, costs=costs, **arguments)
    with pytest.raises(ValueError, match="model and costs are None"):
        plan(None)
    with pytest.raises(ValueError, match="expected at least 2 to split"):
        costs.split()


def test_plans_survive_json():
    found = plan(None, costs=made_up(1, 3, (1, 2, 4), repeats=2))
    assert BatchPlan.from_json(json.loads(json.dumps(found.to_json()))) == found
    for broken in (
        {},
        {**found.to_json(), "batches": [1, 2]},
        {**found.to_json(), "batches": [1, 2, "4"]},
        [],
    ):
        with pytest.raises(LeandnnError, match="the file holds no plan"):
            BatchPlan.from_json(broken)
