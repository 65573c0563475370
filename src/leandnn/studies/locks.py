"""Locks between processes that the system releases when their holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from leandnn import paths
from leandnn.errors import LeandnnError


@contextmanager
def locked(name: str, busy: str) -> Iterator[None]:
    """Hold the lock `name` (a file in build/locks) for the block.

    - busy: what the holder is doing, for the message, e.g. "the run x is being trained".

    Raises LeandnnError at once if another process holds it.
    """
    path = paths.LOCKS / (re.sub(r"[^A-Za-z0-9._-]", "-", name) + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise LeandnnError(f"cannot write {paths.relative(path)}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(handle, 32, 0).decode(errors="replace").strip() or "unknown"
            raise LeandnnError(f"{busy} by another process (PID {holder}); wait for it or stop it") from error
        try:
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            raise LeandnnError(f"cannot write {paths.relative(path)}: {error.strerror}") from error
        yield
    finally:
        os.close(handle)  # releases the lock; the file stays, since removing it would race with a waiter
