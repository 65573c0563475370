"""ResNet50 and MobileNetV1 on ImageNet-1K: the `paper` scale, on one or many GPUs and machines.

    export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
    torchrun --nproc-per-node 8 --max-restarts 3 -m leandnn.autosparse.imagenet \\
        --data /data/imagenet --net resnet50 --arm autosparse --device cuda

Resumable: the same command goes on from the last epoch's checkpoint (build/checkpoints/autosparse/imagenet/). What a
run costs on a machine: price.py. The commands of the study: stage train-autosparse-imagenet in dvc.yaml.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from torch import nn

from leandnn import paths
from leandnn.autosparse.accounting import Accounting
from leandnn.autosparse.hooks import Learned
from leandnn.autosparse.method import Options
from leandnn.data import imagenet
from leandnn.errors import LeandnnError
from leandnn.files import must_be_writable, write_json, write_text
from leandnn.models.mobilenet import mobilenet_v1, small_mobilenet
from leandnn.models.resnet_bottleneck import resnet50
from leandnn.params import Budget, parse
from leandnn.studies import digests, outcome
from leandnn.studies.comparison import Comparison, Scale, Trial
from leandnn.studies.runs import Run
from leandnn.tasks.imagenet import FolderClassification, Unreadable
from leandnn.train import distributed
from leandnn.train.distributed import Parallel, World
from leandnn.train.task import Hook, Settings

NETS: dict[str, Callable[[int], nn.Module]] = {
    "resnet50": resnet50,
    "mobilenet_v1": mobilenet_v1,
    "small_mobilenet": small_mobilenet,  # for trying out: 32 × 32 images
}
ARMS = ("dense", "autosparse", "str")
# STR's files (github RAIVNLab/STR configs/largescale), which AutoSparse is taken to share: (weight decay, s_init).
DENSE_DECAY = 3.0517578125e-05
STR = {"resnet50": (2.251757813e-05, -3200.0), "mobilenet_v1": (3.751757813e-05, -12800.0)}


def method(net: str, arm: str, target: float | None = None) -> tuple[float, Learned | None]:
    """The weight decay and the hook of an arm.

    - target: the share of zeros to end with, for "autosparse"; None leaves it to the training, as the paper does.

    Raises ValueError for STR on a net whose settings are not published, and for another arm with a target.
    """
    if target is not None and arm != "autosparse":
        raise ValueError(f"a target of {target} was asked for with arm {arm}, expected arm autosparse")
    if arm == "dense":
        return DENSE_DECAY, None
    if arm == "autosparse":
        return DENSE_DECAY, Learned(Options(alpha=0.5, init=-5.0, zero_from=0.9, target=target, every=100))
    if net not in STR:
        raise ValueError(f"STR's settings for {net} are not known, expected one of {', '.join(STR)}")
    decay, init = STR[net]
    return decay, Learned(Options(alpha=0.0, schedule="zero", init=init, decay=decay, every=100))


@dataclass(frozen=True)
class ImageNetBudget(Budget):
    """What a run may spend, and all else that decides it beside its arm.

    - train_examples, test_examples: as many as the folder has.
    - batch: images per update, over all processes; accumulate: forward passes per update and process.
    - lr: peak learning rate. size: side of the images, in pixels. amp: see Settings.
    - target: the share of zeros to end with, of "autosparse"; None leaves it to the training.
    """

    train_examples: int = field(default=1_281_167, metadata={"low": 1, "high": 2_000_000})
    test_examples: int = field(default=50_000, metadata={"low": 1, "high": 2_000_000})
    batch: int = field(default=256, metadata={"low": 1, "high": 1_000_000})
    accumulate: int = field(default=1, metadata={"low": 1, "high": 10_000})
    lr: float = field(default=0.256, metadata={"low": 1e-9, "high": 1e3})
    size: int = field(default=224, metadata={"low": 8, "high": 2048})
    amp: str = "bf16"
    target: float | None = field(default=None, metadata={"low": 0.0, "high": 1.0})


@dataclass(frozen=True)
class Reading:
    """How a process reads the images; nothing of it decides what a run computes.

    - folder: with train/ and val/. workers: processes that decode, per process of the group.
    - missing, unreadable: "stop" or "skip", about classes without images and images that cannot be read.
    """

    folder: Path = paths.RAW / "imagenet"
    workers: int = 8
    missing: Literal["stop", "skip"] = "stop"
    unreadable: Literal["stop", "skip"] = "stop"


def _make(
    net: str,
    arm: str,
    budget: ImageNetBudget,
    scale: Scale,
    *,
    reading: Reading = Reading(),
    world: World | None = None,
) -> Trial:
    """A run of the recipe that STR published: batch 256, SGD at 0.256, cosine after 5 of 100 epochs of warm-up."""
    world = world or World(0, 1, scale.device)
    if budget.batch % (world.size * budget.accumulate):
        raise LeandnnError(
            f"the batch of {budget.batch} does not divide among {world.size} processes with {budget.accumulate} "
            "accumulated, expected a multiple"
        )
    train, val = imagenet.scan(reading.folder, missing=reading.missing)

    def batches(split: imagenet.Split, augment: bool) -> imagenet.Batches:
        return imagenet.Batches(
            split,
            budget.batch // (world.size * budget.accumulate),
            size=budget.size,
            augment=augment,
            seed=scale.seed,
            device=world.device,
            rank=world.rank,
            world=world.size,
            workers=reading.workers,
            unreadable=reading.unreadable,
        )

    task = FolderClassification(
        lambda: NETS[net](len(train.classes)), batches(train, True), batches(val, False)
    )
    chosen, methods = recipe(net, arm, budget, scale)
    return Trial(task, chosen, (*methods, Unreadable(task), Parallel(world)))


def recipe(net: str, arm: str, budget: ImageNetBudget, scale: Scale) -> tuple[Settings, tuple[Hook, ...]]:
    """Settings and hooks of an arm; see _make."""
    decay, learned = method(net, arm, budget.target)
    chosen = Settings(
        epochs=budget.epochs,
        lr=budget.lr,
        momentum=0.875,
        nesterov=False,
        weight_decay=decay,
        schedule="cosine",
        warmup=0.05,
        accumulate=budget.accumulate,
        amp=budget.amp,  # type: ignore[arg-type]
        seed=scale.seed,
        threads=scale.threads,
        device=scale.device,
    )
    counted = Accounting(learned, batch_size=budget.batch, input_shape=(3, budget.size, budget.size))
    return chosen, (counted,) if learned is None else (learned, counted)


COMPARISON = Comparison(
    "autosparse",
    "imagenet",
    {f"{net}-{arm}": functools.partial(_make, net, arm) for net in STR for arm in ARMS},
    data=(),
    budget=ImageNetBudget,
)


def run(arguments: argparse.Namespace, world: World) -> Path:
    """Train to the end, or go on; the first process writes metrics.json and history.csv. Returns their folder."""
    reading = Reading(arguments.data, arguments.workers, arguments.missing, arguments.unreadable)
    train, val = imagenet.scan(reading.folder, missing=reading.missing)
    budget = budget_of(arguments, len(train.files), len(val.files))
    name = f"{arguments.net}-{arguments.arm}"
    make = functools.partial(_make, arguments.net, arguments.arm, reading=reading, world=world)
    comparison = dataclasses.replace(COMPARISON, arms={name: make})
    behaviour = digests.Reader().of((*digests.TRAINED, "leandnn.autosparse.imagenet:_make")).digest
    this = Run(
        comparison.study,
        name,
        dataclasses.asdict(budget),
        arguments.seed,
        arguments.threads,
        world.device,
        behaviour,
        {"processes": str(world.size)},
    )
    folder = this.name if budget.target is None else f"{name}-{100 * budget.target:g}-s{this.seed}"
    out: Path = arguments.out or paths.RUNS / "autosparse" / "imagenet" / folder
    must_be_writable(out, this.state.parent)
    first = world.rank == 0
    if (out / "metrics.json").exists():
        _must_be_of(out, budget)
        if first:
            print(f"{paths.relative(out)} holds a finished run; delete it to train it again")
        return out
    result = outcome.train(
        this,
        comparison,
        state=this.state,
        every_s=arguments.checkpoint_minutes * 60,
        progress=_printed if first else None,
    )
    if first:
        write_text(out / "history.csv", outcome.history_csv(result["history"]))
        write_json(out / "metrics.json", result["metrics"])
        this.state.unlink(missing_ok=True)
    distributed.wait_for_all()
    return out


def _must_be_of(out: Path, budget: ImageNetBudget) -> None:
    """LeandnnError where a folder holds the run of another budget."""
    found = json.loads((out / "metrics.json").read_text())["budget"]
    for name, value in dataclasses.asdict(budget).items():
        if found.get(name) != value:
            raise LeandnnError(
                f"{paths.relative(out)} holds a run of {name} {found.get(name)}, expected {value}: --out names "
                "another folder"
            )


def budget_of(arguments: argparse.Namespace, train: int, test: int) -> ImageNetBudget:
    """The budget that the command line says, for so many images; LeandnnError names what is out of range."""
    names = ("epochs", "batch", "accumulate", "lr", "size", "amp", "target")
    said = {name: getattr(arguments, name) for name in names}
    return parse(ImageNetBudget, said | {"train_examples": train, "test_examples": test}, "imagenet")


def _printed(done: int, total: int, text: str) -> None:
    if done % max(1, total // 1000) == 0 or done == total:
        short = ", ".join(part for part in text.split(", ") if ":" not in part or part.startswith("epoch"))
        print(f"update {done} of {total}; {short}", flush=True)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="leandnn.autosparse.imagenet", description=__doc__)
    policy = {"choices": ("stop", "skip"), "default": "stop"}
    made.add_argument(
        "--data", type=Path, default=paths.RAW / "imagenet", help="the folder with train/ and val/"
    )
    made.add_argument("--net", choices=NETS, default="resnet50")
    made.add_argument("--arm", choices=ARMS, default="autosparse")
    made.add_argument("--target", type=float, help="the share of zeros to end with; by default left free")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--epochs", type=int, default=100)
    made.add_argument("--batch", type=int, default=256, help="images per update, over all processes")
    made.add_argument("--accumulate", type=int, default=1, help="forward passes per update and process")
    made.add_argument("--lr", type=float, default=0.256)
    made.add_argument("--size", type=int, default=224, help="side of the images, in pixels")
    made.add_argument("--amp", choices=("none", "bf16", "fp16"), default="bf16")
    made.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    made.add_argument("--threads", type=int, default=1, help="torch threads per process")
    made.add_argument("--workers", type=int, default=8, help="processes that decode images, per process")
    made.add_argument("--missing", help="what to do about classes without images", **policy)  # type: ignore[arg-type]
    made.add_argument("--unreadable", help="what to do about images that cannot be read", **policy)  # type: ignore[arg-type]
    made.add_argument("--checkpoint-minutes", type=float, default=15.0, help="beside the end of every epoch")
    made.add_argument("--out", type=Path, help="by default runs/autosparse/imagenet/<net>-<arm>-s<seed>")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; 1 and a sentence for what is wrong outside the program."""
    said = parser().parse_args(arguments)
    try:
        with distributed.group(said.device) as world:
            print(f"process {world.rank} of {world.size}: {paths.relative(run(said, world))}", flush=True)
    except (LeandnnError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
