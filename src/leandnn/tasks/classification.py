"""Image classification as a `Task`: shared by every study that trains on CIFAR."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leandnn.data import cifar
from leandnn.data.image_batches import STANDARD, Augmentation, Batches


class Classification:
    """Cross-entropy on CIFAR images, judged by accuracy on images that do not train.

    - build_model: makes the net (torch is seeded by the loop).
    - train, test: images in memory; see cifar.load, cifar.held_out and cifar.synthetic.
    - batch_size, seed, device: of the training batches; images left over after an epoch's last whole batch sit
      it out, others in every epoch.
    - label_smoothing: share of the target spread over all classes.
    - augment: of the training images.
    - judge: what `test` is, "test" or "validation", and so what its metrics are called.
    - mirror: judge also by the mean of the logits of an image and its mirror image (test-time averaging).

    Metrics: test_accuracy (fraction), test_loss (nats, without smoothing), with `mirror` test_mirror_accuracy.
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
        augment: Augmentation = STANDARD,
        judge: Literal["test", "validation"] = "test",
        mirror: bool = False,
    ) -> None:
        self.build_model = build_model
        self.label_smoothing, self.judge, self.mirror = label_smoothing, judge, mirror

        def batches(images: cifar.Images, size: int, augment: Augmentation | None) -> Batches:
            return Batches(
                images, size, augment=augment, mean=cifar.MEAN, std=cifar.STD, seed=seed, device=device
            )

        self.classes = int(torch.cat([train.labels, test.labels]).max()) + 1
        self.train_batches = batches(train, batch_size, augment)
        self.test_batches = batches(test, 1, None)

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
        mirrored = torch.zeros((), dtype=torch.int64)
        loss = torch.zeros((), dtype=torch.float64)
        count = 0
        for images, labels in self.test_batches.evaluation(500):
            logits = model(images).float()
            correct = correct.to(labels.device) + (logits.argmax(1) == labels).sum()
            loss = loss.to(labels.device) + F.cross_entropy(logits, labels, reduction="sum")
            count += len(labels)
            if self.mirror:
                logits = logits + model(images.flip(3)).float()
                mirrored = mirrored.to(labels.device) + (logits.argmax(1) == labels).sum()
        found = {"accuracy": int(correct) / count, "loss": float(loss) / count}
        if self.mirror:
            found["mirror_accuracy"] = int(mirrored) / count
        return self._named(found)

    def worst(self) -> dict[str, float]:
        """Guessing: one over the number of classes, and the entropy of that."""
        found = {"accuracy": 1 / self.classes, "loss": math.log(self.classes)}
        return self._named(found | ({"mirror_accuracy": 1 / self.classes} if self.mirror else {}))

    def _named(self, metrics: dict[str, float]) -> dict[str, float]:
        return {f"{self.judge}_{name}": value for name, value in metrics.items()}
