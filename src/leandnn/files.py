"""Files that are either whole or not there: every writer of the package goes through `replacing`."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from leandnn.errors import LeandnnError
from leandnn.paths import relative

_LEFTOVER_SECONDS = 3600.0  # a partial file this old belongs to no living process


def unwritable(target: Path, error: OSError) -> LeandnnError:
    """What to tell a person when `target` cannot be written."""
    return LeandnnError(
        f"{relative(target)} cannot be written ({error.strerror or error}): make {relative(target.parent)} "
        "a folder that you may write, with room on its disk, and run the command again"
    )


@contextmanager
def replacing(target: Path) -> Iterator[BinaryIO]:
    """A binary stream whose contents become `target` at once when the block ends well, and never in part.

    LeandnnError where the folder or the disk refuses; whatever else the block raises passes through. The
    `*.partial` file is removed in every case (one that a killed process left, by a later call).
    """
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for leftover in target.parent.glob(f"{target.name}.*.partial"):
            if leftover.is_file() and time.time() - leftover.stat().st_mtime > _LEFTOVER_SECONDS:
                leftover.unlink(missing_ok=True)
        with partial.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(target)
    except OSError as error:
        raise unwritable(target, error) from error
    finally:
        with suppress(OSError):
            partial.unlink()


def swap(fresh: Path, target: Path, old: Path) -> None:
    """Put the folder `fresh` in the place of `target`, which goes; `target` comes back if that fails.

    - old: an unused name beside `target`, for the moment in between.

    OSError passes through.
    """
    if target.exists():
        target.rename(old)
    try:
        fresh.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as stream:
        stream.write(text.encode())


def write_json(path: Path, data: Any) -> None:
    """Write JSON atomically: sorted keys, two spaces, NaN refused (ValueError), a final newline."""
    write_text(path, json.dumps(data, indent=2, sort_keys=True, allow_nan=False) + "\n")
