"""What happens to each call while a model is emulated: a rule per function that multiplies matrices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from leandnn.bf16.converters import (
    Converter,
    Converters,
    WorkingCopies,
    deterministic,
    first_seed,
    linear,
    operand,
    output,
    stochastic,
)
from leandnn.bf16.decompose import DECOMPOSED
from leandnn.bf16.policy import Policy

Rule = Callable[["EmulationMode", Any, tuple[Any, ...], dict[str, Any]], Any]
_OPERATORS = (torch._ops.OpOverloadPacket, torch._ops.OpOverload)  # how torch.ops.… calls arrive


class EmulationMode(TorchFunctionMode):
    """Calls the rule of each product that it sees; everything else passes."""

    def __init__(self, model: nn.Module, policy: Policy, step: int) -> None:
        super().__init__()
        self.policy, self.step = policy, step
        self.depth = 0  # of exempt modules that are running
        self.exempt: set[int] = set()  # parameters, by id
        self.drawn = 0  # converters that draw random bits
        roundings = [policy.of(role) for role in Converters._fields]
        self.drawing = any(r is not None and r.mode == "stochastic" for r in roundings)
        # Every product has the same, unless some draw random bits.
        self.fixed = Converters(*map(self.converter, Converters._fields))
        self.working = WorkingCopies(model.parameters(), self.converter("weights"))

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        rule = RULES.get(func)
        if rule is None and isinstance(func, _OPERATORS):
            rule = _operator_rule(func)
        if rule is None or self.depth:
            return func(*args, **kwargs) if kwargs else func(*args)
        return rule(self, func, args, kwargs or {})

    def converter(self, role: str) -> Converter | None:
        """A new converter of a role, with random bits of its own if it draws any."""
        rounding = self.policy.of(role)
        if rounding is None:
            return None
        if rounding.mode != "stochastic":
            return deterministic(rounding)
        self.drawn += 1
        return stochastic(rounding, first_seed(self.policy.seed, self.step, self.drawn))

    def converters(self, name: str) -> Converters:
        """What stands around the next product, a call of the function so named."""
        return Converters(*map(self.converter, Converters._fields)) if self.drawing else self.fixed

    def owns(self, x: Tensor) -> bool:
        """Whether x is a parameter of the model, or a view of one such as weight.t()."""
        base = x._base
        return id(x if base is None else base) in self.working.parameters

    def is_exempt(self, *factors: Tensor) -> bool:
        """Whether one of the factors is a parameter of an exempt module, or a view of one."""
        if not self.exempt:
            return False
        return any(id(x if x._base is None else x._base) in self.exempt for x in factors)


# --- rules -------------------------------------------------------------------------------------------------


def _positional(args: tuple[Any, ...], kwargs: dict[str, Any], names: tuple[str, ...]) -> list[Any]:
    """The arguments in order, those called `names` (which follow one another) taken out of kwargs."""
    found = list(args)
    for name in names:
        if name in kwargs:
            found.append(kwargs.pop(name))
    return found


def _is_float32(func: Any, x: Any) -> bool:
    """Whether x is float32; False of integers, which are never rounded; ValueError of another float."""
    if getattr(x, "dtype", None) is torch.float32:
        return True
    if isinstance(x, Tensor) and (x.is_floating_point() or x.is_complex()):
        raise ValueError(
            f"{func.__name__} has a factor of dtype {x.dtype}, expected torch.float32: emulated numbers are "
            "kept in float32 (is a half-precision model or autocast on?)"
        )
    return False


def _product(places: tuple[int, int], names: tuple[str, ...], *, weight: int | None = None) -> Rule:
    """The rule of a product of two factors.

    - places: of the factors among the positional arguments, whose names are `names`.
    - weight: the one of the two that is a weight, whatever it was computed from (a masked or normalised
      parameter is still a weight). None: a parameter of the model, or a view of one, is; the rest are
      activations.
    """

    def rule(mode: EmulationMode, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        found = _positional(args, kwargs, names)
        factors = found[places[0] : places[1] + 1]
        if len(factors) != 2:  # torch says what is missing
            return func(*found, **kwargs)
        if not all(_is_float32(func, x) for x in factors) or mode.is_exempt(*factors):
            return func(*found, **kwargs)
        q = mode.converters(func.__name__)
        for i, (place, x) in enumerate(zip(places, factors, strict=True)):
            is_weight = i == weight or mode.owns(x)
            found[place] = (
                operand(x, mode.working, q.weight_gradients)
                if is_weight
                else operand(x, q.activations_in, q.data_gradients)
            )
        product = func(*found, **kwargs)
        if product.dtype is not torch.float32:  # autocast has made a narrow product of it
            _is_float32(func, product)
        return output(product, q.activations_out, q.data_gradients)

    return rule


_LAYER = _product((0, 1), ("input", "weight"), weight=1)
_MATMUL = _product((0, 1), ("input", "other", "mat2", "vec"))
_ADDED = _product((1, 2), ("input", "mat1", "mat", "batch1", "mat2", "vec", "batch2"))


def _linear_rule(mode: EmulationMode, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    found = _positional(args, kwargs, ("input", "weight", "bias"))
    if len(found) < 2 or kwargs or found[1].dim() != 2:
        return _LAYER(mode, func, tuple(found), kwargs)
    x, w, *rest = found
    if mode.owns(x) or torch.is_autocast_enabled(x.device.type):
        return _LAYER(mode, func, tuple(found), kwargs)
    if not _is_float32(func, x) or not _is_float32(func, w) or mode.is_exempt(w):
        return func(*found)
    return linear(x, w, rest[0] if rest else None, mode.working, mode.converters("linear"))


def _einsum_rule(mode: EmulationMode, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    equation, *factors = args
    if len(factors) == 1 and isinstance(factors[0], list | tuple):
        factors = list(factors[0])
    if len(factors) == 1:  # a transposition or a sum
        return func(equation, *factors)
    if len(factors) != 2 or not isinstance(equation, str):
        raise NotImplementedError(
            f"BF16 emulation has a rule for einsum of an equation and two factors, not of {len(factors)}: "
            "write it as several products, so that it is plain what is rounded between them"
        )
    return _product((1, 2), ())(mode, func, (equation, *factors), kwargs)


def _embedding(place: int) -> Rule:
    """The rule of a look-up whose table is argument number `place`: the rows read are rounded."""

    def rule(mode: EmulationMode, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        found = _positional(args, kwargs, ("input", "weight") if place else ("weight", "indices"))
        if len(found) < 2 or not _is_float32(func, found[place]) or mode.is_exempt(found[place]):
            return func(*found, **kwargs)
        rows, gradients = mode.converter("embeddings"), mode.converter("weight_gradients")
        if gradients is not None:
            found[place] = operand(found[place], None, gradients)
        read = func(*found, **kwargs)
        return read if rows is None else output(read, rows, None)

    return rule


def _bag_rule(mode: EmulationMode, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A look-up that sums rows in FP32: the table is rounded as it is read."""
    found = _positional(args, kwargs, ("input", "weight"))
    if len(found) < 2 or not _is_float32(func, found[1]) or mode.is_exempt(found[1]):
        return func(*found, **kwargs)
    if kwargs.get("per_sample_weights", found[8] if len(found) > 8 else None) is not None:
        raise NotImplementedError(
            "BF16 emulation has no rule for embedding_bag with per_sample_weights: use embedding and a sum"
        )
    found[1] = operand(found[1], mode.converter("embeddings"), mode.converter("weight_gradients"))
    return func(*found, **kwargs)


def _panel_rule(mode: EmulationMode, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A product with a block-sparse weight (leandnn.kernels.panels): its values are factor 0, and a weight."""
    if len(args) < 5 or args[4]:
        raise NotImplementedError(
            "BF16 emulation has no rule for a block-sparse product with its ReLU inside: call relu after it"
        )
    return _PANELS(mode, func, args, kwargs)


_PANELS = _product((0, 1), (), weight=0)


def _decomposed_rule(mode: EmulationMode, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    with mode:  # torch has taken the mode off while it calls this: the products inside are to be seen
        return DECOMPOSED[func](*args, **kwargs)


def _refuse(mode: EmulationMode, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """For products without a rule. Passing them on would silently compute them in FP32."""
    name = f"torch.ops.{func}" if isinstance(func, _OPERATORS) else func.__name__
    raise NotImplementedError(f"BF16 emulation has no rule for {name}; it would stay FP32 unseen")


def _forget(mode: EmulationMode, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """For what may change a parameter without counting up its version: working copies are made anew."""
    mode.working.copies.clear()
    return func(*args, **kwargs)


_REFUSED = (
    (F, "bilinear"),
    (torch, "addr cdist chain_matmul conv_tbc convolution dot inner kron smm sspaddmm hspmm"),
    (torch, "matrix_power tensordot vdot _native_multi_head_attention _transformer_encoder_layer_fwd"),
    (torch.linalg, "matrix_power multi_dot vecdot"),
    (torch.sparse, "addmm mm"),
    (Tensor, "addr dot inner matrix_power vdot smm sspaddmm addbmm_ addmm_ addmv_ addr_ baddbmm_"),
)

RULES: dict[Any, Rule] = {
    F.linear: _linear_rule,
    **dict.fromkeys((torch.conv1d, torch.conv2d, torch.conv3d), _LAYER),
    **dict.fromkeys((F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d), _LAYER),
    **dict.fromkeys((torch.matmul, torch.mm, torch.bmm, torch.mv, torch.linalg.matmul), _MATMUL),
    **dict.fromkeys((Tensor.matmul, Tensor.mm, Tensor.bmm, Tensor.mv), _MATMUL),
    **dict.fromkeys((Tensor.__matmul__, Tensor.__rmatmul__), _MATMUL),
    **dict.fromkeys((torch.addmm, torch.baddbmm, torch.addbmm, torch.addmv), _ADDED),
    **dict.fromkeys((Tensor.addmm, Tensor.baddbmm, Tensor.addbmm, Tensor.addmv), _ADDED),
    torch.einsum: _einsum_rule,
    F.embedding: _embedding(1),
    torch.embedding: _embedding(0),
    F.embedding_bag: _bag_rule,
    **dict.fromkeys(DECOMPOSED, _decomposed_rule),
    Tensor.data.__get__: _forget,  # type: ignore[attr-defined]
    **{getattr(torch, f"_fused_{name}_"): _forget for name in ("sgd", "adam", "adamw", "adagrad")},
    **{getattr(place, name): _refuse for place, names in _REFUSED for name in names.split()},
}
_REFUSED_OPERATORS = frozenset(f"aten::{func.__name__}" for func in RULES)


def _operator_rule(func: Any) -> Rule | None:
    """The rule of an operator called as torch.ops.…; torch's own products are to be called by name."""
    name = getattr(func, "overloadpacket", func)._qualified_op_name
    if name in ("leandnn::panels_product", "leandnn::panels_conv2d"):
        return _panel_rule
    return _refuse if name in _REFUSED_OPERATORS else None
