"""Files that are either whole or not there: every writer of the package goes through `replacing`.

And folders that are seen to be writable before hours of work, not after them.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from leandnn.errors import LeandnnError
from leandnn.paths import relative


def unreadable(path: Path, error: OSError) -> LeandnnError:
    """What to tell a person when a file of theirs cannot be read."""
    return LeandnnError(f"{path} cannot be read: {error.strerror or error}")


def unwritable(target: Path, error: OSError) -> LeandnnError:
    """What to tell a person when `target` cannot be written."""
    return LeandnnError(
        f"{relative(target)} cannot be written ({error.strerror or error}): make {relative(target.parent)} "
        "a folder that you may write, with room on its disk, and run the command again"
    )


@contextmanager
def replacing(target: Path | str) -> Iterator[BinaryIO]:
    """A binary stream whose contents become `target` at once when the block ends well, and never in part.

    A file that is there keeps its mode; of a link, what it leads to is replaced. The `*.partial` file beside it is
    removed in every case (one that a killed process left, by a later call).

    LeandnnError where the folder or the disk refuses, and for a target that is no regular file; whatever else the
    block raises passes through.
    """
    named, target = Path(target), Path(os.path.realpath(target))
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    if target.exists() and not target.is_file():
        raise LeandnnError(f"{relative(named)} is no regular file, expected one, or nothing, in its place")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for leftover in target.parent.glob(f"{target.name}.*.partial"):
            if _is_abandoned(leftover):
                leftover.unlink(missing_ok=True)  # its process may just have finished
        with partial.open("wb") as stream:
            with suppress(FileNotFoundError):
                os.fchmod(stream.fileno(), stat.S_IMODE(target.stat().st_mode))
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(target)
    except OSError as error:
        raise unwritable(named, error) from error
    finally:
        with suppress(OSError):
            partial.unlink()


def _is_abandoned(partial: Path) -> bool:
    """Whether the process that was writing a partial file is gone, by the PID in its name."""
    try:
        os.kill(int(partial.name.split(".")[-2]), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except (ValueError, PermissionError):  # no PID; a process of somebody else
        pass
    return False


def must_be_writable(*folders: Path) -> None:
    """Make these folders and see that they can be written; LeandnnError names the first that cannot."""
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise LeandnnError(f"cannot write to {relative(folder)}: {error.strerror or error}") from error


def must_be_replaceable(target: Path) -> None:
    """Likewise for a folder that `swap` will replace: all of it has to be emptied, beside it lies the new one."""
    must_be_writable(*(path for path in (target, *target.rglob("*")) if path.is_dir()), target.parent)


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
