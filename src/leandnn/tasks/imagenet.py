"""Classification of images in folders (data/imagenet.py), by one process or a group of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leandnn.data import imagenet
from leandnn.errors import LeandnnError
from leandnn.train import distributed
from leandnn.train.task import Hook


class FolderClassification:
    """Cross-entropy with label smoothing on images in folders, judged by top-1 and top-5 on the val split.

    - build_model: makes the net; train, val: this process's batches.

    In a group of processes each evaluates its share with the first one's running statistics, and all get the
    same metrics: test_accuracy, test_top5_accuracy (fractions), test_loss (nats), unreadable_images.
    """

    def __init__(
        self,
        build_model: Callable[[], nn.Module],
        train: imagenet.Batches,
        val: imagenet.Batches,
        label_smoothing: float = 0.1,
    ) -> None:
        self.build_model, self.train, self.val = build_model, train, val
        self.label_smoothing = label_smoothing

    def build(self) -> nn.Module:
        """A new net."""
        return self.build_model()

    def steps_per_epoch(self) -> int:
        """Whole batches of this process."""
        return len(self.train)

    def batches(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's batches of an epoch from `start` on."""
        return self.train.epoch(epoch, start)

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Mean cross-entropy in nats, in FP32."""
        images, labels = batch
        return F.cross_entropy(model(images).float(), labels, label_smoothing=self.label_smoothing)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Metrics over all val images of the group."""
        distributed.share_buffers(model)
        sums = torch.zeros(4, dtype=torch.float64, device=self.val.device)
        for images, labels in self.val.evaluation():
            logits = model(images).float()
            ranks = logits.topk(min(5, logits.shape[1])).indices == labels[:, None]
            sums[0] += ranks[:, 0].sum()
            sums[1] += ranks.sum()
            sums[2] += F.cross_entropy(logits, labels, reduction="sum")
            sums[3] += len(labels)
        top1, top5, loss, count = distributed.summed(sums).tolist()
        for batches in (self.train, self.val):  # an image may be another process's in the next epoch
            batches.failures = distributed.merged(batches.failures)
        if not count:
            raise LeandnnError("no val image can be read, expected at least one")
        return {
            "test_accuracy": top1 / count,
            "test_top5_accuracy": top5 / count,
            "test_loss": loss / count,
            "unreadable_images": float(len(self.train.failures) + len(self.val.failures)),
        }

    def worst(self) -> dict[str, float]:
        """Chance."""
        chance = 1 / len(self.val.split.classes)
        return {"test_accuracy": chance, "test_top5_accuracy": min(1.0, 5 * chance)}


class Unreadable(Hook):
    """Keeps which images could not be read, so that a run that was killed ends with an unbroken one's count."""

    def __init__(self, task: FolderClassification) -> None:
        self.task = task

    def state_dict(self) -> dict[str, Any]:
        """Path → reason, by split."""
        return {"train": dict(self.task.train.failures), "val": dict(self.task.val.failures)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of state_dict."""
        self.task.train.failures, self.task.val.failures = dict(state["train"]), dict(state["val"])
