"""Locks: who holds one is named, and a killed holder's is free at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from leandnn import paths
from leandnn.errors import LeandnnError
from leandnn.studies.locks import locked

HOLDER = """
import sys, time
from pathlib import Path
from leandnn import paths
from leandnn.studies.locks import locked
paths.LOCKS = Path(sys.argv[1])
with locked("a study", "it is run"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_names_its_holder_and_is_free_when_that_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(paths, "LOCKS", tmp_path / "locks")
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "locks")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LeandnnError, match=rf"^it is run by another process \(PID {holder.pid}\)"):
            locked("a study", "it is run").__enter__()
        with locked("another", "it is run"):
            pass
        holder.kill()
    with locked("a study", "it is run"), pytest.raises(LeandnnError, match="another process"):
        locked("a study", "it is run").__enter__()


def test_a_folder_that_takes_no_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(paths, "LOCKS", tmp_path / "file" / "locks")
    with pytest.raises(LeandnnError, match=r"cannot write .*a\.lock: Not a directory"):
        locked("a", "it is run").__enter__()
