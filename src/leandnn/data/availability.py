"""Whether a source can be had: what is there and unaltered, and what is only a reason to try the next one."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

from leandnn.errors import LeandnnError
from leandnn.paths import relative

_CHUNK = 1 << 20


class Unavailable(Exception):
    """This source cannot be had here and now, for the reason in the message; the next one may."""


class Absent(Unavailable):
    """Nobody put this archive into data/raw: the usual case, so not worth a line."""


def present(path: Path, algorithm: str, expected: str, size: int, name: str) -> Path:
    """`path`, if it is there and unaltered.

    - algorithm, expected, size: the digest's kind, its hex digits and the file's bytes.
    - name: of the data set, for the command in the message.

    Absent if it is not there; LeandnnError if it cannot be read or differs.
    """
    try:
        with path.open("rb") as stream:
            found = file_digest(stream, algorithm)
    except FileNotFoundError:
        raise Absent(f"{relative(path)} is not there") from None
    except OSError as error:
        raise LeandnnError(
            f"{relative(path)} cannot be read ({error.strerror}): make it readable or move it away, then run "
            f"`leandnn data fetch {name}`"
        ) from error
    if found != expected:
        raise LeandnnError(
            f"{relative(path)} is truncated or altered: it has {path.stat().st_size} bytes and {algorithm} "
            f"{found}, expected {size} bytes and {expected}: delete it, then run `leandnn data fetch {name}`"
        )
    return path


def file_digest(stream: BinaryIO, algorithm: str) -> str:
    """Hex digest of what is left in the stream."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    while chunk := stream.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()
