"""Patterns as small tensors and as safetensors files: a JSON header and the edges of G_o and G_i.

The header holds version, kind, sizes and the pattern's SHA-256, so a file that is not as written is refused.
Reading parses numbers and text; no code runs. `Pattern` has all of it as methods.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from leandnn import paths
from leandnn.errors import LeandnnError
from leandnn.files import replacing
from leandnn.kernels.panels.format import Graph, Panels

VERSION = 1
_KEY = "leandnn.pattern"  # of the header in a file's metadata
_P = TypeVar("_P")
Sizes = tuple[tuple[int, int], ...]


class Fields(NamedTuple):
    """What a `Pattern` is made of; see there."""

    kind: str
    panels: Panels
    coarse: Sizes
    cut: bool

    def digest(self) -> str:
        """SHA-256 of kind, factors and levels: the same on every machine."""
        outer, inner = self.panels.outer, self.panels.inner
        sizes = (self.kind, self.coarse, outer.right, self.panels.repeat, inner.right, self.panels.block)
        digest = hashlib.sha256(json.dumps((*sizes, "cut") if self.cut else sizes).encode())
        for array in (outer.ptr, outer.idx, inner.ptr, inner.idx):
            digest.update(array.size.to_bytes(8, "little") + array.astype("<i8").tobytes())
        return digest.hexdigest()


Build = Callable[[str, Panels, Sizes, bool], _P]  # a pattern from its fields; ValueError if none is


def _parts(fields: Fields) -> tuple[str, dict[str, Tensor]]:
    """The header, and the arrays as int32."""
    panels = fields.panels
    header = {
        "version": VERSION,
        "kind": fields.kind,
        "coarse": fields.coarse,
        "cut": fields.cut,
        "outer_right": panels.outer.right,
        "repeat": panels.repeat,
        "inner_right": panels.inner.right,
        "block": panels.block,
        "sha256": fields.digest(),
    }
    arrays = {
        "outer_ptr": panels.outer.ptr,
        "outer_idx": panels.outer.idx,
        "inner_ptr": panels.inner.ptr,
        "inner_idx": panels.inner.idx,
    }
    tensors = {name: torch.from_numpy(array.astype(np.int32)) for name, array in arrays.items()}
    return json.dumps(header), tensors


def _built(text: str, tensors: dict[str, Tensor], build: Build[_P]) -> _P:
    """The inverse of `_parts`; ValueError, naming both values, for what that did not write."""
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
        fields = Fields(header["kind"], panels, coarse, header.get("cut", False))
        pattern, found, expected = build(*fields), fields.digest(), header["sha256"]
    except (LookupError, TypeError) as error:
        raise ValueError(f"a field is missing or has the wrong type ({error})") from error
    if found != expected:
        raise ValueError(f"its SHA-256 is {found[:12]}…, expected {str(expected)[:12]}…")
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


def to_state(fields: Fields) -> dict[str, Tensor]:
    """The arrays (int32) and the header (its bytes as uint8)."""
    header, tensors = _parts(fields)
    return {"header": torch.tensor(list(header.encode()), dtype=torch.uint8), **tensors}


def from_state(state: dict[str, Tensor], build: Build[_P]) -> _P:
    """What `to_state` gave, built; ValueError for anything else."""
    header = bytes(state["header"].to(torch.uint8).tolist()) if "header" in state else b""
    return _built(header.decode(errors="replace"), state, build)


def save(fields: Fields, path: Path) -> None:
    """Write a safetensors file whose metadata hold the header, atomically."""
    header, tensors = _parts(fields)
    with replacing(path) as stream:
        stream.write(safetensors.torch.save(tensors, metadata={_KEY: header}))


def load(path: Path, build: Build[_P]) -> _P:
    """What `save` wrote, built; LeandnnError for a missing or damaged file or one of another version."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(_KEY, "")
            return _built(header, {name: file.get_tensor(name) for name in file.keys()}, build)  # noqa: SIM118
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise LeandnnError(f"{paths.relative(path)} is no pattern that can be read: {error}") from error
