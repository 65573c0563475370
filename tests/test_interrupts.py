"""Ctrl-C in each stage's command: one sentence, status 130, nothing half-written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
import psutil
import pytest

from leandnn.cli import main, studies
from leandnn.report import notebooks

pytestmark = pytest.mark.slow

SENTENCE = "leandnn: stopped; run the same command again to go on from here"


def interrupt(repository: Path, arguments: list[str], ready: Callable[[], bool]) -> str:
    """Start a command, press Ctrl-C once `ready`, and return what it printed to stderr; no child may be left."""
    command = subprocess.Popen(
        [sys.executable, "-m", "leandnn", *arguments],
        cwd=repository,
        env={**os.environ, "LEANDNN_ROOT": str(repository)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A job that a shell started in the background ignores Ctrl-C, and its children would, too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not ready() and command.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert command.poll() is None, command.communicate()
    children = psutil.Process(command.pid).children(recursive=True)
    os.killpg(command.pid, signal.SIGINT)  # as a terminal does
    _, errors = command.communicate(timeout=30)
    # Where the signal struck inside exec, Python ends by it although it was caught; a shell says 130 for both.
    assert command.returncode in (130, -signal.SIGINT), errors
    assert errors.strip().splitlines()[-1] == SENTENCE, errors
    assert "Traceback" not in errors
    psutil.wait_procs(children, timeout=5)
    assert not [c for c in children if c.is_running() and c.status() != psutil.STATUS_ZOMBIE]
    return errors


def test_who_began_afresh_is_told_not_to_do_so_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(studies, "train", interrupted)
    assert main.main(["train", "bf16-vision", "--fresh"]) == 130
    sentence = "leandnn: stopped; run the same command again, without --fresh, to go on from here\n"
    assert capsys.readouterr().err == sentence


def test_training_stops_without_a_half_written_folder(repository: Path):
    arguments = ["train", "bf16-vision", "--profile", "smoke", "--set", "epochs=50"]
    interrupt(repository, arguments, lambda: bool(list((repository / "build").rglob("*.ckpt"))))
    assert not (repository / "runs" / "bf16" / "vision").exists()
    assert list((repository / "build" / "checkpoints").rglob("*.ckpt")), "what was trained is kept"


def test_a_report_stops_with_its_kernel_and_leaves_no_output(repository: Path):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(
        "import pathlib, time; pathlib.Path('../started').touch(); time.sleep(60)"
    )])  # fmt: skip
    source = repository / "notebooks" / "slow.ipynb"
    source.write_text(notebooks.to_text(notebooks.strip(notebook)))
    target = repository / "build" / "reports" / "slow"
    interrupt(repository, ["notebook", "run", str(source), str(target)], (repository / "started").exists)
    assert not target.exists()


def test_a_bench_stops_without_a_file(repository: Path):
    target = repository / "bench.json"
    start = time.monotonic()
    interrupt(
        repository, ["bench", "train-step", "--json", str(target)], lambda: time.monotonic() - start > 4
    )
    assert not target.exists()
