"""The features in which generated images are judged: those of a small CIFAR classifier of our own.

The literature takes Inception v3, trained on ImageNet, whose weights are a download; here it is the net of
paper 1's vision study, trained once from a fixed seed and kept as a file of 1.2 MB, so that every run is
measured by the same yardstick, offline. Distances in its features compare with one another and with nothing else.
"""

from __future__ import annotations

import json
from pathlib import Path

import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leandnn import paths
from leandnn.data import cifar
from leandnn.errors import LeandnnError
from leandnn.files import replacing, write_json
from leandnn.models.resnet_small import SmallResNet
from leandnn.tasks.classification import Classification
from leandnn.train import checkpoint, loop
from leandnn.train.task import Result, Settings

FOLDER = paths.RUNS / "features" / "cifar10"
FILE = "model.safetensors"
INPUT = f"runs/features/cifar10/{FILE}"  # of the comparisons that it judges
SEED = 1905  # of no study's run, so that no net is judged by one that began like it


class ImageFeatures(nn.Module):
    """A trained classifier as a yardstick of images: always in eval mode, its weights constant.

    - net: a SmallResNet that was trained on images normalised with cifar.MEAN and cifar.STD.

    Images go in as float32 (N, 3, 32, 32) in [0, 1].
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, net: SmallResNet) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(cifar.MEAN)[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor(cifar.STD)[:, None, None].reciprocal(), persistent=False)
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> ImageFeatures:
        """Eval mode, whatever is asked for."""
        super().train(False)
        return self

    def maps(self, images: Tensor, blocks: int = 1) -> Tensor:
        """Feature maps after the first `blocks` residual blocks: float32 (N, 32, 16, 16) after the first."""
        x = (images - self.mean) * self.scale
        x = F.max_pool2d(F.relu(self.net.norm(self.net.conv(x))), 2)
        maps: Tensor = self.net.blocks[:blocks](x)
        return maps

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features (N, 128), from which the classes are told apart, and the classes' logits (N, 10)."""
        pooled = self.maps(images, len(self.net.blocks)).mean(dim=(2, 3))
        return pooled, self.net.classifier(pooled)


def fit(
    train: cifar.Images, test: cifar.Images, *, epochs: int, threads: int = 1, device: str = "cpu"
) -> Result:
    """Train the classifier from SEED, as paper 1's vision study does, but without label smoothing.

    That would blur the class probabilities, of which the inception-style score is made.
    """
    task = Classification(SmallResNet, train, test, batch_size=128, seed=SEED, device=device)
    settings = Settings(
        epochs=epochs,
        lr=0.4,
        weight_decay=5e-4,
        schedule="one_cycle",
        seed=SEED,
        threads=threads,
        device=device,
    )
    return loop.train(task, settings)


def train(
    out: Path = FOLDER,
    *,
    epochs: int = 5,
    train_examples: int = 50_000,
    test_examples: int = 10_000,
    threads: int = 1,
    device: str = "cpu",
) -> float:
    """Train the classifier on CIFAR-10 and keep it in `out`: model.safetensors and metrics.json.

    Returns its test accuracy. LeandnnError where the data is missing or `out` cannot be written.
    """
    result = fit(
        cifar.load("cifar10", "train", count=train_examples),
        cifar.load("cifar10", "test", count=test_examples),
        epochs=epochs,
        threads=threads,
        device=device,
    )
    save(result.model, out / FILE)
    budget = {
        "epochs": epochs,
        "train_examples": train_examples,
        "test_examples": test_examples,
        "seed": SEED,
    }
    write_json(out / "metrics.json", {"budget": budget, "metrics": result.metrics})
    return result.metrics["test_accuracy"]


def save(net: nn.Module, path: Path) -> None:
    """Write the net's state, with its digest in the file's header; equal states give equal bytes."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    # One entry alone: safetensors keeps no order among several.
    content = safetensors.torch.save(state, {"weights_sha256": checkpoint.weights_sha256(net)})
    with replacing(path) as stream:
        stream.write(content)


def load(path: Path = FOLDER / FILE) -> ImageFeatures:
    """The classifier that `train` wrote, on the CPU.

    LeandnnError, ending with the command that makes it anew, for a file that is missing, damaged, of another net
    or whose weights do not have the digest written in it.
    """
    where, mend = paths.relative(path), "run `dvc repro train-features`"
    if not path.is_file():
        raise LeandnnError(f"{where}, the net in whose features images are judged, is missing: {mend}")
    net = SmallResNet()
    try:
        with safetensors.safe_open(path, "pt") as file:
            expected = (file.metadata() or {}).get("weights_sha256")
            net.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, RuntimeError) as error:
        raise LeandnnError(f"{where} is damaged or of another net ({_first_line(error)}): {mend}") from error
    found = checkpoint.weights_sha256(net)
    if found != expected:
        raise LeandnnError(f"{where} has weights with SHA-256 {found}, expected {expected}: {mend}")
    return ImageFeatures(net)


def digest(path: Path = FOLDER / FILE) -> str:
    """SHA-256 of the classifier's weights, checked: part of the identity of every run that is judged by it."""
    return checkpoint.weights_sha256(load(path).net)


def _first_line(error: Exception) -> str:
    return json.dumps(str(error).splitlines()[0][:200])
