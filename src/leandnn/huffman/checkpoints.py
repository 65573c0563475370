"""A checkpoint of one of torchvision's classification nets, as the net itself."""

from __future__ import annotations

import difflib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from leandnn.errors import LeandnnError
from leandnn.files import unreadable
from leandnn.machine import libraries


def load(path: Path, arch: str = "alexnet", classes: int = 1000) -> nn.Module:
    """The net of a state dict, in eval mode.

    - path: .safetensors, or what torch.save wrote (read with weights_only: no code runs).
    - arch: a name in torchvision.models. classes: outputs of the net.

    Raises LeandnnError for a file that cannot be read, an unknown net, and for tensors whose names, shapes or types
    are not the net's.
    """
    net = _net(arch, classes)
    tensors = _tensors(path)
    expected = net.state_dict()
    for name, own in expected.items():
        if name not in tensors:
            near = difflib.get_close_matches(name, tensors, 1, 0)
            raise LeandnnError(
                f"{path.name} has no {name}, which {arch} has; nearest: {', '.join(near) or 'none'}"
            )
        found = tensors[name]
        if found.shape != own.shape:
            raise LeandnnError(f"{name} is {tuple(found.shape)} in {path.name}, expected {tuple(own.shape)}")
        if found.is_floating_point() != own.is_floating_point():
            raise LeandnnError(f"{name} is {found.dtype} in {path.name}, expected {own.dtype}")
    if extra := [name for name in tensors if name not in expected]:
        raise LeandnnError(f"{path.name} has {extra[0]}, which {arch} has not ({len(extra)} such tensors)")
    net.load_state_dict({name: tensors[name].to(own.dtype) for name, own in expected.items()})
    return net.eval().requires_grad_(False)


def _net(arch: str, classes: int) -> nn.Module:
    libraries.torchvision_operators()
    import torchvision

    names = torchvision.models.list_models(module=torchvision.models)
    if arch not in names:
        near = ", ".join(difflib.get_close_matches(arch, names, 3, 0))
        raise LeandnnError(f"torchvision.models has no net {arch!r}; nearest: {near}")
    if classes < 1:
        raise LeandnnError(f"--classes is {classes}, expected at least 1")
    return cast(nn.Module, torchvision.models.get_model(arch, weights=None, num_classes=classes))


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise unreadable(path, error) from error
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, ValueError, EOFError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise LeandnnError(f"{path.name} is no state dict of tensors: {reason}") from error
    if not isinstance(found, Mapping) or not all(isinstance(own, Tensor) for own in found.values()):
        raise LeandnnError(f"{path.name} holds {type(found).__name__}, expected a dict of tensors by name")
    return dict(found)
