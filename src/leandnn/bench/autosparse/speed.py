"""What AutoSparse costs a training step, what counting costs, and how fast exported nets are.

- "step": one update (forward, backward, SGD, thresholds and target) of a small VGG, a bottleneck ResNet and a wide
  VGG19, beside the dense net's, the same thresholds written in torch's own operators, and PQuantML's AutoSparse
  where pquant-ml is installed (pip install "pquant-ml[torch]==0.1.0"; it pulls Keras, so in an environment of its
  own, or by PYTHONPATH).
- "ledger": counting ResNet50's multiply-adds.
- "inference": the shared small net after a short training at 80 % sparsity, and VGG19 with thresholds set on its
  first weights, exported to CSR and to the nearest hierarchical patterns, beside the dense nets; norms folded. A
  row's case holds the multiply-adds that the zeros leave, as a share, and the weights' bytes: the speed beside the
  FLOPs ratio.

One thread, FP32. The nets' times do not depend on their accuracy, so trainings here are short.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from leandnn.autosparse import AutoSparse, Options, export, flops, study
from leandnn.autosparse.hooks import Learned
from leandnn.bench.benchfile import Row
from leandnn.bench.timing import interleave, row
from leandnn.blocksparse import to_dense
from leandnn.blocksparse.inference import fold
from leandnn.data import cifar
from leandnn.errors import LeandnnError
from leandnn.machine import determinism
from leandnn.models.resnet_bottleneck import resnet50
from leandnn.models.vgg import VGG19
from leandnn.params import Budget
from leandnn.studies.comparison import Scale
from leandnn.train import loop

SPARSITY = 0.8
NETS = {
    "SmallVGG": (study.VGG.build, study.VGG.ends, 128),
    "BottleneckResNet": (study.RESNET.build, study.RESNET.ends, 128),
    "VGG19": (VGG19, ("features.0", "classifier"), 32),
}


class PlainThreshold(nn.Module):
    """AutoSparse's weight in torch's own operators, with its surrogate gradient by detaching."""

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha, self.score = alpha, nn.Parameter(torch.full((1,), -5.0))

    def forward(self, weight: Tensor) -> Tensor:
        """W̃."""
        x = weight.abs() - torch.sigmoid(self.score)
        leaky = torch.where(x > 0, x, self.alpha * x)
        return weight.sign() * (leaky + (torch.relu(x) - leaky).detach())


class _Step:
    """A net, its optimizer and a fixed batch; calling it makes one update."""

    def __init__(self, net: str, prepare: Callable[[nn.Module], Callable[[], None]]) -> None:
        build, _, batch = NETS[net]
        torch.manual_seed(0)
        self.model = build().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.after = prepare(self.model)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9, nesterov=True)
        generator = torch.Generator().manual_seed(1)
        images = torch.randn(batch, 3, 32, 32, generator=generator)
        self.images = images.contiguous(memory_format=torch.channels_last)
        self.labels = torch.randint(10, (batch,), generator=generator)

    def gradients(self) -> dict[str, Tensor]:
        self.optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(self.model(self.images), self.labels).backward()
        return {
            name.replace("parametrizations.", "").replace(".original", ""): p.grad
            for name, p in self.model.named_parameters()
            if p.grad is not None and "score" not in name and "threshold" not in name
        }

    def __call__(self) -> None:
        self.gradients()
        self.optimizer.step()
        self.after()


def _nothing(model: nn.Module) -> Callable[[], None]:
    return lambda: None


def _ours(
    ends: tuple[str, ...], target: float | None = SPARSITY
) -> Callable[[nn.Module], Callable[[], None]]:
    def prepare(model: nn.Module) -> Callable[[], None]:
        sparse = AutoSparse(model, Options(exclude=ends, target=target))
        return lambda: sparse.update(0.2)

    return prepare


def _parametrised(
    ends: tuple[str, ...], gate: Callable[[Tensor], nn.Module]
) -> Callable[[nn.Module], Callable[[], None]]:
    def prepare(model: nn.Module) -> Callable[[], None]:
        for name, layer in model.named_modules():
            if isinstance(layer, nn.Conv2d | nn.Linear) and name not in ends:
                parametrize.register_parametrization(layer, "weight", gate(layer.weight))
        return lambda: None

    return prepare


def _pquant() -> Callable[[Tensor], nn.Module] | None:
    """PQuantML's AutoSparse for a weight, None where it is not installed."""
    if importlib.util.find_spec("pquant") is None:
        return None
    os.environ.setdefault("KERAS_BACKEND", "torch")
    theirs = importlib.import_module("pquant.core.torch.pruning_methods.autosparse").AutoSparse
    chosen = SimpleNamespace(
        alpha=0.5,
        threshold_init=-5.0,
        threshold_type="layerwise",
        backward_sparsity=False,
        alpha_reset_epoch=90,
    )

    def gate(weight: Tensor) -> nn.Module:
        made = theirs(SimpleNamespace(pruning_parameters=chosen), "conv")
        made.build(tuple(weight.shape))
        made.post_pre_train_function()
        found: nn.Module = made
        return found

    return gate


def _check(net: str) -> None:
    """A step's gradients, ours without a target, are those of the thresholds in torch's own operators."""
    ends = NETS[net][1]
    plain = _Step(net, _parametrised(ends, lambda w: PlainThreshold(0.5))).gradients()
    others = {"leandnn": _Step(net, _ours(ends, target=None)).gradients()}
    if (gate := _pquant()) is not None:
        others["pquant-ml"] = _Step(net, _parametrised(ends, gate)).gradients()
    for impl, found in others.items():
        for name, gradient in plain.items():
            distance = float((found[name] - gradient).norm() / gradient.norm().clamp(min=1e-30))
            if not distance <= 1e-3:
                raise LeandnnError(
                    f"{impl}: the gradient of {name} in {net} is wrong: {distance:.2g} away, expected 1e-3"
                )


def _steps(net: str, repeats: int) -> list[Row]:
    ends, batch = NETS[net][1:]
    _check(net)
    calls: dict[str, Callable[[], object]] = {
        "leandnn": _Step(net, _ours(ends)),
        "torch.dense": _Step(net, _nothing),
        "torch.autograd": _Step(net, _parametrised(ends, lambda w: PlainThreshold(0.5))),
    }
    if (gate := _pquant()) is not None:
        calls["pquant-ml"] = _Step(net, _parametrised(ends, gate))
    times = interleave(calls, repeats=repeats, warmup=2, label=f"autosparse step {net}")
    case = {"what": "step", "net": net, "batch": batch}
    return [row("autosparse", case, name, 1, t, batch, "images") for name, t in times.items()]


def _ledger(repeats: int) -> list[Row]:
    model = resnet50()
    found = flops.ledger(model, (3, 224, 224)).forward_macs
    if found != 4_089_184_256:
        raise LeandnnError(f"ResNet50 was counted as {found} MACs, expected 4089184256")
    calls: dict[str, Callable[[], object]] = {"leandnn": lambda: flops.ledger(model, (3, 224, 224))}
    times = interleave(calls, repeats=repeats, warmup=1, label="ledger")
    case = {"what": "ledger", "net": "ResNet50"}
    return [row("autosparse", case, name, 1, t, 1.0, "ledgers") for name, t in times.items()]


def _trained(images: int) -> tuple[nn.Module, nn.Module]:
    """The shared net after two epochs of AutoSparse: with its own zeros, and hardened to blocks; both plain."""
    try:
        train = cifar.load("cifar10", "train", count=images)
    except LeandnnError:
        train = cifar.synthetic("train", images)
    test = cifar.synthetic("test", 100)
    nets = []
    for arm in ("autosparse", "hierarchical"):
        made = study.arm(arm, sparsity=SPARSITY)(Budget(2, images, 100), Scale(0), (train, test))
        result = loop.train(made.task, made.settings, made.hooks)
        method = made.hooks[0]
        assert isinstance(method, Learned)
        method.sparse.remove()
        nets.append(result.model.eval())
    return nets[0], nets[1]


def _thresholded() -> nn.Module:
    """VGG19 with thresholds set to the sparsity on its first weights: large layers, whose speed needs no training."""
    torch.manual_seed(0)
    model = VGG19()
    sparse = AutoSparse(model, Options(exclude=NETS["VGG19"][1], target=SPARSITY, every=1))
    sparse.update(1.0)
    return sparse.remove().eval()


def _inference(
    net: str, unstructured: nn.Module, blocks: nn.Module, batches: tuple[int, ...], repeats: int
) -> list[Row]:
    """Rows of a net with zeros anywhere and one to be cut to blocks, for every batch size."""
    nets = {
        "torch.dense": unstructured,
        "leandnn.csr": export.to_csr(copy.deepcopy(unstructured)),
        "leandnn": export.to_hierarchical(copy.deepcopy(blocks)),
    }
    shares = {name: 1.0 if name == "torch.dense" else _macs_left(model) for name, model in nets.items()}
    folded = {name: fold(model.eval()) for name, model in nets.items()}
    found = []
    for batch in batches:
        x = torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(2))
        x = x.contiguous(memory_format=torch.channels_last)
        for name, model in folded.items():
            with torch.no_grad():
                expected = to_dense(copy.deepcopy(nets[name]))(x)
                distance = float((model(x) - expected).norm() / expected.norm())
            if not distance <= 1e-3:
                raise LeandnnError(f"{name} computes another function: {distance:.2g} away, expected 1e-3")
        calls = {name: _call(model, x) for name, model in folded.items()}
        times = interleave(calls, repeats=repeats, label=f"inference {net}, batch {batch}")
        for name, t in times.items():
            case: dict[str, Any] = {
                "what": "inference",
                "net": net,
                "batch": batch,
                "macs": shares[name],
                "weight_bytes": export.weight_bytes(nets[name]),
            }
            found.append(row("autosparse", case, name, 1, t, batch, "images"))
    return found


def _macs_left(model: nn.Module) -> float:
    """The share of the multiply-adds that zeros leave."""
    counted = flops.ledger(model, (3, 32, 32))
    share: float = counted.inference_macs / counted.forward_macs
    return round(share, 4)


def _call(net: nn.Module, x: Tensor) -> Callable[[], object]:
    @torch.no_grad()
    def call() -> object:
        return net(x)

    return call


def rows(quick: bool) -> list[Row]:
    """Measured rows; leaves torch at one thread. Quick: fewer repeats, no VGG19, one batch, a sliver of data."""
    determinism.configure(seed=0, threads=1)
    repeats = 8 if quick else 40
    found = [r for net in NETS if not (quick and net == "VGG19") for r in _steps(net, repeats)]
    found += _ledger(5 if quick else 20)
    batches = (32,) if quick else (1, 32, 256)
    found += _inference("SmallVGG", *_trained(2560 if quick else 20_000), batches, repeats)
    if not quick:
        large = _thresholded()
        found += _inference("VGG19", large, large, (1, 32), repeats)
    return found


def summary(rows: list[Row]) -> str:
    """The overhead of a step, the ledger's time, and what exported nets gain beside what their FLOPs promise."""
    lines = []
    for mine in (r for r in rows if r["impl"] == "leandnn" and r["case"]["what"] == "step"):
        times = {r["impl"]: r["median_s"] for r in rows if r["case"] == mine["case"]}
        dense = times["torch.dense"]
        peers = [name for name in times if name not in ("leandnn", "torch.dense")]
        others = ", ".join(f"{name} {times[name] / dense:.3f}" for name in peers)
        lines.append(
            f"{mine['case']['net']}: AutoSparse step / dense step = {times['leandnn'] / dense:.3f}; "
            f"{others}; medians of n = {mine['n']}"
        )
    counting = next(r for r in rows if r["case"]["what"] == "ledger")
    lines.append(f"ledger of ResNet50: {counting['median_s']:.2f} s")
    inference = [r for r in rows if r["case"]["what"] == "inference"]
    for r in (r for r in inference if r["impl"] != "torch.dense"):
        same = [d for d in inference if all(d["case"][k] == r["case"][k] for k in ("net", "batch"))]
        base = next(d for d in same if d["impl"] == "torch.dense")
        ratio = base["median_s"] / r["median_s"]
        lines.append(
            f"{r['case']['net']} inference, batch {r['case']['batch']}, {r['impl']}: {ratio:.2f} × as fast as dense "
            f"where the MACs promise {1 / r['case']['macs']:.2f} ×; "
            f"{r['case']['weight_bytes'] / base['case']['weight_bytes']:.2f} of its bytes"
        )
    return "\n".join(lines)
