"""The fast CIFAR-10 recipe: a dense net near convergence in minutes of one core, for any wing's arms.

Jordan 2024 (arXiv 2404.00498) in our loop: whitening, partial identity start, BatchNorm biases that learn 64 times
as fast, Lookahead, alternating flip, a triangular learning rate. What differs: batches of 256 instead of 1024 (faster
on a CPU), 0.6 of the learning rate, and at test time one view, or two (the mirror image), instead of six.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from leandnn.data import cifar
from leandnn.data.image_batches import Augmentation, Batches
from leandnn.errors import LeandnnError
from leandnn.models import macs
from leandnn.models.fast_cifar import FastCifar, Widths, whitening
from leandnn.studies.comparison import Scale, Trial
from leandnn.tasks.classification import Classification
from leandnn.train.hooks import Freeze, Lookahead
from leandnn.train.schedules import decoupled
from leandnn.train.task import Hook, Settings

Judge = Literal["test", "validation"]

VALIDATION_SHARE = 0.1
WHITENED = 5000  # training images whose patches the first layer whitens


@dataclass(frozen=True)
class Recipe:
    """A net's size and how it is trained.

    - widths: see FastCifar. epochs; batch: images.
    - lr, weight_decay: per 1024 examples, see schedules.decoupled; momentum: Nesterov's.
    - bias_factor: of the learning rate of the norms' biases.
    - lr_start, peak, lr_end: the learning rate begins at a share of `lr`, reaches it after a share `peak` of
      training and ends at another.
    - lookahead: updates between the exchanges with the slow weights, 0 for none; lookahead_decay: see Lookahead.
    - bias_epochs: in which the whitening layer's bias trains.
    - label_smoothing; shift: pixels of the random crop.
    - evaluate_every: epochs.
    """

    widths: Widths
    epochs: int
    batch: int = 256
    lr: float = 6.9
    weight_decay: float = 0.0153
    momentum: float = 0.85
    bias_factor: float = 64.0
    lr_start: float = 0.2
    peak: float = 0.23
    lr_end: float = 0.07
    lookahead: int = 5
    lookahead_decay: float = 0.95
    bias_epochs: int = 3
    label_smoothing: float = 0.2
    shift: int = 2
    evaluate_every: int = 1


RECIPES = {
    "main": Recipe(widths=(64, 128, 128), epochs=12, evaluate_every=6),
    "proxy": Recipe(widths=(32, 128, 128), epochs=8, evaluate_every=8),
}


def recipe(name: str, **changes: Any) -> Recipe:
    """A recipe of RECIPES, changed in what is named; LeandnnError for a name or a setting that there is not."""
    if name not in RECIPES:
        raise LeandnnError(f"there is no recipe {name!r}, expected one of {', '.join(RECIPES)}")
    known = [field.name for field in dataclasses.fields(Recipe)]
    if unknown := sorted(set(changes) - set(known)):
        raise LeandnnError(f"the recipe has no setting {unknown[0]!r}, expected one of {', '.join(known)}")
    return dataclasses.replace(RECIPES[name], **changes)


def images(judge: Judge, share: float = VALIDATION_SHARE) -> cifar.Pair:
    """CIFAR-10 as (train, judged by): the test set, or a share of the training set that then does not train.

    Whatever is chosen is chosen by "validation", which does not read the test set.
    """
    if judge not in ("test", "validation"):
        raise LeandnnError(f"there is no judge {judge!r}, expected test or validation")
    train = cifar.load("cifar10", "train")
    return (train, cifar.load("cifar10", "test")) if judge == "test" else cifar.held_out(train, share)


def trial(
    chosen: Recipe,
    scale: Scale,
    pair: cifar.Pair,
    *,
    judge: Judge = "test",
    hooks: Sequence[Hook] = (),
    build: Callable[[nn.Module], nn.Module] | None = None,
) -> Trial:
    """The recipe on given images, in FP32 (bf16/precision.py has others); arms differ in `hooks` and `build` alone.

    - pair: see images; judge: what the second of them is, which names the metrics.
    - hooks: come after the recipe's own, so that masks have the last word on the weights.
    - build: makes the net of the new dense one, e.g. by he_start and sparsify.
    """

    def net() -> nn.Module:
        dense = FastCifar(filters, chosen.widths)
        return dense if build is None else build(dense)

    train, judged = pair
    first = cifar.Images(train.images[:WHITENED], train.labels[:WHITENED])
    plain = Batches(first, 1, augment=None, mean=cifar.MEAN, std=cifar.STD, seed=scale.seed)
    filters = whitening(next(plain.evaluation(WHITENED))[0])
    task = Classification(
        net,
        train,
        judged,
        batch_size=chosen.batch,
        seed=scale.seed,
        device=scale.device,
        label_smoothing=chosen.label_smoothing,
        augment=Augmentation(chosen.shift, "reflect", "alternating"),
        judge=judge,
        mirror=True,
    )
    lr, weight_decay = decoupled(chosen.lr, chosen.weight_decay, chosen.momentum, chosen.batch)
    settings = Settings(
        epochs=chosen.epochs,
        lr=lr,
        momentum=chosen.momentum,
        weight_decay=weight_decay,
        schedule="linear",
        warmup=chosen.peak,
        lr_start=chosen.lr_start,
        lr_end=chosen.lr_end,
        lr_factors={"groups.*norm?.bias": chosen.bias_factor},
        decay_vectors=True,
        evaluate_every=chosen.evaluate_every,
        seed=scale.seed,
        threads=scale.threads,
        device=scale.device,
    )
    own: list[Hook] = [Freeze("whiten.bias", min(1.0, chosen.bias_epochs / chosen.epochs))]
    if chosen.lookahead:
        own.append(Lookahead(chosen.lookahead, chosen.lookahead_decay))
    return Trial(task, settings, (*own, *hooks))


def petaflop(chosen: Recipe, steps: int) -> float:
    """The products of `steps` updates, forward and backward, two FLOPs a multiply-add, in 10¹⁵."""
    layers = macs.count(FastCifar(torch.zeros(24, 3, 2, 2), chosen.widths), (3, 32, 32))
    return 2 * macs.training_macs(layers, steps * chosen.batch) / 1e15
