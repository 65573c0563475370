"""Atomic files with a digest: a checkpoint is either whole and as written, or refused by name.

Layout of a checkpoint: 8 bytes of magic, 32 bytes SHA-256 of the rest, then a torch.save archive of plain
tensors and numbers that is read with weights_only=True, so loading never runs code.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from leandnn import paths
from leandnn.errors import LeandnnError

if TYPE_CHECKING:
    from torch import nn

MAGIC = b"leandnn1"


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open `path` for writing under a temporary name; it takes its name when the block ends well.

    On an error nothing is left. A file that cannot be written gives a LeandnnError.
    """
    partial = path.with_name(path.name + f".{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError as error:
        raise LeandnnError(f"cannot write {paths.relative(path)}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as stream:
        stream.write(text.encode())


def write_json(path: Path, data: Any) -> None:
    """Write JSON atomically: sorted keys, two spaces, NaN refused, a final newline."""
    write_text(path, json.dumps(data, indent=2, sort_keys=True, allow_nan=False) + "\n")


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (nested dicts and lists of tensors, numbers, text) atomically with its digest."""
    import torch

    # Through memory: torch.save puts the file's own name into the archive, so equal states would differ.
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getbuffer()
    with replacing(path) as stream:
        stream.write(MAGIC)
        stream.write(hashlib.sha256(payload).digest())
        stream.write(payload)


def load(path: Path) -> dict[str, Any]:
    """Read what `save` wrote, onto the CPU.

    A damaged file is moved aside to `<name>.corrupt` and reported as a LeandnnError with both digests, so
    that the rerun starts afresh and the evidence is kept.
    """
    import torch

    try:
        content = path.read_bytes()
    except OSError as error:
        raise LeandnnError(f"cannot read {paths.relative(path)}: {error.strerror}") from error
    head, stored, payload = content[:8], content[8:40], content[40:]
    found = hashlib.sha256(payload).digest()
    try:
        if head != MAGIC or stored != found:
            raise ValueError
        state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except (ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        aside = path.with_name(path.name + ".corrupt")
        path.replace(aside)
        raise LeandnnError(
            f"checkpoint {paths.relative(path)} is corrupt (SHA-256 {found.hex()[:12]}…, expected "
            f"{stored.hex()[:12]}…); it was moved to {aside.name}, run the command again to start afresh"
        ) from error
    return state


def weights_sha256(model: nn.Module) -> str:
    """SHA-256 over names and bytes of all parameters and buffers, in order: the identity of a trained net."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        flat = tensor.detach().to("cpu", memory_format=torch.contiguous_format).contiguous().reshape(-1)
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
