"""The bench of the training loop: its bare steps are the loop's, and its shares are of what they say."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from leandnn.bench import timing, train_loop
from leandnn.dense import recipe as fast_cifar
from leandnn.errors import LeandnnError
from leandnn.studies.comparison import Trial
from leandnn.train.hooks import Lookahead


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = dataclasses.replace(fast_cifar.RECIPES["proxy"], widths=(8, 8, 8), batch=32, lookahead=2)
    monkeypatch.setitem(fast_cifar.RECIPES, "proxy", tiny)
    monkeypatch.setattr(train_loop, "EXAMPLES", 256)
    monkeypatch.setattr(train_loop, "EVALUATED", 50)


@pytest.mark.filterwarnings("ignore:.* has no BF16 products")
@pytest.mark.parametrize("precision", train_loop.PRECISIONS)
def test_bare_steps_end_with_the_bits_of_the_loops(precision: str):
    train_loop.check("proxy", precision)


def test_steps_that_compute_something_else_are_not_compared(monkeypatch: pytest.MonkeyPatch):
    class Other(train_loop.Bare):
        def __init__(self, trial: Trial) -> None:
            super().__init__(trial)
            self.lookahead = Lookahead(every=5)
            self.lookahead.attach(self.model, self.optimizer)
            self.done = 7

    monkeypatch.setattr(train_loop, "Bare", Other)
    with pytest.raises(
        LeandnnError, match="proxy in fp32: the bare steps do not end with the bits of the loop's"
    ):
        train_loop.check("proxy", "fp32")


@pytest.mark.filterwarnings("ignore:.* has no BF16 products")
def test_rows_are_of_a_batch_and_of_the_evaluated_images():
    rows = train_loop._rows("proxy", "native-bf16", 2)
    assert {row["impl"]: row["work"] for row in rows} == {
        "leandnn": 32, "torch, bare": 32, "augmentation": 32, "evaluation": 50,
    }  # fmt: skip
    assert torch.get_num_threads() == 1


def test_the_summarys_shares_by_hand(monkeypatch: pytest.MonkeyPatch):
    chosen = dataclasses.replace(fast_cifar.RECIPES["proxy"], epochs=8, evaluate_every=3)
    monkeypatch.setitem(fast_cifar.RECIPES, "proxy", chosen)
    assert train_loop.evaluations("proxy") == 3  # after 3, 6 and 8 epochs
    case = {"net": "proxy", "precision": "fp32", "batch": 100}
    seconds = {"leandnn": 1.02, "torch, bare": 1.0, "augmentation": 0.0102, "evaluation": 0.51}
    rows = [
        timing.row("train-loop", case, name, 1, [s] * 4, 500 if name == "evaluation" else 100, "images")
        for name, s in seconds.items()
    ]
    said = train_loop.summary(rows)
    assert "98 images/s" in said and "loop / bare steps = 1.020" in said and "augmentation = 1.00% of" in said
    # 3 evaluations of 10,000 images at 500 in 0.51 s beside 8 epochs of 50,000 at 100 in 1.02 s.
    assert f"evaluation = {30.6 / (30.6 + 4080):.2%} of a run" in said
