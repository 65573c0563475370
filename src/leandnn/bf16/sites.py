"""Where one training step rounds, tensor by tensor, and what each rounding does to the values."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from leandnn.bf16.converters import Converter
from leandnn.bf16.emulate import exempt_modules, running
from leandnn.bf16.mode import RULES, EmulationMode
from leandnn.bf16.policy import Policy, Rounding
from leandnn.bf16.site_report import Place, SiteReport, Tally
from leandnn.bf16.update import MasterWeights

Optimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
_ROOT = "(model)"  # the name of what runs in no named module
# Of each role, what its converter is given: pass, and tensor at the first and at further calls.
_TENSORS = {
    "weights": ("forward", "w", "w"),
    "activations_in": ("forward", "x", "x"),
    "activations_out": ("forward", "y", "y"),
    "data_gradients": ("backward", "dy", "dx"),
    "weight_gradients": ("backward", "dw", "dw"),
    "embeddings": ("forward", "w", "w"),
}


def rounding_sites(
    model: nn.Module,
    inputs: Any,
    policy: Policy | None = None,
    *,
    loss: Callable[[Any], Tensor] | None = None,
    optimizer: Optimizer | None = None,
    step: int = 0,
) -> SiteReport:
    """Every place where a training step of `model` rounds: one step is made on a copy, and counted.

    - model: any module; neither it nor its gradients, buffers or torch's random generators are changed.
    - inputs: what it is called with: a tuple of arguments, or the one argument (a named tuple or a packed
      sequence is one).
    - policy: Policy.paper() if None.
    - loss: from the model's result to a scalar; the mean square of its (first) tensor if None.
    - optimizer: from parameters to an optimizer, for the update; SGD with a learning rate of 0.1 if None. It
      shows in the table only if the policy rounds master weights.
    - step: of the stochastic modes, as emulate has it.

    Returns one row per place: pass (forward, backward, update), module that was running, function called
    (for the update, the parameter), tensor (factors w and x, result y, gradients dy, dx, dw), role and
    rounding. A weight's working copy is listed where it is first used. Recurrent layers come to the same
    places at each time step; their counts are added up.

    Raises what emulate raises, and ValueError for a policy that is none, a model with parts that torch.jit has
    compiled (no rounding could be seen there), an empty batch, and a loss that is no scalar or that no gradient comes
    back from.
    """
    policy = Policy.paper() if policy is None else policy
    if not isinstance(policy, Policy):
        raise ValueError(f"policy is {policy!r}, expected a Policy such as Policy.paper()")
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise ValueError(
                f"module {name or _ROOT} is compiled by torch.jit, expected Python code: what it rounds cannot be seen"
            )
    model = copy.deepcopy(model)
    parameters = list(model.parameters())
    args = _own(inputs) if type(inputs) is tuple else (_own(inputs),)
    for x in args:
        if isinstance(x, Tensor) and x.dim() and not x.shape[0]:
            raise ValueError(
                f"the batch is empty: an input has shape {tuple(x.shape)}, expected at least one item"
            )
    devices = sorted({p.device.index or 0 for p in parameters if p.is_cuda})
    with torch.random.fork_rng(devices), torch.enable_grad():
        master = _master(model, policy)
        model.zero_grad(set_to_none=True)
        recorder = _Recorder(model, policy, step)
        with _naming(model, recorder), running(model, recorder):
            value = (loss or _mean_square)(model(*args))
        if not isinstance(value, Tensor) or value.numel() != 1:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"the loss is {shape}, expected a scalar tensor")
        if not value.requires_grad:
            raise ValueError("the loss needs no gradient, expected one of parameters that are trained")
        value.backward()
        if master is not None:
            _update(master, recorder, optimizer or (lambda p: torch.optim.SGD(p, lr=0.1)), parameters)
    return SiteReport.of(recorder.tallies, recorder.first)


class _Recorder(EmulationMode):
    """An emulation whose converters count what they do, by place."""

    def __init__(self, model: nn.Module, policy: Policy, step: int) -> None:
        self.modules, self.operation = [_ROOT], ""
        self.tallies: dict[Place, Tally] = {}
        self.first: Place | None = None  # whose result held an infinity or NaN
        super().__init__(model, policy, step)
        self.drawing = True  # each product gets converters of its own, which know where they stand

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in RULES or isinstance(func, torch._ops.OpOverloadPacket | torch._ops.OpOverload):
            self.operation = func.__name__.strip("_").split(".")[0]
        return super().__torch_function__(func, types, args, kwargs)

    def converter(self, role: str) -> Converter | None:
        convert, rounding = super().converter(role), self.policy.of(role)
        if convert is None or rounding is None:
            return None
        stage, tensor, later = _TENSORS[role]
        module, operation = self.modules[-1], self.operation

        def counting(x: Tensor, out: Tensor | None = None) -> Tensor:
            nonlocal tensor
            before = x.detach().clone() if out is x else x.detach()
            rounded = convert(x, out)
            # One converter makes all working copies: it stands where it is called.
            at = (self.modules[-1], self.operation) if role == "weights" else (module, operation)
            self.count(Place(stage, *at, tensor, role, rounding), before, rounded.detach())
            tensor = later
            return rounded

        return counting

    def count(self, place: Place, before: Tensor, after: Tensor, lost: int | None = None) -> None:
        """Add one rounding to a place's counts."""
        tally = self.tallies.setdefault(place, Tally())
        tally.add(before, after, place.rounding, lost)
        if self.first is None and tally.non_finite:
            self.first = place


@contextmanager
def _naming(model: nn.Module, recorder: _Recorder) -> Iterator[None]:
    """Have the recorder know which module is running."""

    def enter(name: str) -> Callable[..., None]:
        return lambda *_: recorder.modules.append(name or _ROOT)

    def leave(*_: Any) -> None:
        recorder.modules.pop()

    with ExitStack() as stack:
        for name, module in model.named_modules():
            stack.callback(module.register_forward_pre_hook(enter(name), prepend=True).remove)
            stack.callback(module.register_forward_hook(leave, always_call=True).remove)
        yield


def _master(model: nn.Module, policy: Policy) -> MasterWeights | None:
    if policy.master_weights is None:
        return None
    exempt = {p for module in exempt_modules(model, policy) for p in module.parameters()}
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad and p not in exempt}
    return MasterWeights(trained, policy.master_weights, policy.seed)


def _update(
    master: MasterWeights, recorder: _Recorder, optimizer: Optimizer, parameters: list[nn.Parameter]
) -> None:
    """Make the update and count what rounding the master weights does to it."""
    master.keep()
    optimizer(parameters).step()
    before = {name: p.detach().clone() for name, p in master.parameters.items()}
    master.round(0)
    rounding: Rounding = master.rounding
    for name, p in master.parameters.items():
        module, _, parameter = name.rpartition(".")
        place = Place("update", module or _ROOT, parameter, "w", "master_weights", rounding)
        recorder.count(place, before[name], p.detach(), master.lost[name])


def _own(value: Any) -> Any:
    """The value, tensors copied, also those in lists, tuples (named and packed ones too) and dictionaries."""
    if isinstance(value, Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad)
    if isinstance(value, dict):
        own = copy.copy(value)
        own.update({key: _own(v) for key, v in value.items()})
        return own
    if hasattr(value, "_fields"):  # a named tuple: its fields are arguments of their own
        return type(value)(*(_own(v) for v in value))
    if isinstance(value, list | tuple):
        return type(value)(_own(v) for v in value)
    return value


def _mean_square(result: Any) -> Tensor:
    while isinstance(result, list | tuple) and result:
        result = result[0]
    if not isinstance(result, Tensor):
        raise ValueError(f"the model returns {type(result).__name__}, expected a tensor (or give a loss)")
    return result.square().mean()
