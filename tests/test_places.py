"""The same answers wherever it runs: odd paths, the C locale, one CPU, a parent that is process 1, other users."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
import torch
from tests.data import jpegs

ROOT = Path(__file__).parents[1]
C_LOCALE = {"LANG": "C", "LC_ALL": "C"}


def environment(**changes: str) -> dict[str, str]:
    """Ours without what says how Python reads and writes text, or where the repository is."""
    ours = {
        name: text for name, text in os.environ.items() if not name.startswith(("PYTHON", "LC_", "LEANDNN_"))
    }
    return {**ours, **changes}


def answer_of(code: str, *arguments: str, **changes: str) -> str:
    """What a fresh Python, which takes warnings for errors, prints when it runs `code`."""
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    done = subprocess.run(
        command, env=environment(**changes), capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy that `tools/setup` installed in the C locale, in a path with a space and umlauts.

    The libraries are those of these tests, and the kernels are left out: neither download nor compiler runs.
    """
    root = tmp_path_factory.mktemp("Für Größe") / "leandnn"
    left_out = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src", root / "src", ignore=left_out)
    for folder in ("tools", "reference", "studies"):
        shutil.copytree(ROOT / folder, root / folder)
    for path in ROOT.iterdir():
        if path.is_file() and path.name != ".git":
            shutil.copy(path, root)
    venv.create(root / ".venv", symlinks=True)
    [packages] = (root / ".venv" / "lib").glob("python3*/site-packages")
    (packages / "tests.pth").write_text(str(Path(torch.__file__).parents[1]), encoding="utf-8")
    (root / ".venv" / ".place").write_text(str(root), encoding="utf-8")
    lock = hashlib.sha256((root / "requirements.lock").read_bytes()).hexdigest()
    (root / ".venv" / ".lock").write_text(lock, encoding="utf-8")
    setup = [str(root / "tools" / "setup")]
    said = environment(**C_LOCALE, SKBUILD_WHEEL_CMAKE="0")
    done = subprocess.run(setup, env=said, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return root


def said_by(clone: Path, *command: str, **changes: str) -> str:
    """What a program of the clone's .venv prints."""
    done = subprocess.run(
        [str(clone / ".venv" / "bin" / command[0]), *command[1:]],
        cwd=clone.parent,
        env=environment(**changes),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_path_with_a_space_and_umlauts_runs_in_the_c_locale(clone: Path):
    claims = said_by(clone, "leandnn", "claims", **C_LOCALE)
    assert claims == said_by(clone, "leandnn", "claims", LC_ALL="C.UTF-8")
    assert "bf16-vision" in claims and not claims.isascii()


@pytest.mark.slow
def test_a_path_with_a_space_and_umlauts_makes_speech(clone: Path):
    code = (
        "from leandnn.data.speech_synthesis import script, speaking\n"
        "with speaking() as voice: print(len(voice.say(script('test', 0))))"
    )
    assert int(said_by(clone, "python", "-c", code, **C_LOCALE)) > 1000


@pytest.mark.slow
def test_one_cpu_is_asked_for_no_more_than_one_worker(tmp_path: Path):
    """torch warns where a loader asks for more workers than there are CPUs."""
    code = (
        "import os, sys; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from pathlib import Path; from leandnn.data.imagenet import Batches, scan\n"
        "train, _ = scan(Path(sys.argv[1]))\n"
        "print(len(list(Batches(train, 32, size=16, augment=True, seed=3, workers=4).epoch(0))))"
    )
    assert answer_of(code, str(jpegs.write(tmp_path / "imagenet"))) == "2\n"


ADOPTED = """
import os, sys, time
starter = os.getpid()
if os.fork():
    os._exit(0)
while os.getppid() == starter:  # until process 1, or who stands for it, adopts this one
    time.sleep(0.01)
from pathlib import Path
from leandnn.files import write_text
from leandnn.studies.pool import die_with_parent
die_with_parent()
write_text(Path(sys.argv[1]), "written")
"""


def test_a_process_whose_parent_is_process_1_works_on(tmp_path: Path):
    """As in a container: a living stranger's partial file stays, a dead process's goes."""
    target = tmp_path / "text"
    stranger, dead = subprocess.Popen(["sleep", "60"]), subprocess.Popen(["true"])
    try:
        dead.wait()
        for process in (stranger, dead):
            target.with_name(f"text.{process.pid}.partial").touch()
        said = answer_of(ADOPTED, str(target))  # ends when the adopted process closes its output, too
        assert target.read_text(encoding="utf-8") == "written", said
        assert sorted(p.name for p in tmp_path.iterdir()) == ["text", f"text.{stranger.pid}.partial"]
    finally:
        stranger.kill()
        stranger.wait()
