"""Proofs, from the edit to the ledger, in a clone of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from leandnn import paths

pytestmark = pytest.mark.slow

Command = Callable[..., "subprocess.CompletedProcess[str]"]
LOOP = "src/leandnn/train/loop.py"
SCHEDULES = "src/leandnn/train/schedules.py"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory, cifar_file: Path) -> Path:
    """The working tree as a commit of a repository of its own, with a tiny run of one arm as its evidence."""
    root = tmp_path_factory.mktemp("clone")
    for name in ("src", "tools", "studies"):
        shutil.copytree(paths.ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for name in (
        "CMakeLists.txt",
        "pyproject.toml",
        "params.yaml",
        "dvc.yaml",
        "LICENSE",
        "README.md",
        ".gitignore",
    ):
        shutil.copy(paths.ROOT / name, root)
    (root / "studies" / "proofs.jsonl").write_text("")
    (root / "data" / "prepared").mkdir(parents=True)
    (root / "data" / "prepared" / "cifar10.safetensors").symlink_to(cifar_file)
    git(root, "init", "--quiet")
    commit(root, "before")
    made = leandnn(root, "train", "hbsnn-patterns", "--set", "epochs=1", "--set", "seeds=0",
                   "--set", "train_examples=384", "--set", "test_examples=100")  # fmt: skip
    assert made.returncode == 0, made.stderr
    return root


def git(root: Path, *arguments: str) -> None:
    own = ["-c", "user.name=n", "-c", "user.email=e@e", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", root, *own, *arguments], check=True, capture_output=True)


def commit(root: Path, message: str) -> None:
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", message)


def leandnn(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The clone's own code; -S leaves the editable install of this one out."""
    libraries = [path for path in sys.path if path.endswith("site-packages")]
    environment = {
        **os.environ, "LEANDNN_ROOT": str(root), "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(root / "src"), *libraries]), "PYTHONWARNINGS": "ignore",
    }  # fmt: skip
    code = "import sys; from leandnn.cli.main import main; sys.exit(main(sys.argv[1:]))"
    # A worker is started by sys.executable, which would find the installed package: a wrapper keeps -S.
    command = [sys.executable, "-S", "-c", code, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def edit(root: Path, file: str, text: str, other: str) -> None:
    path = root / file
    before = path.read_text()
    assert text in before
    path.write_text(before.replace(text, other))


@pytest.fixture(autouse=True)
def undone(clone: Path) -> None:
    """Every test begins with the committed source."""
    git(clone, "checkout", "--quiet", "--", "src", "studies")


def test_a_comment_needs_no_proof(clone: Path):
    edit(clone, LOOP, "import dataclasses\n", "import dataclasses  # words\n")
    answer = leandnn(clone, "prove")
    assert (answer.returncode, answer.stdout) == (
        0,
        "nothing to prove: every arm does what its evidence did\n",
    )


def test_a_renamed_local_is_proved_in_miniature(clone: Path):
    edit(clone, LOOP, "share", "part_done")
    answer = leandnn(clone, "prove")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "hbsnn-patterns/hierarchical: proved equal in miniature" in answer.stdout
    proof = json.loads((clone / "studies" / "proofs.jsonl").read_text())
    assert (proof["of"], proof["how"]) == ("hbsnn-patterns/hierarchical", "miniature")
    assert leandnn(clone, "prove").stdout.startswith("nothing to prove")


def test_a_moved_function_is_proved_in_miniature(clone: Path):
    text = (clone / SCHEDULES).read_text()
    (clone / SCHEDULES).unlink()
    (clone / "src/leandnn/train/rates.py").write_text(text)
    edit(clone, LOOP, "distributed, schedules", "distributed, rates as schedules")
    edit(clone, "src/leandnn/huffman/stages.py", "train import schedules", "train import rates as schedules")
    edit(clone, "src/leandnn/dense/recipe.py", "leandnn.train.schedules", "leandnn.train.rates")
    answer = leandnn(clone, "prove")
    (clone / "src/leandnn/train/rates.py").unlink()
    assert answer.returncode == 0 and "proved equal in miniature" in answer.stdout, (
        answer.stdout + answer.stderr
    )


def test_a_changed_constant_is_different_even_where_bits_agree(clone: Path):
    edit(clone, SCHEDULES, "progress < warmup", "progress < warmup and progress < 2")
    answer = leandnn(clone, "prove")
    assert answer.returncode == 1 and "is not there as often as before" in answer.stdout, answer.stdout
    assert (clone / "studies" / "proofs.jsonl").read_text() == ""
    whole = leandnn(clone, "prove", "--replay")
    assert whole.returncode == 0 and "proved equal by a whole run" in whole.stdout, (
        whole.stdout + whole.stderr
    )


def test_another_result_is_different_in_a_whole_run(clone: Path):
    edit(clone, SCHEDULES, "max(warmup, 0.2)", "max(warmup, 0.3)")
    answer = leandnn(clone, "prove", "--replay")
    assert answer.returncode == 1 and "in a whole run its weights_sha256 is another" in answer.stdout, (
        answer.stdout
    )


def test_without_git_or_a_commit_a_proof_is_refused(clone: Path, tmp_path: Path):
    edit(clone, LOOP, "share", "part_done")
    answer = leandnn(clone, "prove", "--base", "0123456")
    assert answer.returncode == 1 and "proofs compare with a commit of this clone" in answer.stderr
    (clone / ".git").rename(tmp_path / "git")
    try:
        answer = leandnn(clone, "prove")
        digests = leandnn(clone, "digests")
    finally:
        (tmp_path / "git").rename(clone / ".git")
    assert answer.returncode == 1 and answer.stderr.count("\n") == 1 and "proofs compare" in answer.stderr
    assert (
        digests.returncode == 0 or "notebook" in digests.stderr
    )  # a zip without git has digests all the same
