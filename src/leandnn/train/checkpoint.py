"""Checkpoints with a digest: one is either whole and as written, or refused by name.

Layout of a checkpoint: 8 bytes of magic, 32 bytes SHA-256 of the rest, then a torch.save archive of plain
tensors and numbers that is read with weights_only=True, so loading never runs code.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leandnn import paths
from leandnn.errors import LeandnnError
from leandnn.files import replacing

if TYPE_CHECKING:
    from torch import nn

MAGIC = b"leandnn1"


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
