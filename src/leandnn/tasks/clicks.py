"""Click prediction as a `Task`: shared by every study that trains on a click log."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from scipy.stats import mannwhitneyu
from torch import Tensor, nn

from leandnn.data.clicks import Batches, Clicks
from leandnn.errors import LeandnnError

Batch = tuple[Tensor, Tensor, Tensor]


def log_loss(logits: Tensor, labels: Tensor) -> float:
    """Mean negative log-likelihood in nats of labels (N,) (0 or 1) under log-odds (N,), summed in float64."""
    return float(F.binary_cross_entropy_with_logits(logits.double(), labels.double()))


def auc(scores: Tensor, labels: Tensor) -> float:
    """Share of (click, other) pairs that scores (N,) put in the right order, ties counting half.

    That is the area under the receiver operating characteristic; SciPy's Mann-Whitney statistic counts the
    pairs. LeandnnError unless both labels occur.
    """
    clicked = labels.bool().cpu()
    values = scores.double().cpu()
    clicks, others = values[clicked].numpy(), values[~clicked].numpy()
    if not len(clicks) or not len(others):
        raise LeandnnError(
            f"an AUC of {len(clicks)} clicks and {len(others)} other rows was asked for, expected both kinds"
        )
    ordered = mannwhitneyu(clicks, others, method="asymptotic").statistic
    return float(ordered) / (len(clicks) * len(others))


def bounds(log: Clicks) -> dict[str, float]:
    """What can be had on the rows of a log: the log losses of the constant share of clicks and of the truth.

    prior_log_loss; where the true probabilities are known, bayes_log_loss and bayes_auc as well (of these labels,
    not their expectation: a model is compared on the same rows).
    """
    share = float(log.labels.double().mean())
    if not 0.0 < share < 1.0:
        raise LeandnnError(
            f"the share of clicks among {len(log)} rows is {share}, expected both kinds of rows"
        )
    found = {"prior_log_loss": -share * math.log(share) - (1 - share) * math.log1p(-share)}
    if log.probabilities is not None:
        logits = torch.logit(log.probabilities.double())
        found |= {"bayes_log_loss": log_loss(logits, log.labels), "bayes_auc": auc(logits, log.labels)}
    return found


class Prediction:
    """Log loss on a click log, judged by log loss and AUC on later rows.

    - build_model: makes the net (torch is seeded by the loop); (dense, entries) → log-odds.
    - train, test: logs in memory; see clicks.load, clicks.synthetic and criteo.read.
    - batch_size, seed, device: of the training batches.

    Metrics: test_log_loss (nats), test_auc, and, where the true probabilities are known, test_gap: (log loss -
    Bayes log loss) / (prior log loss - Bayes log loss) on the same rows, so 0 is the best that can be had, 1 is
    what the share of clicks alone gives.
    """

    def __init__(
        self,
        build_model: Callable[[], nn.Module],
        train: Clicks,
        test: Clicks,
        *,
        batch_size: int,
        seed: int,
        device: str,
    ) -> None:
        if train.sizes != test.sizes:
            raise LeandnnError(f"training tables have {train.sizes} rows, test tables {test.sizes}")
        self.build_model = build_model
        self.train_batches = Batches(train, batch_size, seed=seed, device=device)
        self.test_batches = Batches(test, 1, seed=seed, device=device)
        self.bounds = bounds(test)

    def build(self) -> nn.Module:
        """A new net."""
        return self.build_model()

    def steps_per_epoch(self) -> int:
        """Whole batches in the training rows."""
        return len(self.train_batches)

    def batches(self, epoch: int, start: int) -> Iterator[Batch]:
        """(dense float32 (B, 13), entries int64 (B, 26), labels float32 (B,)) of an epoch from batch `start` on."""
        return self.train_batches.epoch(epoch, start)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean log loss in nats, computed in FP32. LeandnnError for an empty batch."""
        dense, entries, labels = batch
        if not len(labels):
            raise LeandnnError("a batch has 0 rows, expected at least 1")
        return F.binary_cross_entropy_with_logits(model(dense, entries).float(), labels)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Log loss, AUC and, where it can be known, the gap over all test rows."""
        rows = [
            (model(dense, entries).float(), labels)
            for dense, entries, labels in self.test_batches.evaluation(8192)
        ]
        logits, labels = torch.cat([row[0] for row in rows]), torch.cat([row[1] for row in rows])
        if not bool(torch.isfinite(logits).all()):  # the loop names the metric that is not finite
            return {"test_log_loss": math.nan}
        found = {"test_log_loss": log_loss(logits, labels), "test_auc": auc(logits, labels)}
        if "bayes_log_loss" in self.bounds:
            prior, best = self.bounds["prior_log_loss"], self.bounds["bayes_log_loss"]
            found["test_gap"] = (found["test_log_loss"] - best) / (prior - best)
        return found

    def worst(self) -> dict[str, float]:
        """What the share of clicks alone gives: it orders no pair, and leaves the whole gap."""
        found = {"test_log_loss": self.bounds["prior_log_loss"], "test_auc": 0.5}
        return found | ({"test_gap": 1.0} if "bayes_log_loss" in self.bounds else {})
