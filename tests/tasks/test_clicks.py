"""Click prediction as a task: its metrics are what they say, it learns, and it resumes to the same bits."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from leandnn.data import clicks
from leandnn.errors import LeandnnError
from leandnn.models.recommendation import DLRM, DeepAndCross
from leandnn.tasks.clicks import Prediction, auc, bounds, log_loss
from leandnn.train import checkpoint
from leandnn.train.loop import train
from leandnn.train.task import Settings


def task(
    build: type[DLRM] | type[DeepAndCross] = DLRM, rows: int = 6000, batch_size: int = 100
) -> Prediction:
    return Prediction(
        lambda: build(clicks.SIZES, width=4),
        clicks.synthetic("train", rows),
        clicks.synthetic("test", 4000),
        batch_size=batch_size,
        seed=0,
        device="cpu",
    )


SETTINGS = Settings(epochs=2, lr=5e-3, optimizer="adam", channels_last=False)


def test_auc_counts_pairs_in_order_and_ties_by_half():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 8, (60,), generator=generator).float()
    labels = torch.randint(0, 2, (60,), generator=generator)
    pairs = [(a, b) for a in scores[labels == 1] for b in scores[labels == 0]]
    expected = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs)
    assert auc(scores, labels) == pytest.approx(expected, abs=1e-12)
    assert auc(torch.tensor([0.0, 1.0]), torch.tensor([0, 1])) == 1.0
    with pytest.raises(LeandnnError, match="an AUC of 2 clicks and 0 other rows"):
        auc(torch.zeros(2), torch.ones(2))


def test_log_loss_in_nats():
    loss = log_loss(torch.tensor([0.0, math.log(3.0)]), torch.tensor([1.0, 0.0]))
    assert loss == pytest.approx((math.log(2) + math.log(4)) / 2, abs=1e-7)


def test_bounds_of_a_log():
    log = clicks.synthetic("test", 20_000)
    found = bounds(log)
    share = float(log.labels.float().mean())
    assert found["prior_log_loss"] == pytest.approx(
        -share * math.log(share) - (1 - share) * math.log(1 - share)
    )
    assert log.probabilities is not None
    p = log.probabilities.double()
    entropy = float(-(p * p.log() + (1 - p) * (1 - p).log()).mean())
    assert found["bayes_log_loss"] == pytest.approx(entropy, abs=0.01)  # these labels, not their expectation
    assert found["bayes_log_loss"] < found["prior_log_loss"] - 0.05
    assert 0.7 < found["bayes_auc"] < 0.9
    unknown = clicks.Clicks(log.integers, log.categories, log.labels, log.sizes)
    assert set(bounds(unknown)) == {"prior_log_loss"}
    with pytest.raises(LeandnnError, match="the share of clicks among 4 rows is 0.0"):
        bounds(clicks.Clicks(log.integers[:4], log.categories[:4], torch.zeros(4), log.sizes))


@pytest.mark.parametrize("build", [DLRM, DeepAndCross])
def test_both_nets_learn_something(build: type[DLRM] | type[DeepAndCross]):
    result = train(task(build), SETTINGS)
    assert result.metrics["test_gap"] < 0.95
    assert result.metrics["test_auc"] > 0.58
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]


def test_a_killed_run_ends_with_the_same_bits(tmp_path: Path):
    class Killed(Exception):
        pass

    def kill(done: int, total: int, text: str) -> None:
        if done == 45:
            raise Killed

    small = task(rows=3000)
    whole = train(small, SETTINGS)
    path = tmp_path / "state.ckpt"
    with pytest.raises(Killed):
        train(small, SETTINGS, checkpoint_path=path, checkpoint_every_s=0.0, progress=kill)
    resumed = train(small, SETTINGS, checkpoint_path=path)
    assert resumed.weights_sha256 == whole.weights_sha256 == checkpoint.weights_sha256(resumed.model)
    assert resumed.metrics == whole.metrics


def test_the_gap_is_absent_where_the_truth_is_unknown():
    test = clicks.synthetic("test", 500)
    test = clicks.Clicks(test.integers, test.categories, test.labels, test.sizes)
    task = Prediction(
        lambda: DLRM(test.sizes), clicks.synthetic("train", 500), test, batch_size=50, seed=0, device="cpu"
    )
    with torch.no_grad():
        assert set(task.evaluate(task.build())) == {"test_log_loss", "test_auc"}
    assert task.steps_per_epoch() == 10


def test_logs_with_other_tables_are_refused():
    log = clicks.synthetic("train", 500)
    other = clicks.Clicks(log.integers, log.categories, log.labels, (2,) * 26)
    with pytest.raises(LeandnnError, match="test tables"):
        Prediction(lambda: DLRM(log.sizes), log, other, batch_size=50, seed=0, device="cpu")


class Constant(nn.Module):
    """The same log-odds for every row."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, dense: Tensor, entries: Tensor) -> Tensor:
        return self.value.expand(len(dense))


def test_a_failed_run_is_recorded_as_the_share_of_clicks():
    log = clicks.synthetic("train", 500)
    test = clicks.synthetic("test", 4000)

    def constant(value: float) -> Prediction:
        return Prediction(lambda: Constant(value), log, test, batch_size=50, seed=0, device="cpu")

    result = train(constant(math.nan), dataclasses.replace(SETTINGS, on_failure="record"))
    assert result.failure is not None
    assert result.metrics["test_auc"] == 0.5
    assert result.metrics["test_gap"] == 1.0
    share = float(test.labels.double().mean())
    knowing = constant(math.log(share / (1 - share)))
    with torch.no_grad():
        assert knowing.evaluate(knowing.build()) == pytest.approx(result.metrics, abs=1e-6)


def test_an_empty_batch_is_refused():
    job = task(rows=500)
    dense, entries, labels = next(job.batches(0, 0))
    with pytest.raises(LeandnnError, match="a batch has 0 rows"):
        job.loss(job.build(), (dense[:0], entries[:0], labels[:0]))
