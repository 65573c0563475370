"""The mask baselines: what each paper says happens at a change, and resuming to the same bits."""

from __future__ import annotations

import copy
import functools
import math
from pathlib import Path

import pytest
import torch
from tests.autosparse.problems import SETTINGS, Killed, Shapes, killed_at

from leandnn.autosparse import allocation
from leandnn.autosparse.accounting import Accounting
from leandnn.autosparse.flops import StepDensities, rigl
from leandnn.autosparse.masks import Masked, Mest, RigL, top
from leandnn.autosparse.topk import TopK
from leandnn.train.loop import train
from leandnn.train.task import Hook

EXCLUDE = ("0", "12")
IMAGE = (3, 8, 8)
UNIFORM = functools.partial(allocation.uniform, density=0.2)
SIZES = {"3": 16 * 8 * 9, "7": 16 * 16 * 9}
MAKE = {
    "static": lambda: Masked(UNIFORM, seed=1, exclude=EXCLUDE),
    "rigl": lambda: RigL(UNIFORM, seed=1, exclude=EXCLUDE, interval=10),
    "mest": lambda: Mest(UNIFORM, seed=1, exclude=EXCLUDE, rounds=12),
    "topk": lambda: TopK(0.2, exclude=EXCLUDE),
    "topkast": lambda: TopK(0.2, explored=0.5, schedule="constant", exclude=EXCLUDE, topkast_decay=1e-4),
}


class Watch(Hook):
    """Calls `look(progress, before)` around the method's part of every update."""

    def __init__(self, before=lambda p: None, after=lambda p: None) -> None:
        self._before, self._after = before, after

    def before_update(self, progress: float) -> None:
        self._before(progress)

    def after_update(self, progress: float) -> None:
        self._after(progress)


@pytest.mark.parametrize("name", MAKE)
def test_the_sparsity_is_the_one_asked_for_and_the_net_learns(name: str):
    method = MAKE[name]()
    result = train(Shapes(), SETTINGS, (method, Accounting(method, batch_size=16, input_shape=IMAGE)))
    assert result.metrics["sparsity"] == pytest.approx(0.8, abs=0.001)
    for layer, size in SIZES.items():
        weight = result.model.get_submodule(layer).weight
        assert int((weight != 0).sum()) <= round(0.2 * size)
        assert result.metrics[f"density:{layer}"] == pytest.approx(0.2, abs=0.001)
    assert result.metrics["test_accuracy"] > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("kill_at", [11, 64])
def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path, name: str, kill_at: int):
    def hooks() -> tuple[Hook, ...]:
        method = MAKE[name]()
        return method, Accounting(method, batch_size=16, input_shape=IMAGE)

    unbroken = train(Shapes(), SETTINGS, hooks())
    path = tmp_path / "run.ckpt"
    with pytest.raises(Killed):
        train(
            Shapes(),
            SETTINGS,
            hooks(),
            checkpoint_path=path,
            checkpoint_every_s=-1.0,
            progress=killed_at(kill_at),
        )
    torch.manual_seed(1)
    resumed = train(Shapes(), SETTINGS, hooks(), checkpoint_path=path)
    assert resumed.weights_sha256 == unbroken.weights_sha256
    assert resumed.history == unbroken.history


def test_masks_are_functions_of_the_seed_alone():
    def masks(seed: int) -> dict[str, torch.Tensor]:
        method = Masked(UNIFORM, seed=seed, exclude=EXCLUDE)
        torch.manual_seed(99)
        model = Shapes().build()
        method.attach(model, torch.optim.SGD(model.parameters(), lr=0.1))
        return method.masks

    first, again, other = masks(2**31 - 1), masks(2**31 - 1), masks(3)
    assert all(torch.equal(first[n], again[n]) for n in first)
    assert not torch.equal(first["3"], other["3"])
    assert not torch.equal(first["3"].flatten()[:1152], first["7"].flatten()[:1152])


def test_nothing_trains_outside_a_static_mask():
    method = MAKE["static"]()
    model = train(Shapes(), SETTINGS, (method,)).model
    for layer, mask in method.masks.items():
        weight = model.get_submodule(layer).weight
        assert (weight[~mask] == 0).all()
        assert (weight[mask] != 0).all()


def test_rigl_drops_the_smallest_and_grows_the_largest_gradients():
    method = RigL(UNIFORM, seed=1, exclude=EXCLUDE, interval=10, drop=0.3)
    seen: dict[str, object] = {}

    def before(progress: float) -> None:
        if method.updates == 20:
            seen["masks"] = {n: m.clone() for n, m in method.masks.items()}
            seen["weights"] = {n: w.detach().clone() for n, w in method.weights.items()}
            seen["gradients"] = {n: w.grad.clone() for n, w in method.weights.items()}
            seen["others"] = copy.deepcopy([p.detach() for p in others()])
            seen["share"] = method.share(progress)

    def after(progress: float) -> None:
        if method.updates == 21:
            seen["moved"] = [not torch.equal(a, b) for a, b in zip(seen["others"], others(), strict=True)]
            seen["after"] = {n: w.detach().clone() for n, w in method.weights.items()}
            seen["now"] = {n: m.clone() for n, m in method.masks.items()}
            seen["momentum"] = {
                n: method.optimizer.state[w]["momentum_buffer"].clone() for n, w in method.weights.items()
            }

    def others() -> list[torch.Tensor]:
        own = {id(w) for w in method.weights.values()}
        return [p for g in method.optimizer.param_groups for p in g["params"] if id(p) not in own]

    train(Shapes(), SETTINGS, (Watch(before), method, Watch(after=after)))
    assert not any(seen["moved"]), "a change takes the place of an update"
    assert seen["share"] == pytest.approx(0.15 * (1 + math.cos(math.pi * (20 / 120) / 0.75)))
    for name, mask in seen["masks"].items():
        now, weight, gradient = seen["now"][name], seen["weights"][name], seen["gradients"][name]
        count, dropped = int(mask.sum()), int(seen["share"] * int(mask.sum()))
        assert int(now.sum()) == count
        held = weight.abs()[mask].sort(descending=True).values[: count - dropped]
        assert weight.abs()[mask & ~now].max() <= held.min()
        grown = now & ~mask
        assert 0 < int(grown.sum()) <= dropped
        assert gradient.abs()[grown].min() >= gradient.abs()[~now & ~mask].max()
        assert (seen["after"][name][grown] == 0).all()
        assert (seen["momentum"][name][grown] == 0).all()
        kept = now & mask
        assert torch.equal(seen["after"][name][kept], weight[kept])


def test_rigl_keeps_its_last_masks_and_costs_what_it_says():
    method = RigL(UNIFORM, seed=1, exclude=EXCLUDE, interval=10, until=0.5)
    record, changes, masks = Accounting(method, batch_size=16, input_shape=IMAGE), [], {}

    def after(progress: float) -> None:
        if any(not torch.equal(masks[n], m) for n, m in method.masks.items() if n in masks):
            changes.append(round(progress * 120))
        masks.update({n: m.clone() for n, m in method.masks.items()})

    result = train(Shapes(), SETTINGS, (method, record, Watch(after=after)))
    assert changes == [10, 20, 30, 40, 50], "the change at the end of its time drops nothing"
    f_s, f_d = record.ledger.forward(method.densities()), record.ledger.forward_macs
    assert result.metrics["train_macs"] == round(16 * (114 * 3 * f_s + 6 * (2 * f_s + f_d)))
    published = 120 * 16 * rigl(f_s, f_d, 19)  # 6 of 120 is 1 of 20
    assert result.metrics["train_macs"] == pytest.approx(published)


def test_mest_stays_in_its_soft_bound_and_ends_at_its_density():
    method = Mest(UNIFORM, seed=1, exclude=EXCLUDE, rounds=12, extra=((0.0, 0.5), (0.5, 0.25), (0.75, 0.0)))
    counts, masks, grown = {}, {}, []

    def before(progress: float) -> None:
        masks.update({n: m.clone() for n, m in method.masks.items()})

    def after(progress: float) -> None:
        step = round(progress * 120)
        counts[step] = {n: int(m.sum()) for n, m in method.masks.items()}
        for n, mask in method.masks.items():
            if not torch.equal(mask, masks[n]):
                cut = masks[n] & ~mask
                if step > 0 and int(cut.sum()):
                    grown.append(step)
                    held = last[n].abs()[masks[n]].topk(round(0.2 * SIZES[n])).values
                    assert last[n].abs()[cut].max() <= held.min()
        last.update({n: w.detach().clone() for n, w in method.weights.items()})

    last: dict[str, torch.Tensor] = {}
    train(Shapes(), SETTINGS, (Watch(before), method, Watch(after=after)))
    for name, size in SIZES.items():
        count = round(0.2 * size)
        assert {counts[s][name] for s in range(60)} == {count + round(0.5 * count)}
        assert {counts[s][name] for s in range(60, 90)} == {count + round(0.25 * count)}
        assert {counts[s][name] for s in range(90, 120)} == {count}
    assert set(grown) == set(range(10, 91, 10)), "one change a round, none once nothing is added"


def test_mest_counts_the_weights_of_its_soft_bound():
    method = MAKE["mest"]()
    record = Accounting(method, batch_size=16, input_shape=IMAGE)
    metrics = train(Shapes(), SETTINGS, (method, record)).metrics
    final = record.ledger.forward(method.densities())
    assert metrics["inference_macs"] == round(final)
    assert 1.1 < metrics["train_macs"] / (120 * 16 * 3 * final) < 1.5


def test_topk_uses_the_largest_and_passes_alpha_times_the_rest():
    method = TopK(0.2, exclude=EXCLUDE, alpha=0.5, schedule="constant", zero_from=None)
    model = Shapes().build()
    method.attach(model, torch.optim.SGD(model.parameters(), lr=0.1))
    layer = model[7]
    original = layer.parametrizations.weight.original
    mask = method.gates["7"].mask
    assert int(mask.sum()) == round(0.2 * SIZES["7"])
    assert original.abs()[mask].min() >= original.abs()[~mask].max()
    assert torch.equal(layer.weight, original * mask)
    upstream = torch.randn_like(original)
    (gradient,) = torch.autograd.grad((layer.weight * upstream).sum(), (original,))
    assert torch.equal(gradient, torch.where(mask, upstream, 0.5 * upstream))


def test_topkast_explores_set_b_only_and_decays_as_published():
    decay = 0.1
    method = TopK(0.2, explored=0.5, schedule="constant", exclude=EXCLUDE, topkast_decay=decay)
    model = Shapes().build()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, weight_decay=decay)
    method.attach(model, optimizer)
    gate, original = method.gates["7"], method._weight("7")
    a, b = gate.mask, gate.reached
    assert int(b.sum()) == round(0.5 * SIZES["7"])
    assert not (a & ~b).any()
    before = original.detach().clone()
    (model[7].weight.sum()).backward()
    assert (original.grad == b.float()).all()
    original.grad.zero_()
    method.before_update(0.0)
    optimizer.step()
    moved = (before - original.detach()) / decay
    assert torch.allclose(moved[a], before[a], atol=1e-5)
    assert torch.allclose(moved[b & ~a], before[b & ~a] / 0.2, atol=1e-5)
    assert moved[~b].abs().max() < 1e-6


def test_topk_costs_a_sparse_forward_and_the_gradients_of_set_b():
    method = TopK(0.2, explored=0.5, schedule="constant", zero_from=None, exclude=EXCLUDE)
    model = Shapes().build()
    method.attach(model, torch.optim.SGD(model.parameters(), lr=0.1))
    method.after_update(0.0)
    assert method.step() == StepDensities(method.densities(), {"3": 0.5, "7": 0.5})


def test_allocations():
    shapes = {"a": (16, 8, 3, 3), "b": (64, 16, 3, 3), "c": (10, 64)}
    assert allocation.uniform(shapes, 0.3) == {"a": 0.3, "b": 0.3, "c": 0.3}
    numbers = {name: math.prod(shape) for name, shape in shapes.items()}
    for density in (0.05, 0.2, 0.5, 0.9):
        found = allocation.erk(shapes, density)
        assert sum(found[n] * numbers[n] for n in shapes) == pytest.approx(density * sum(numbers.values()))
        assert all(0 < share <= 1 for share in found.values())
    thin = allocation.erk(shapes, 0.05)
    raw = {name: sum(shape) / numbers[name] for name, shape in shapes.items()}
    assert thin["a"] / thin["b"] == pytest.approx(raw["a"] / raw["b"])
    assert allocation.erk(shapes, 0.5)["c"] == 1.0, "a share above 1 is cut, the rest divided anew"


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: allocation.erk({"a": (2, 2)}, 0.0), "density is 0.0"),
        (lambda: allocation.uniform({"a": (2, 2)}, float("nan")), "density is nan"),
        (lambda: RigL(UNIFORM, seed=0, drop=1.0), "drop 1.0"),
        (lambda: RigL(UNIFORM, seed=0, interval=0), "interval is 0"),
        (lambda: Mest(UNIFORM, seed=0, rounds=0), "rounds is 0"),
        (lambda: Mest(UNIFORM, seed=0, extra=((0.5, 0.1),)), "in order from 0"),
        (lambda: TopK(0.5, explored=0.4), "explored 0.4"),
        (lambda: TopK(0.5, schedule="x"), "'x' is unknown"),
    ],
)
def test_nonsense_is_refused(make, match: str):
    with pytest.raises(ValueError, match=match):
        make()


def test_top_keeps_exactly_so_many():
    scores = torch.tensor([[1.0, 3.0], [3.0, 0.0]])
    assert torch.equal(top(scores, 2), torch.tensor([[False, True], [True, False]]))
    assert int(top(scores, 0).sum()) == 0
    assert int(top(torch.zeros(5, 5), 7).sum()) == 7
