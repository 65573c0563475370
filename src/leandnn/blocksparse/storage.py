"""Patterns as small tensors and as safetensors files: a JSON header and the edges of G_o and G_i.

The header holds version, kind, sizes and the pattern's SHA-256, so a file that is not as written is refused.
Reading parses numbers and text; no code runs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from leandnn import paths
from leandnn.errors import LeandnnError
from leandnn.files import replacing
from leandnn.kernels.panels.format import Graph, Panels

if TYPE_CHECKING:
    from leandnn.blocksparse.pattern import Pattern

VERSION = 1
_KEY = "leandnn.pattern"  # of the header in a file's metadata


def _parts(pattern: Pattern) -> tuple[str, dict[str, Tensor]]:
    """The header, and the arrays as int32."""
    panels = pattern.panels
    header = {
        "version": VERSION,
        "kind": pattern.kind,
        "coarse": pattern.coarse,
        "cut": pattern.cut,
        "outer_right": panels.outer.right,
        "repeat": panels.repeat,
        "inner_right": panels.inner.right,
        "block": panels.block,
        "sha256": pattern.digest(),
    }
    arrays = {
        "outer_ptr": panels.outer.ptr,
        "outer_idx": panels.outer.idx,
        "inner_ptr": panels.inner.ptr,
        "inner_idx": panels.inner.idx,
    }
    tensors = {name: torch.from_numpy(array.astype(np.int32)) for name, array in arrays.items()}
    return json.dumps(header), tensors


def _pattern(text: str, tensors: dict[str, Tensor]) -> Pattern:
    """The inverse of `_parts`; ValueError, naming both values, for what that did not write."""
    from leandnn.blocksparse.pattern import Pattern

    header = _header(text)
    try:
        graphs = [
            Graph(
                header[f"{name}_right"],
                tensors[f"{name}_ptr"].cpu().numpy().astype(np.int64),
                tensors[f"{name}_idx"].cpu().numpy().astype(np.int64),
            )
            for name in ("outer", "inner")
        ]
        panels = Panels(graphs[0], tuple(header["repeat"]), graphs[1], tuple(header["block"]))
        coarse = tuple(tuple(size) for size in header["coarse"])
        pattern = Pattern(header["kind"], panels, coarse, header.get("cut", False))
        stored = header["sha256"]
    except (LookupError, TypeError) as error:
        raise ValueError(f"a field is missing or has the wrong type ({error})") from error
    if pattern.digest() != stored:
        raise ValueError(f"its SHA-256 is {pattern.digest()[:12]}…, expected {str(stored)[:12]}…")
    return pattern


def _header(text: str) -> dict[str, Any]:
    """The parsed header of a file of this version."""
    try:
        header = json.loads(text)
        version = header["version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"its header is {text[:40]!r}, expected JSON with a version") from error
    if version != VERSION:
        raise ValueError(f"it has format version {version!r}, this leandnn reads version {VERSION}")
    assert isinstance(header, dict)
    return header


def to_state(pattern: Pattern) -> dict[str, Tensor]:
    """The arrays (int32) and the header (its bytes as uint8)."""
    header, tensors = _parts(pattern)
    return {"header": torch.tensor(list(header.encode()), dtype=torch.uint8), **tensors}


def from_state(state: dict[str, Tensor]) -> Pattern:
    """What `to_state` gave; ValueError for anything else."""
    header = bytes(state["header"].to(torch.uint8).tolist()) if "header" in state else b""
    return _pattern(header.decode(errors="replace"), state)


def save(pattern: Pattern, path: Path) -> None:
    """Write the pattern as a safetensors file whose metadata hold the header, atomically."""
    header, tensors = _parts(pattern)
    with replacing(path) as stream:
        stream.write(safetensors.torch.save(tensors, metadata={_KEY: header}))


def load(path: Path) -> Pattern:
    """Read what `save` wrote; LeandnnError for a missing or damaged file or one of another version."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(_KEY, "")
            return _pattern(header, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise LeandnnError(f"{paths.relative(path)} is no pattern that can be read: {error}") from error
