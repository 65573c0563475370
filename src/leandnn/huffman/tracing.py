"""The program of a model, by torch.fx."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import fx, nn

from leandnn.errors import LeandnnError
from leandnn.huffman.program import FUNCTIONS, METHODS, MODULES, Ref, Step

_NAMES = {function: name for name, function in FUNCTIONS.items()}


class _Tracer(fx.Tracer):
    def __init__(self, leaves: tuple[type, ...]) -> None:
        super().__init__()
        self.leaves = leaves

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        known = MODULES.get(type(m).__name__)
        return isinstance(m, self.leaves) or (known is not None and type(m) is known[0])


def trace(model: nn.Module, leaves: tuple[type, ...]) -> tuple[Step, ...]:
    """The steps of a model in eval mode.

    - leaves: further classes of modules that are one step each.

    Raises LeandnnError, naming the reason, for a model whose forward pass depends on its data, or that calls what
    the tables of this module do not have.
    """
    if isinstance(model, leaves):
        return (
            Step("input", "x", (), {}),
            Step("module", "", (Ref(0),), {}),
            Step("output", "", (Ref(1),), {}),
        )
    for name, module in model.named_modules():
        if module._forward_hooks or module._forward_pre_hooks:
            raise LeandnnError(f"{name or 'the model'} has a hook, which no file can hold")
    was_training, before = model.training, set(vars(model))
    model.eval()
    try:
        graph = _Tracer(leaves).trace(model)
    except Exception as error:  # whatever the model's own code raises when it is traced
        raise LeandnnError(f"the model cannot be traced by torch.fx: {error}") from error
    finally:
        model.train(was_training)
        for name in set(vars(model)) - before:  # tensors that the tracer met and keeps there
            delattr(model, name)
    numbers: dict[fx.Node, int] = {}
    steps: list[Step] = []
    for node in graph.nodes:
        numbers[node] = len(steps)
        args = tuple(_to_refs(argument, numbers) for argument in node.args)
        kwargs = {key: _to_refs(value, numbers) for key, value in node.kwargs.items()}
        steps.append(_step(model, node, args, kwargs))
    if sum(step.kind == "input" for step in steps) != 1:
        raise LeandnnError("the model takes several inputs, expected one")
    return tuple(steps)


def _step(model: nn.Module, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Step:
    if node.op == "placeholder" and not node.args:
        return Step("input", str(node.target), (), {})
    if node.op == "call_module":
        return Step("module", str(node.target), args, kwargs)
    if node.op == "call_function" and node.target in _NAMES:
        return Step("function", _NAMES[node.target], args, kwargs)
    if node.op == "call_method" and node.target in METHODS:
        return Step("method", str(node.target), args, kwargs)
    if node.op == "output":
        return Step("output", "", args, kwargs)
    name = getattr(node.target, "__name__", node.target)
    raise LeandnnError(f"the model's {node.op} of {name} is none that a file can name")


def _to_refs(argument: Any, numbers: Mapping[fx.Node, int]) -> Any:
    if isinstance(argument, fx.Node):
        return Ref(numbers[argument])
    if isinstance(argument, (list, tuple)):
        return type(argument)(_to_refs(item, numbers) for item in argument)
    if isinstance(argument, slice):
        return slice(*(_to_refs(item, numbers) for item in (argument.start, argument.stop, argument.step)))
    if argument is None or isinstance(argument, (bool, int, str)):
        return argument
    if isinstance(argument, float) and math.isfinite(argument):
        return argument
    raise LeandnnError(f"the model has an argument {argument!r} that a file cannot hold")
