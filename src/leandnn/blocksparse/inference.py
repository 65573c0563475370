"""Sparse nets made ready for inference: norms folded into the layers before them, ReLUs done by the kernels.

In eval mode a BatchNorm is a scale and a shift per channel, so it can be multiplied into the weights, and the panel
kernels can add the shift and cut at zero while a block of outputs is in registers. A sparse convolution is so fast
that these passes over its output would else take as long as the convolution.
"""

from __future__ import annotations

import copy
import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from leandnn.blocksparse.layers import BlockSparse, BlockSparseConv2d, BlockSparseLinear
from leandnn.kernels.panels import ops

_RELUS = (F.relu, torch.relu, torch.relu_)


class Folded(nn.Module):
    """A sparse layer whose values hold a norm's scale, and which may end in a ReLU; for inference only.

    - layer: what it is made from. norm: the BatchNorm2d after it, in eval mode, or None.
    - relu: whether negative outputs become zero.

    Values and bias are buffers: there is nothing to train here. Shapes are those of the layer.
    """

    values: Tensor
    bias: Tensor | None

    def __init__(
        self, layer: BlockSparseConv2d | BlockSparseLinear, norm: nn.BatchNorm2d | None = None
    ) -> None:
        super().__init__()
        self.layer_kind, self.pattern, self.relu = type(layer), layer.pattern, False
        if isinstance(layer, BlockSparseConv2d):
            self.window: dict[str, Any] = {
                "kernel_size": layer.kernel_size,
                "stride": layer.stride,
                "padding": layer.padding,
                "dilation": layer.dilation,
            }
        values = layer.values.detach().clone()
        bias = None if layer.bias is None else layer.bias.detach().clone()
        if norm is not None:
            scale, shift = _affine(norm)
            own = torch.zeros_like(scale) if bias is None else bias.float()
            values = (values.float() * self.pattern.gather(scale[:, None].expand(self.pattern.shape))).to(
                values.dtype
            )
            bias = (own * scale + shift).to(values.dtype)
        self.register_buffer("values", values)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """The layer, its norm and its ReLU at once."""
        plan = self.pattern.plan
        if self.layer_kind is BlockSparseLinear:
            return ops.linear(self.values, x, plan, self.bias, relu=self.relu)
        return ops.conv2d(self.values, x, plan, self.bias, relu=self.relu, **self.window)

    def extra_repr(self) -> str:
        """Pattern and what was folded."""
        return f"{self.pattern}, bias={self.bias is not None}, relu={self.relu}"


def _affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """(scale, shift), float32, of a norm in eval mode."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None and variance is not None
    scale = torch.rsqrt(variance.float() + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight.detach().float()
    shift = -mean.float() * scale
    if norm.bias is not None:
        shift = shift + norm.bias.detach().float()
    return scale, shift


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, BlockSparse) or super().is_leaf_module(m, module_qualified_name)


def fold(model: nn.Module) -> fx.GraphModule:
    """A copy of a model for inference: BatchNorm2d folded into convolutions, ReLUs into sparse layers.

    - model: in eval mode, of a forward method that torch.fx can trace (no control flow on tensors); it is left as
      it is. Norms after dense convolutions are folded too, by torch's own function; a norm without running
      statistics stays.

    Outputs are those of the model up to rounding. Raises ValueError for a model in training mode, and what
    torch.fx raises for one that it cannot trace.
    """
    if model.training:
        raise ValueError(
            "the model is in training mode, expected eval mode: norms are folded as they are now"
        )
    own = copy.deepcopy(model)
    graph = _Tracer().trace(own)
    traced = fx.GraphModule(own, graph)
    modules = dict(traced.named_modules())
    uses: dict[str, int] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            uses[node.target] = uses.get(node.target, 0) + 1

    def before(node: fx.Node, *kinds: type[nn.Module]) -> Any:
        """The module of these kinds whose output goes to `node` and nowhere else, None if there is none."""
        source = node.args[0] if node.args else None
        if not isinstance(source, fx.Node) or source.op != "call_module" or len(source.users) != 1:
            return None
        found = modules[str(source.target)]
        return found if isinstance(found, kinds) and uses[str(source.target)] == 1 else None

    def replace(node: fx.Node, module: nn.Module) -> None:
        """Let the layer before `node` be `module`, and `node` vanish."""
        source = node.args[0]
        assert isinstance(source, fx.Node)
        parent, _, name = str(source.target).rpartition(".")
        setattr(traced.get_submodule(parent), name, module)
        modules[str(source.target)] = module
        node.replace_all_uses_with(source)
        graph.erase_node(node)

    for node in list(graph.nodes):
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            if (sparse := before(node, BlockSparseConv2d)) is not None:
                replace(node, Folded(sparse, module))
            elif (dense := before(node, nn.Conv2d)) is not None:
                replace(node, fuse_conv_bn_eval(dense, module))
        elif _is_relu(node, module):
            layer = before(node, Folded, BlockSparseConv2d, BlockSparseLinear)
            if layer is not None:
                folded = layer if isinstance(layer, Folded) else Folded(layer)
                folded.relu = True
                replace(node, folded)
    graph.lint()
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced.eval()


def _is_relu(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a node is a ReLU: a module, a function, or a tensor's method."""
    if node.op == "call_function":
        return any(operator.is_(node.target, relu) for relu in _RELUS)
    return isinstance(module, nn.ReLU) or (node.op == "call_method" and node.target in ("relu", "relu_"))
