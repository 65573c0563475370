"""Libraries that need help before they can be imported."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any


@functools.cache
def torchvision_operators() -> str:
    """Make `import torchvision` work, and say how: "compiled" or "schemas only".

    A torchvision built for CUDA cannot load its operators beside a CPU torch, and its import then fails while
    it registers meta kernels for two operators that do not exist. Declaring their schemas first mends that;
    it is done only when the operators did not load. Call this before the first `import torchvision`.
    """
    import torch

    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("torchvision is not installed")
    library = next(Path(spec.origin).parent.glob("_C*.so"), None)
    if library is not None:
        try:
            torch.ops.load_library(str(library))
            return "compiled"
        except OSError:
            pass
    schemas = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        schemas.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _kept.append(schemas)  # a Library undoes its definitions when it is collected
    return "schemas only"


_kept: list[Any] = []
