"""Image classification as a `Task`: shared by every study that trains on CIFAR."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leandnn.data import cifar


class Classification:
    """Cross-entropy on CIFAR images, judged by accuracy on the test images.

    - build_model: makes the net (torch is seeded by the loop).
    - train, test: images in memory; see cifar.load and cifar.synthetic.
    - batch_size, seed, device: of the training batches.
    - label_smoothing: share of the target spread over all classes.

    Metrics: test_accuracy (fraction), test_loss (nats, without smoothing).
    """

    def __init__(
        self,
        build_model: Callable[[], nn.Module],
        train: cifar.Images,
        test: cifar.Images,
        *,
        batch_size: int,
        seed: int,
        device: str,
        label_smoothing: float = 0.0,
    ) -> None:
        self.build_model = build_model
        self.label_smoothing = label_smoothing

        def batches(images: cifar.Images, size: int, augment: bool) -> cifar.Batches:
            return cifar.Batches(
                images, size, augment=augment, mean=cifar.MEAN, std=cifar.STD, seed=seed, device=device
            )

        self.classes = int(torch.cat([train.labels, test.labels]).max()) + 1
        self.train_batches = batches(train, batch_size, augment=True)
        self.test_batches = batches(test, 1, augment=False)

    def build(self) -> nn.Module:
        """A new net."""
        return self.build_model()

    def steps_per_epoch(self) -> int:
        """Whole batches in the training images."""
        return len(self.train_batches)

    def batches(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Augmented (images float32 (B, 3, 32, 32), labels int64 (B,)) of an epoch from batch `start` on."""
        return self.train_batches.epoch(epoch, start)

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Mean cross-entropy in nats, computed in FP32."""
        images, labels = batch
        return F.cross_entropy(model(images).float(), labels, label_smoothing=self.label_smoothing)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Accuracy and mean cross-entropy over all test images."""
        correct = torch.zeros((), dtype=torch.int64)
        loss = torch.zeros((), dtype=torch.float64)
        count = 0
        for images, labels in self.test_batches.evaluation(500):
            logits = model(images).float()
            correct = correct.to(labels.device) + (logits.argmax(1) == labels).sum()
            loss = loss.to(labels.device) + F.cross_entropy(logits, labels, reduction="sum")
            count += len(labels)
        return {"test_accuracy": int(correct) / count, "test_loss": float(loss) / count}

    def worst(self) -> dict[str, float]:
        """Guessing: one over the number of classes, and the entropy of that."""
        return {"test_accuracy": 1 / self.classes, "test_loss": math.log(self.classes)}
