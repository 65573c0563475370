"""`leandnn write`: text follows runs and records; it never trains."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from leandnn import paths
from leandnn.cli import write
from leandnn.errors import LeandnnError
from leandnn.report import readme

STALE = {"train-bf16@vision": [{"changed deps": {"build/digests/bf16-vision.json": "modified"}}]}
TEXT = {"report-tour": [{"changed deps": {"build/notebooks/00_tour.ipynb": "modified"}}]}


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The DVC commands that were given, none of which runs."""
    given: list[tuple[str, ...]] = []
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path)
    monkeypatch.setattr(write.verdicts, "compute", lambda root: [])
    monkeypatch.setattr(readme, "write", lambda results: given.append(("README",)))
    monkeypatch.setattr(write, "_dvc", lambda *a: given.append(a) or json.dumps(TEXT))
    return given


def test_text_is_made_by_the_report_stages_then_the_readme(asked: list[tuple[str, ...]], tmp_path: Path):
    notebook = {"cells": [], "metadata": {"widgets": {}}, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "a.ipynb").write_text(json.dumps(notebook))
    assert write.main() == 0
    assert asked == [
        ("repro", "--quiet", "digests"),
        ("status", "--json"),
        ("repro", "summary"),
        ("README",),
    ]
    assert "widgets" not in (tmp_path / "a.ipynb").read_text()


def test_a_stale_training_is_refused_with_both_remedies(
    asked: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(write, "_dvc", lambda *a: asked.append(a) or json.dumps(TEXT | STALE))
    with pytest.raises(LeandnnError, match="train-bf16@vision would run.*leandnn prove.*dvc repro"):
        write.main()
    assert asked == [("repro", "--quiet", "digests"), ("status", "--json")]


def test_a_dvc_command_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)  # where there is no dvc.yaml
    with pytest.raises(LeandnnError, match="dvc repro --quiet digests ended with [0-9]+, expected 0"):
        write._dvc("repro", "--quiet", "digests")
