"""The nets of the RBGP bench and their convolutions, dense and with sparse layers, the same weights every time."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from leandnn.blocksparse import Pattern, convert
from leandnn.blocksparse.inference import fold
from leandnn.models.vgg import VGG19
from leandnn.models.wide_resnet import WideResNet
from leandnn.rbgp.sparsify import plan

NETS: dict[str, Callable[[], nn.Module]] = {"VGG19": VGG19, "WRN-40-4": functools.partial(WideResNet, 40, 4)}
PATTERNS = ("rbgp4", "block4x4", "unstructured")


@dataclass(frozen=True)
class Shape:
    """A convolution and its input's side."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    side: int

    def __str__(self) -> str:
        stride = f"/{self.stride}" if self.stride != 1 else ""
        return f"{self.inputs}→{self.outputs} {self.kernel}×{self.kernel}{stride} on {self.side}×{self.side}"

    def module(self) -> nn.Conv2d:
        """The dense convolution, with the same weights every time."""
        torch.manual_seed(0)
        return nn.Conv2d(
            self.inputs, self.outputs, self.kernel, self.stride, padding=self.kernel // 2, bias=False
        )


def dense(net: str) -> nn.Module:
    """A net of NETS in eval mode, with the same weights every time."""
    torch.manual_seed(0)
    return NETS[net]().eval()


def shapes(net: str) -> dict[Shape, list[str]]:
    """The convolutions of a net but the first, by shape, with the layers' names."""
    model, found = dense(net), dict[Shape, list[str]]()

    def note(name: str, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        sizes = (module.in_channels, module.out_channels, module.kernel_size[0], module.stride[0])
        found.setdefault(Shape(*sizes, inputs[0].shape[2]), []).append(name)

    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and module.in_channels > 3:
            module.register_forward_hook(functools.partial(note, name))
    with torch.inference_mode():
        model(torch.zeros(1, 3, 32, 32))
    return found


def patterns(model: nn.Module, kind: str, sparsity: float) -> dict[str, Pattern]:
    """A pattern of that kind (PATTERNS) for every layer that has an RBGP4 one, by name; sparsity in percent."""
    if kind not in PATTERNS:
        raise ValueError(f"pattern {kind!r} is unknown, expected one of {', '.join(PATTERNS)}")
    generator = torch.Generator().manual_seed(0)
    found = plan(model, sparsity / 100, dense=[] if len(list(model.modules())) == 1 else None).patterns
    if kind == "block4x4":
        return {
            name: Pattern.random_blocks(*p.shape, (4, 4), p.sparsity, generator) for name, p in found.items()
        }
    if kind == "unstructured":
        return {
            name: Pattern.random_unstructured(*p.shape, p.sparsity, generator) for name, p in found.items()
        }
    return found


def sparse(net: str, kind: str, sparsity: float, *, folded: bool = True) -> nn.Module:
    """A net of NETS with sparse layers, in eval mode; norms and ReLUs folded if wanted."""
    model = dense(net)
    convert(model, patterns(model, kind, sparsity))
    return fold(model) if folded else model
