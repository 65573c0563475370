"""ResNet50 and MobileNetV1 on ImageNet-1K: the `paper` scale, on one or many GPUs and machines.

    export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
    torchrun --nproc-per-node 8 --max-restarts 3 -m leandnn.autosparse.imagenet \\
        --data /data/imagenet --net resnet50 --arm autosparse --device cuda

Resumable: the same command goes on from the last epoch's checkpoint (build/checkpoints/autosparse/imagenet/). What a
run costs on a machine: price.py. The commands of the study: stage train-autosparse-imagenet in dvc.yaml.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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
from leandnn.params import TrainBudget
from leandnn.studies import outcome
from leandnn.studies.comparison import Comparison, Run, Trial, run_key
from leandnn.tasks.imagenet import FolderClassification, Unreadable
from leandnn.train import distributed, loop
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


def trial(arguments: argparse.Namespace, train: imagenet.Split, val: imagenet.Split, world: World) -> Trial:
    """A run of the recipe that STR published: batch 256, SGD at 0.256, cosine after 5 of 100 epochs of warm-up."""
    if arguments.batch % (world.size * arguments.accumulate):
        raise LeandnnError(
            f"the batch of {arguments.batch} does not divide among {world.size} processes with {arguments.accumulate} "
            "accumulated, expected a multiple"
        )

    def batches(split: imagenet.Split, augment: bool) -> imagenet.Batches:
        return imagenet.Batches(
            split,
            arguments.batch // (world.size * arguments.accumulate),
            size=arguments.size,
            augment=augment,
            seed=arguments.seed,
            device=world.device,
            rank=world.rank,
            world=world.size,
            workers=arguments.workers,
            unreadable=arguments.unreadable,
        )

    task = FolderClassification(
        lambda: NETS[arguments.net](len(train.classes)), batches(train, True), batches(val, False)
    )
    chosen, methods = recipe(arguments, world.device)
    return Trial(task, chosen, (*methods, Unreadable(task), Parallel(world)))


def recipe(arguments: argparse.Namespace, device: str) -> tuple[Settings, tuple[Hook, ...]]:
    """Settings and hooks of the method that the arguments name; see trial."""
    decay, learned = method(arguments.net, arguments.arm, arguments.target)
    chosen = Settings(
        epochs=arguments.epochs,
        lr=arguments.lr,
        momentum=0.875,
        nesterov=False,
        weight_decay=decay,
        schedule="cosine",
        warmup=0.05,
        accumulate=arguments.accumulate,
        amp=arguments.amp,
        seed=arguments.seed,
        threads=arguments.threads,
        device=device,
    )
    accounting = Accounting(
        learned, batch_size=arguments.batch, input_shape=(3, arguments.size, arguments.size)
    )
    return chosen, (accounting,) if learned is None else (learned, accounting)


def run(arguments: argparse.Namespace, world: World) -> Path:
    """Train to the end, or go on; the first process writes metrics.json and history.csv. Returns their folder."""
    train, val = imagenet.scan(arguments.data, missing=arguments.missing)
    made = trial(arguments, train, val, world)

    def same(*_: Any) -> Trial:
        return made

    arm = f"{arguments.net}-{arguments.arm}"
    if arguments.target is not None:
        arm += f"-{100 * arguments.target:g}"
    comparison = Comparison("autosparse", "imagenet", (arm,), same, data=(), code=CODE)
    budget = TrainBudget(arguments.epochs, len(train.files), len(val.files), seeds=(arguments.seed,))
    this = Run(comparison, arm, arguments.seed, budget)
    facts = {"size": arguments.size, "batch": arguments.batch, "world": world.size, "amp": arguments.amp}
    key = run_key(this, arguments.threads, world.device, {k: str(v) for k, v in facts.items()})
    out: Path = arguments.out or paths.RUNS / "autosparse" / "imagenet" / this.name
    state = paths.CHECKPOINTS / "autosparse" / "imagenet" / f"{this.name}-{key}.ckpt"
    must_be_writable(out, state.parent)
    first = world.rank == 0
    if (out / "metrics.json").exists():
        if first:
            print(f"{paths.relative(out)} holds a finished run; delete it to train it again")
        return out
    result = loop.train(
        made.task,
        made.settings,
        made.hooks,
        checkpoint_path=state,
        checkpoint_every_s=arguments.checkpoint_minutes * 60,
        progress=_printed if first else None,
    )
    if first:
        write_text(out / "history.csv", outcome.history_csv(result.history))
        write_json(out / "metrics.json", outcome.metrics(this, made, result))
        state.unlink(missing_ok=True)
    distributed.wait_for_all()
    return out


def _printed(done: int, total: int, text: str) -> None:
    if done % max(1, total // 1000) == 0 or done == total:
        short = ", ".join(part for part in text.split(", ") if ":" not in part or part.startswith("epoch"))
        print(f"update {done} of {total}; {short}", flush=True)


_OWN = (
    "annealing", "flops", "hooks", "imagenet", "layers", "method", "record", "target", "thresholds",
)  # fmt: skip
CODE = (
    *(f"autosparse/{name}.py" for name in _OWN),
    "data/imagenet.py",
    "models/macs.py",
    "models/mobilenet.py",
    "models/resnet_bottleneck.py",
    "machine/determinism.py",
    "train/distributed.py",
    "tasks/imagenet.py",
    "train/loop.py",
    "studies/outcome.py",
    "train/schedules.py",
    "train/task.py",
)


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
