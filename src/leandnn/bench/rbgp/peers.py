"""What RBGP4 layers and nets are compared with: torch's dense convolutions, oneDNN's own, torch's CSR and BSR."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from leandnn.blocksparse.inference import fold

Call = Callable[[], Tensor]
_LAST = torch.channels_last


class OneDnnConv2d(nn.Module):
    """A dense convolution by oneDNN with its weight packed once for one shape of input, and a ReLU if wanted.

    - convolution: what it stands for; shape: of its input. Inputs are channels-last, or made so.

    It is what torch.compile calls on a CPU; torch's own layers pack the weight at every call.
    """

    def __init__(self, convolution: nn.Conv2d, shape: torch.Size) -> None:
        super().__init__()
        assert isinstance(convolution.padding, tuple)
        self.sizes = [list(s) for s in (convolution.padding, convolution.stride, convolution.dilation)]
        self.bias = convolution.bias
        self.relu = False
        weight = convolution.weight.detach().to(memory_format=_LAST)
        self.packed = torch.ops.mkldnn._reorder_convolution_weight(weight, *self.sizes, 1, list(shape))

    def forward(self, x: Tensor) -> Tensor:
        """The convolution of a channels-last batch."""
        after = "relu" if self.relu else "none"
        found: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, self.packed, self.bias, *self.sizes, 1, after, [], ""
        )
        return found


def onednn(model: nn.Module, x: Tensor) -> fx.GraphModule:
    """A dense net in eval mode with norms folded, weights packed and ReLUs fused: FP32 as fast as oneDNN has it.

    - x: a batch of the shape that it is to run on.
    """
    traced = fold(model)
    shapes: dict[str, torch.Size] = {}

    def note(name: str) -> Callable[[nn.Module, Any], None]:
        return lambda module, inputs: shapes.update({name: inputs[0].shape})

    convolutions = {n: m for n, m in traced.named_modules() if isinstance(m, nn.Conv2d)}
    handles = [module.register_forward_pre_hook(note(name)) for name, module in convolutions.items()]
    with torch.inference_mode():
        traced(x)
    for handle in handles:
        handle.remove()
    packed = {name: OneDnnConv2d(module, shapes[name]) for name, module in convolutions.items()}
    for name, module in packed.items():
        parent, _, own = name.rpartition(".")
        setattr(traced.get_submodule(parent), own, module)
    for node in list(traced.graph.nodes):
        source = node.args[0] if node.args else None
        is_relu = node.target in (F.relu, torch.relu) or (
            node.op == "call_module" and isinstance(traced.get_submodule(str(node.target)), nn.ReLU)
        )
        if (
            is_relu
            and isinstance(source, fx.Node)
            and len(source.users) == 1
            and str(source.target) in packed
        ):
            packed[str(source.target)].relu = True
            node.replace_all_uses_with(source)
            traced.graph.erase_node(node)
    traced.recompile()
    return traced


def dense_nets(model: nn.Module, x: Tensor) -> dict[str, Call]:
    """Implementation → a forward pass of a dense net in eval mode on x (contiguous)."""
    last, folded, packed = copy.deepcopy(model).to(memory_format=_LAST), fold(model), onednn(model, x)  # type: ignore[call-overload]
    x_last = x.to(memory_format=_LAST)

    def autocast() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            found: Tensor = last(x_last)
            return found

    return {
        "torch.dense": lambda: model(x),
        "torch.dense (channels last)": lambda: last(x_last),
        "torch.dense (folded)": lambda: folded(x),
        "onednn (folded, prepacked)": lambda: packed(x_last),
        "torch.autocast (bf16)": autocast,
    }


def dense_layers(convolution: nn.Conv2d, x: Tensor) -> dict[str, Call]:
    """Implementation → a dense convolution of x (contiguous)."""
    x_last, packed = x.to(memory_format=_LAST), OneDnnConv2d(convolution, x.shape)
    last = copy.deepcopy(convolution).to(memory_format=_LAST)  # type: ignore[call-overload]
    return {
        "torch.conv2d": lambda: convolution(x),
        "torch.conv2d (channels last)": lambda: last(x_last),
        "onednn (prepacked)": lambda: packed(x_last),
    }


def library_layer(convolution: nn.Conv2d, x: Tensor, block: tuple[int, int] = (1, 1)) -> Call:
    """The convolution of a sparse weight by torch's CSR product, or BSR where it has blocks.

    The products are MKL's. It has no sparse convolution, so patches are unfolded first, which is part of the time.
    """
    weight = convolution.weight.detach().flatten(1)
    with warnings.catch_warnings():  # torch calls its sparse layouts a beta at every use
        warnings.simplefilter("ignore")
        sparse = weight.to_sparse_csr() if block == (1, 1) else weight.to_sparse_bsr(block)
    window = {name: getattr(convolution, name) for name in ("dilation", "padding", "stride")}
    side = (x.shape[2] - 1) // convolution.stride[0] + 1

    def call() -> Tensor:
        patches = F.unfold(x, convolution.kernel_size, **window)  # N × K × pixels
        flat = sparse @ patches.transpose(0, 1).reshape(patches.shape[1], -1)
        return flat.view(-1, x.shape[0], side, side).transpose(0, 1)

    return call
