"""Locks between processes that the system releases when their holder dies, however it dies."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import filelock

from leandnn import paths
from leandnn.errors import LeandnnError


@contextmanager
def locked(name: str, busy: str) -> Iterator[None]:
    """Hold the lock `name` (a file in build/locks) for the block.

    - busy: what the holder is doing, for the message, e.g. "the run x is being trained".

    Raises LeandnnError at once if another process holds it, or where the system can hold no locks.
    """
    path = paths.LOCKS / (re.sub(r"[^A-Za-z0-9._-]", "-", name) + ".lock")
    # Never a lock that is a mere file: that would outlive a killed holder.
    lock = filelock.FileLock(path, blocking=False, fallback_to_soft=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        path.write_text(f"{os.getpid()}\n")
    except filelock.Timeout as error:
        holder = path.read_text(errors="replace").strip() or "unknown"
        raise LeandnnError(f"{busy} by another process (PID {holder}); wait for it or stop it") from error
    except OSError as error:
        lock.release()
        raise LeandnnError(f"cannot write {paths.relative(path)}: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()
