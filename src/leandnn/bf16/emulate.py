"""BF16 training emulated on FP32 tensors (the role of the paper's Quantlib).

A BF16 value is an FP32 value whose lower half is zero, and the product of two of them is exact in FP32. So
rounding the operands of an FP32 product to BF16 gives what BF16 hardware with FP32 accumulation gives, up to
the order of summation. A torch-function mode intercepts the GEMM-class functions while a model runs: no
module is edited, functional calls are seen too, and autograd carries the rounding to the backward pass.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from leandnn.bf16.mode import EmulationMode
from leandnn.bf16.policy import Policy
from leandnn.errors import LeandnnError

_running = threading.local()


@contextmanager
def emulate(model: nn.Module, policy: Policy, *, step: int = 0) -> Iterator[nn.Module]:
    """Run `model` (and any functional calls inside the block) with every product rounded as `policy` says.

    - model: any module. Weights are its parameters (and views of them) and whatever a linear or convolution
      function gets as its weight. All other factors are activations. A parameter's working copy is rounded
      once, and again when the parameter has changed (in place, as every optimizer does it).
    - policy: formats by role; Policy.fp32() changes nothing. Exempt are the products with a parameter of an
      exempt module, and whatever runs inside that module's forward.
    - step: of the stochastic modes: the random bits are a function of the policy's seed, of this number and
      of the calls' order.

    Wrap the forward pass (and the loss); the backward pass may run inside or outside. All tensors stay
    float32. Recurrent cells and layers and torch's attention are written out in products (decompose.py), whose
    results are rounded like any others. A model that recomputes activations (torch.utils.checkpoint) needs
    `context_fn=lambda: (nullcontext(), emulate(model, policy))` there and its backward pass outside the
    block, or its second forward pass is FP32 (and a stochastic policy draws anew for it).

    Raises NotImplementedError at a product it has no rule for, ValueError at a factor that is not float32 and
    for an exempt name that no module has, LeandnnError inside another emulate(). Code that torch.jit or
    torch.compile has compiled, and other threads, are not seen.
    """
    if policy.rounds_products:
        with running(model, EmulationMode(model, policy, step)):
            yield model
    else:
        with _alone():
            yield model


@contextmanager
def _alone() -> Iterator[None]:
    if getattr(_running, "inside", False):
        raise LeandnnError(
            "emulate() is called inside another emulate() block, expected outside of it (Policy.exempt keeps a "
            "part of the model in FP32)"
        )
    _running.inside = True
    try:
        yield
    finally:
        _running.inside = False


def exempt_modules(model: nn.Module, policy: Policy) -> list[nn.Module]:
    """The modules that the policy names; ValueError, with all names there are, if one name fits none."""
    found = []
    for pattern in policy.exempt:
        named = [module for name, module in model.named_modules() if name and fnmatchcase(name, pattern)]
        if not named:
            names = ", ".join(name for name, _ in model.named_modules() if name) or "none"
            raise ValueError(f"exempt module {pattern!r} does not exist, the model has: {names}")
        found += named
    return found


@contextmanager
def running(model: nn.Module, mode: EmulationMode) -> Iterator[None]:
    """The block of emulate(), for a given mode; it knows what belongs to the policy's exempt modules."""

    def enter(*_: Any) -> None:
        mode.depth += 1

    def leave(*_: Any) -> None:
        mode.depth -= 1

    with _alone(), ExitStack() as stack:
        for module in exempt_modules(model, mode.policy):
            mode.exempt |= {id(p) for p in module.parameters()}
            # First in, last out: nothing that fails in between leaves the count wrong.
            stack.callback(module.register_forward_pre_hook(enter, prepend=True).remove)
            stack.callback(module.register_forward_hook(leave, always_call=True).remove)
        stack.enter_context(mode)
        yield
