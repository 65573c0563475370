"""A run as a value: what is in its key, and what is refused as one."""

from __future__ import annotations

import dataclasses
import json

import pytest

from leandnn.errors import LeandnnError
from leandnn.params import Budget
from leandnn.studies import desk, outcome, proofs, registry, runs
from leandnn.studies.comparison import Scale

RUN = runs.Run("bf16-vision", "fp32", {"epochs": 1}, 3, behaviour="b", inputs={"cifar10": "c"}, torch="2.11")


def test_a_run_travels_as_json_with_its_key():
    again = runs.from_json(RUN.to_json())
    assert again == RUN and again.key == RUN.key
    assert (RUN.name, RUN.title) == ("fp32-s3", "bf16-vision/fp32-s3")
    assert RUN.state.name == f"fp32-s3-{RUN.key}.ckpt"


@pytest.mark.parametrize(
    "change",
    [
        {"study": "bf16-speech"}, {"arm": "bf16"}, {"budget": {"epochs": 2}}, {"seed": 4}, {"threads": 2},
        {"device": "cuda"}, {"behaviour": "x"}, {"inputs": {"cifar10": "d"}}, {"torch": "2.13"},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_everything_of_a_run_is_in_its_key(change: dict[str, object]):
    assert dataclasses.replace(RUN, **change).key != RUN.key


@pytest.mark.parametrize(
    "text", ["", "{", "3", "[]", "{}", json.dumps({**json.loads(RUN.to_json()), "more": 1})]
)
def test_what_is_no_run_is_one_sentence(text: str):
    with pytest.raises(
        LeandnnError, match=r"^that is no run \(.*\), expected arm, behaviour, budget"
    ) as caught:
        runs.from_json(text)
    assert "\n" not in str(caught.value)


def test_a_studys_runs_come_pair_by_pair():
    comparison = registry.find("bf16-vision")
    found = runs.of(
        comparison, Budget(1, 100, 10), (4, 2), threads=2, device="cpu",
        behaviours={"fp32": "f", "bf16": "b"}, inputs={"cifar10": "c"},
    )  # fmt: skip
    assert [run.name for run in found] == ["fp32-s4", "bf16-s4", "fp32-s2", "bf16-s2"]
    assert {(run.arm, run.behaviour, run.threads) for run in found} == {("fp32", "f", 2), ("bf16", "b", 2)}
    assert found[0].budget == {"epochs": 1, "train_examples": 100, "test_examples": 10}


class Made(Exception):
    """An arm was asked for its trial."""


def test_an_arm_is_made_from_the_runs_seed_threads_and_device():
    def arm(budget: Budget, scale: Scale):
        raise Made(budget, scale)

    run = dataclasses.replace(RUN, budget=dataclasses.asdict(Budget(1, 100, 10)), threads=2, device="cuda")
    with pytest.raises(Made) as made:
        outcome.train(run, dataclasses.replace(registry.find("bf16-vision"), arms={"fp32": arm}))
    assert made.value.args == (Budget(1, 100, 10), Scale(3, 2, "cuda"))


def test_a_record_is_a_runs_if_all_that_decides_it_is_equal(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(proofs, "classes", lambda: {"proved": RUN.behaviour})
    record = {"profile": "desk", "arm": RUN.arm, "seed": RUN.seed, **RUN.facts}
    for same in ({}, {"torch": "2.13"}, {"behaviour": "proved"}, {"metrics": {}}):
        assert desk._is_of({**record, **same}, RUN, "desk"), same
    others = {"profile": "paper", "arm": "bf16", "seed": 4, "budget": {"epochs": 2}, "threads": 2,
              "device": "cuda", "behaviour": "x", "inputs": {"cifar10": "d"}}  # fmt: skip
    for key, value in others.items():
        assert not desk._is_of({**record, key: value}, RUN, "desk"), key
    assert not desk._is_of({k: v for k, v in record.items() if k != "behaviour"}, RUN, "desk")


def test_a_missing_input_is_named_with_the_command_that_makes_it(moved_root):
    comparison = dataclasses.replace(registry.find("bf16-vision"), data=(), inputs=("runs/features/x",))
    with pytest.raises(
        LeandnnError, match="^runs/features/x is missing, which bf16-vision reads: run `dvc repro`$"
    ):
        runs.inputs(comparison)
    path = moved_root / "runs" / "features" / "x"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    assert list(runs.inputs(comparison)) == ["runs/features/x"]
