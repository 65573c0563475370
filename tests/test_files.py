"""Files that are either whole or not there: modes, links, and what is no file."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from leandnn import files
from leandnn.errors import LeandnnError


def test_an_error_while_writing_leaves_the_old_file_and_no_other(tmp_path: Path):
    path = tmp_path / "file.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        files.write_json(path, {"a": float("nan")})
    with pytest.raises(RuntimeError), files.replacing(str(path)) as stream:
        stream.write(b"half")
        raise RuntimeError
    assert path.read_text() == '{\n  "a": 1\n}\n'
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755, 0o444])
def test_a_file_keeps_its_mode_and_a_new_one_has_the_usual(tmp_path: Path, mode: int):
    usual = tmp_path / "usual"
    usual.touch()
    path = tmp_path / "file"
    files.write_text(path, "old")
    assert path.stat().st_mode == usual.stat().st_mode
    path.chmod(mode)
    files.write_text(path, "new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_of_a_link_what_it_leads_to_is_written(tmp_path: Path):
    (tmp_path / "far").mkdir()
    first, second, target = tmp_path / "first", tmp_path / "second", tmp_path / "far" / "file"
    first.symlink_to("second")
    second.symlink_to("far/file")
    for text in ("made", "replaced"):
        files.write_text(first, text)
        assert target.read_text() == text
        assert first.is_symlink()
        assert second.is_symlink()
    assert sorted(tmp_path.rglob("*")) == sorted([first, second, target, target.parent])


def test_what_is_no_regular_file_is_refused_and_stays(tmp_path: Path):
    folder, pipe, link, loop = (tmp_path / name for name in ("folder", "pipe", "link", "loop"))
    folder.mkdir()
    os.mkfifo(pipe)
    link.symlink_to(os.devnull)
    loop.symlink_to(loop)
    for path in (folder, pipe, link):
        with pytest.raises(LeandnnError, match=rf"{path.name} is no regular file, expected one, or nothing"):
            files.write_text(path, "x")
    with pytest.raises(LeandnnError, match="loop cannot be written"):
        files.write_text(loop, "x")
    assert sorted(tmp_path.iterdir()) == sorted([folder, pipe, link, loop])
