"""What a model computes, as data: a list of calls of known modules and functions.

Made from a model by torch.fx; kept in a .lhuf file as JSON; run by a loop over the list. Nothing of a file is ever
executed as code: it names entries of the tables below, or the file is refused.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from leandnn.errors import LeandnnError

# Kinds of modules beside the coded layers, and the arguments that make one. Their tensors are in the file.
MODULES: dict[str, tuple[type[nn.Module], tuple[str, ...]]] = {
    cls.__name__: (cls, tuple(arguments.split()))
    for cls, arguments in (
        (nn.Linear, "in_features out_features bias"),
        (
            nn.Conv2d,
            "in_channels out_channels kernel_size stride padding dilation groups bias padding_mode",
        ),
        (nn.BatchNorm1d, "num_features eps momentum affine track_running_stats"),
        (nn.BatchNorm2d, "num_features eps momentum affine track_running_stats"),
        (nn.LayerNorm, "normalized_shape eps elementwise_affine bias"),
        (nn.GroupNorm, "num_groups num_channels eps affine"),
        (nn.LocalResponseNorm, "size alpha beta k"),
        (nn.MaxPool2d, "kernel_size stride padding dilation return_indices ceil_mode"),
        (nn.AvgPool2d, "kernel_size stride padding ceil_mode count_include_pad divisor_override"),
        (nn.AdaptiveAvgPool2d, "output_size"),
        (nn.AdaptiveMaxPool2d, "output_size return_indices"),
        (nn.ZeroPad2d, "padding"),
        (nn.Flatten, "start_dim end_dim"),
        (nn.Dropout, "p inplace"),
        (nn.Dropout2d, "p inplace"),
        (nn.ReLU, "inplace"),
        (nn.ReLU6, "inplace"),
        (nn.LeakyReLU, "negative_slope inplace"),
        (nn.ELU, "alpha inplace"),
        (nn.SiLU, "inplace"),
        (nn.Hardswish, "inplace"),
        (nn.Hardsigmoid, "inplace"),
        (nn.GELU, "approximate"),
        (nn.Sigmoid, ""),
        (nn.Tanh, ""),
        (nn.Softmax, "dim"),
        (nn.LogSoftmax, "dim"),
        (nn.Identity, ""),
    )
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "flatten": torch.flatten,
    "cat": torch.cat,
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "truediv": operator.truediv,
    "floordiv": operator.floordiv,
    "iadd": operator.iadd,
    "getitem": operator.getitem,
    "torch_add": torch.add,
    "torch_mul": torch.mul,
    "mean": torch.mean,
    "relu": F.relu,
    "torch_relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softmax": F.softmax,
    "log_softmax": F.log_softmax,
    "gelu": F.gelu,
    "silu": F.silu,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "transpose": torch.transpose,
    "dropout": F.dropout,
    "max_pool2d": F.max_pool2d,
    "avg_pool2d": F.avg_pool2d,
    "adaptive_avg_pool2d": F.adaptive_avg_pool2d,
}
METHODS = (
    "flatten",
    "view",
    "reshape",
    "size",
    "mean",
    "add",
    "mul",
    "permute",
    "transpose",
    "chunk",
    "contiguous",
    "relu",
)


@dataclass(frozen=True)
class Ref:
    """The result of step number `step`."""

    step: int


@dataclass(frozen=True)
class Step:
    """One call: what is called ("input", "module", "function", "method", "output"), its name, its arguments.

    Arguments are Refs, numbers, strings, None, slices, lists and tuples of them.
    """

    kind: str
    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class Program(nn.Module):
    """Steps over modules; torch frees what no later step needs.

    - steps: the last one is the output. modules: by the names that the steps use.

    Raises LeandnnError for steps that do not fit together.
    """

    def __init__(self, steps: tuple[Step, ...], modules: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.steps = steps
        # Not registered under their dotted names, which nn.Module does not take; the model's own tree holds them.
        self._named = dict(modules)
        self._last: list[int] = [0] * len(steps)
        kinds = [step.kind for step in steps]
        if kinds.count("input") != 1 or kinds[-1:] != ["output"] or kinds.count("output") != 1:
            raise LeandnnError("a program has one input and ends with its one output, this one does not")
        tables = {"module": list(modules), "function": list(FUNCTIONS), "method": list(METHODS)}
        for number, step in enumerate(steps):
            known = tables.get(step.kind, [step.name])
            if step.kind not in ("input", "module", "function", "method", "output") or step.name not in known:
                raise LeandnnError(f"step {number} calls the {step.kind} {step.name!r}, which does not exist")
            for ref in refs((step.args, step.kwargs)):
                if not 0 <= ref.step < number:
                    raise LeandnnError(
                        f"step {number} uses the result of step {ref.step}, which is not before it"
                    )
                self._last[ref.step] = number

    def forward(self, x: torch.Tensor) -> Any:
        """Run the steps."""
        return self._run([None] * len(self.steps), 0, x)

    def _run(self, results: list[Any], begin: int, x: torch.Tensor) -> Any:
        """The last of `results`, whose steps are run from `begin` on; each goes when no later step needs it."""
        for number in range(begin, len(results)):
            step = self.steps[number]
            results[number] = self.run_step(step, results, x)
            for ref in refs((step.args, step.kwargs)):
                if self._last[ref.step] == number:
                    results[ref.step] = None
        return results[-1]

    def run_step(self, step: Step, results: list[Any], x: torch.Tensor) -> Any:
        """One step's result; `results` has those before it, `x` is the input."""
        args = _filled(step.args, results)
        kwargs = {key: _filled(value, results) for key, value in step.kwargs.items()}
        if step.kind == "input":
            return x
        if step.kind == "module":
            return self._named[step.name](*args, **kwargs)
        if step.kind == "function":
            return FUNCTIONS[step.name](*args, **kwargs)
        if step.kind == "method":
            return getattr(args[0], step.name)(*args[1:], **kwargs)
        return args[0]

    def cuts(self) -> list[int]:
        """The steps, input and output among them, after which their own result alone is needed: where a plan can cut.

        In a chain all steps; in a residual net the ends of its blocks.
        """
        first = next(number for number, step in enumerate(self.steps) if step.kind == "input")
        found, oldest = list[int](), len(self.steps)  # oldest: the earliest result that the steps behind use
        for number in range(len(self.steps) - 1, first - 1, -1):
            if oldest >= number:
                found.append(number)
            step = self.steps[number]
            oldest = min([oldest, *(ref.step for ref in refs((step.args, step.kwargs)))])
        return found[::-1]

    def part(self, begin: int, end: int) -> Callable[[torch.Tensor], Any]:
        """The call that makes the result of step `end` from that of step `begin`; both are of `cuts`."""

        def call(x: torch.Tensor) -> Any:
            results: list[Any] = [None] * (end + 1)
            results[begin] = x
            return self._run(results, begin + 1, x)

        return call

    def with_modules(self, replacements: Mapping[nn.Module, nn.Module]) -> Program:
        """The same steps over other modules."""
        named = {name: replacements.get(module, module) for name, module in self._named.items()}
        return Program(self.steps, named)

    def module(self, step: Step) -> nn.Module | None:
        """The module that a step calls."""
        return self._named[step.name] if step.kind == "module" else None


def refs(argument: Any) -> Iterator[Ref]:
    """All Refs inside an argument."""
    if isinstance(argument, Ref):
        yield argument
    elif isinstance(argument, (list, tuple)):
        for item in argument:
            yield from refs(item)
    elif isinstance(argument, Mapping):
        yield from refs(list(argument.values()))
    elif isinstance(argument, slice):
        yield from refs([argument.start, argument.stop, argument.step])


def _filled(argument: Any, results: list[Any]) -> Any:
    if isinstance(argument, Ref):
        return results[argument.step]
    if isinstance(argument, (list, tuple)):
        return type(argument)(_filled(item, results) for item in argument)
    if isinstance(argument, slice):
        return slice(*(_filled(item, results) for item in (argument.start, argument.stop, argument.step)))
    return argument


def to_json(steps: tuple[Step, ...]) -> list[Any]:
    """The steps as JSON can hold them."""
    return [[step.kind, step.name, _encoded(step.args), _encoded(dict(step.kwargs))] for step in steps]


def from_json(data: Any) -> tuple[Step, ...]:
    """The inverse; LeandnnError for anything else."""
    try:
        steps = []
        for kind, name, args, kwargs in data:
            if not isinstance(kind, str) or not isinstance(name, str):
                raise TypeError("a step's kind and name are strings")
            decoded = tuple(_decoded(args)), {str(k): _decoded(v) for k, v in kwargs["dict"].items()}
            steps.append(Step(kind, name, *decoded))
        return tuple(steps)
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise LeandnnError(f"the program is broken: {error}") from error


def _encoded(argument: Any) -> Any:
    if isinstance(argument, Ref):
        return {"step": argument.step}
    if isinstance(argument, tuple):
        return {"tuple": [_encoded(item) for item in argument]}
    if isinstance(argument, list):
        return [_encoded(item) for item in argument]
    if isinstance(argument, dict):
        return {"dict": {key: _encoded(value) for key, value in argument.items()}}
    if isinstance(argument, slice):
        return {"slice": [_encoded(item) for item in (argument.start, argument.stop, argument.step)]}
    return argument


def _decoded(data: Any) -> Any:
    if isinstance(data, list):
        return [_decoded(item) for item in data]
    if isinstance(data, dict):
        ((kind, content),) = data.items()
        if kind == "step" and type(content) is int:
            return Ref(content)
        if kind == "tuple":
            return tuple(_decoded(item) for item in content)
        if kind == "slice":
            return slice(*(_decoded(item) for item in content))
        raise ValueError(f"an argument is a {kind!r}")
    return data
