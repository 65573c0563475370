"""What a run of imagenet.py costs on this machine: its images counted, its updates and its reading timed.

    python -m leandnn.autosparse.price --net resnet50 --arm autosparse --data data/raw/imagenet

One device trains on one made-up batch that stays in its memory; where --data is there, one process decodes images of
it beside that. So what is said is the time of one device that never waits, and how many processes must read for it.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leandnn.autosparse import imagenet as training
from leandnn.data import imagenet
from leandnn.errors import LeandnnError
from leandnn.machine import card
from leandnn.studies.comparison import Scale
from leandnn.train import loop

WARMUP = 3  # updates that are not counted
READ = 256  # images that are read, at most


@dataclass(frozen=True)
class Price:
    """Of one run.

    - images: that are trained on; batch: of an update, over all devices; devices: how many share it.
    - update_s: median seconds of an update on one device, with its share of the batch.
    - read_s: seconds in which one process reads and decodes an image; None where there was none to read.
    """

    images: int
    batch: int
    devices: int
    update_s: float
    read_s: float | None

    @property
    def hours(self) -> float:
        """Device hours of all updates, without what devices wait for one another."""
        return self.images / self.batch * self.update_s * self.devices / 3600

    @property
    def readers(self) -> float | None:
        """Processes that must decode for each device so that it does not wait for images."""
        return None if self.read_s is None else self.read_s * self.batch / self.devices / self.update_s


class _Again:
    """A task whose every batch is the same one, on the device."""

    def __init__(self, net: str, batch: int, size: int, device: str, steps: int) -> None:
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(batch, 3, size, size, generator=generator)
        self.images = images.contiguous(memory_format=torch.channels_last).to(device)
        self.labels = torch.randint(imagenet.CLASSES, (batch,), generator=generator).to(device)
        self.net, self.steps = net, steps

    def build(self) -> nn.Module:
        return training.NETS[self.net](imagenet.CLASSES)

    def steps_per_epoch(self) -> int:
        return self.steps

    def batches(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        return iter([(self.images, self.labels)] * (self.steps - start))

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(model(batch[0]).float(), batch[1], label_smoothing=0.1)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        return {}

    def worst(self) -> dict[str, float]:
        return {}


def measure(arguments: argparse.Namespace) -> Price:
    """Time the updates of imagenet.py's recipe, and the reading of images where the folder is there.

    - arguments: of `parser`.

    Raises LeandnnError for less than one update to time, a batch that does not divide, and whatever imagenet.scan
    refuses in a folder that is there.
    """
    parts = arguments.devices * arguments.accumulate
    if arguments.updates < 1 or arguments.devices < 1 or arguments.batch % parts:
        raise LeandnnError(
            f"{arguments.updates} updates of {arguments.batch} images in {parts} parts were to be timed, expected at "
            "least 1 update and a multiple of the parts"
        )
    budget = training.budget_of(arguments, imagenet.COMPLETE["train"], imagenet.COMPLETE["val"])
    scale = Scale(arguments.seed, arguments.threads, arguments.device)
    settings, hooks = training.recipe(arguments.net, arguments.arm, budget, scale)
    updates = WARMUP + arguments.updates
    steps = updates * settings.accumulate
    task = _Again(arguments.net, arguments.batch // parts, arguments.size, arguments.device, steps)
    ends: list[float] = []

    def note(done: int, total: int, text: str) -> None:
        if arguments.device == "cuda":
            torch.cuda.synchronize()
        ends.append(time.perf_counter())

    # A rate at which one batch, seen again and again, cannot diverge; what an update costs does not depend on it.
    loop.train(task, dataclasses.replace(settings, epochs=1, lr=1e-6), hooks, progress=note)
    ends = ends[:updates]  # the loop reports once more after its evaluation
    median = statistics.median(after - before for before, after in itertools.pairwise(ends[WARMUP - 1 :]))
    read = reading(arguments) if (arguments.data / "train").is_dir() else None
    images = arguments.epochs * imagenet.COMPLETE["train"]
    return Price(images, arguments.batch, arguments.devices, median, read)


def reading(arguments: argparse.Namespace) -> float:
    """Seconds in which one process reads and decodes a training image of the folder, augmentation included."""
    train, _ = imagenet.scan(arguments.data, missing="skip")
    count = min(READ, len(train.files))
    batches = imagenet.Batches(
        train, count, size=arguments.size, augment=True, seed=arguments.seed, unreadable="skip"
    )
    began = time.perf_counter()
    next(batches.epoch(0))
    return (time.perf_counter() - began) / count


def told(price: Price, name: str) -> str:
    """The price in words."""
    share = "" if price.devices == 1 else f"; one device's share of 1/{price.devices} of it"
    lines = [
        f"{name}: {price.images / 1e6:.1f} M images, {price.images / price.batch:,.0f} updates of {price.batch}",
        f"an update{share}: {1000 * price.update_s:.1f} ms, so {price.hours:.1f} device hours without waiting",
    ]
    if price.read_s is None or price.readers is None:
        lines.append("no images were there to read")
    else:
        lines.append(
            f"reading: {1 / price.read_s:.0f} images/s a process, so {price.readers:.1f} processes for each device"
        )
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    """The command line: that of imagenet.py, of which it takes what decides a price."""
    made = argparse.ArgumentParser(
        prog="leandnn.autosparse.price", description=__doc__, parents=[training.parser()], add_help=False
    )
    made.add_argument(
        "--updates", type=int, default=20, help="updates that are timed, after a few that are not"
    )
    made.add_argument("--devices", type=int, default=1, help="devices that the batch is to be shared among")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 and a sentence for what is wrong outside the program."""
    said = parser().parse_args(arguments)
    try:
        card.must_have(said.device)
        print(told(measure(said), f"{said.net}-{said.arm}"))
    except (LeandnnError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
