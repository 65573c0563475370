"""Dense models to block-sparse ones and back, layer by layer."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping

from torch import nn

from leandnn.blocksparse.layers import BlockSparse, BlockSparseConv2d, BlockSparseLinear
from leandnn.blocksparse.pattern import Pattern

Rule = Callable[[str, nn.Module], Pattern | None]


def convert(model: nn.Module, rule: Rule | Mapping[str, Pattern]) -> nn.Module:
    """Replace nn.Linear and nn.Conv2d layers by block-sparse ones of the same weights inside a pattern.

    - model: any module; changed in place, like torch's own conversions do. Make optimizers afterwards: the
      parameters of converted layers are new.
    - rule: called as rule(name, module) once for every module of the model; the pattern (out × in, or
      out_channels × in_channels·kh·kw) to convert it to, or None to leave it. Or a dict of names and patterns.

    Returns the model; or the new layer, if the model itself is a layer that was converted. A layer used in
    several places stays one. If an error is raised the model is unchanged.

    Raises ValueError, naming the layer, for a dict's name that the model does not have, and where a pattern is
    given for: another kind of layer or a subclass, a convolution with groups or other than zero padding, a
    weight of another shape or dtype, a parameter tied to another layer's, a layer with hooks, or twice
    differently for one shared layer.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    if isinstance(rule, Mapping):
        if unknown := sorted(set(rule) - set(modules)):
            near = difflib.get_close_matches(unknown[0], modules, cutoff=0)
            raise ValueError(f"the model has no {', '.join(unknown)}; near {unknown[0]}: {', '.join(near)}")
        patterns = dict(rule)
    else:
        asked = {name: rule(name, module) for name, module in model.named_modules()}
        patterns = {name: pattern for name, pattern in asked.items() if pattern is not None}
    replacements: dict[nn.Module, tuple[str, BlockSparse]] = {}
    for name, pattern in patterns.items():
        module = modules[name]
        if module not in replacements:
            try:
                _check(module, model)
                replacements[module] = name, _block_sparse(module, pattern)
            except ValueError as error:
                raise ValueError(f"cannot convert {name or 'the model'}: {error}") from error
        first, layer = replacements[module]
        if layer.pattern != pattern:
            raise ValueError(
                f"{first} and {name} are one layer, with two patterns: {layer.pattern}; {pattern}"
            )
    return _replaced(model, {module: layer for module, (_, layer) in replacements.items()})


def to_dense(model: nn.Module) -> nn.Module:
    """The inverse of `convert`, in place: every block-sparse layer becomes the dense one that computes the same.

    Returns the model; or the new layer, if the model itself is a block-sparse layer.
    """
    sparse = [module for module in model.modules() if isinstance(module, BlockSparse)]
    return _replaced(model, {module: module.to_dense() for module in sparse})


def _block_sparse(module: nn.Module, pattern: Pattern) -> BlockSparse:
    """The block-sparse layer for a dense one; ValueError for a kind of layer that has none."""
    if type(module) is nn.Linear:
        return BlockSparseLinear.from_dense(module, pattern)
    if type(module) is nn.Conv2d:
        return BlockSparseConv2d.from_dense(module, pattern)
    raise ValueError(f"it is a {type(module).__name__}, expected Linear or Conv2d")


def _check(module: nn.Module, model: nn.Module) -> None:
    """ValueError for a layer that a new one cannot stand for: tied to others, or with hooks."""
    own = {id(parameter) for parameter in module.parameters(recurse=False)}
    for name, other in model.named_modules():
        if other is not module and any(id(p) in own for p in other.parameters(recurse=False)):
            raise ValueError(f"its parameters are tied to those of {name or 'the model'}")
    hooks = (
        module._forward_pre_hooks,
        module._forward_hooks,
        module._backward_pre_hooks,
        module._backward_hooks,
    )
    if any(hooks):
        raise ValueError("it has hooks, which would be lost: remove them first")


def _replaced(model: nn.Module, replacements: Mapping[nn.Module, nn.Module]) -> nn.Module:
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child is not None and child in replacements:
                setattr(parent, name, replacements[child])
    return replacements.get(model, model)
