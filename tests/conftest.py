"""A small repository of its own for tests that run the command line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from leandnn import paths

REPOSITORY = Path(__file__).resolve().parents[1]
PARAMS = (REPOSITORY / "params.yaml").read_text()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--golden", action="store_true", help="write tests/report/golden/ anew")


@pytest.fixture(scope="session")
def cifar_file() -> Path:
    """The real prepared file: training verifies its digests, so no stand-in will do."""
    path = paths.PREPARED / "cifar10.safetensors"
    if not path.exists():
        pytest.skip("NOT CHECKED without CIFAR-10: run `leandnn data fetch cifar10`")
    return path


@pytest.fixture
def repository(tmp_path: Path, cifar_file: Path) -> Path:
    """A root with params.yaml, studies/, dvc.yaml, claims.yaml and data, apart from the real one."""
    for name in ("params.yaml", "dvc.yaml", "claims.yaml"):
        shutil.copy(REPOSITORY / name, tmp_path)
    shutil.copytree(REPOSITORY / "studies", tmp_path / "studies")
    prepared = tmp_path / "data" / "prepared"
    prepared.mkdir(parents=True)
    (prepared / "cifar10.safetensors").symlink_to(cifar_file)
    (tmp_path / "notebooks").mkdir()
    return tmp_path


@pytest.fixture
def leandnn(repository: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command line in that root."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "leandnn", *arguments],
            cwd=repository,
            env={**os.environ, "LEANDNN_ROOT": str(repository), **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture
def moved_root(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same root for code that runs inside the test process."""
    return _move(repository, monkeypatch)


@pytest.fixture
def bare_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty root for code that runs inside the test process."""
    return _move(tmp_path, monkeypatch)


def _move(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, place in (
        ("ROOT", "."),
        ("PREPARED", "data/prepared"),
        ("RUNS", "runs"),
        ("BUILD", "build"),
        ("CHECKPOINTS", "build/checkpoints"),
        ("LOCKS", "build/locks"),
        ("REFERENCE", "reference"),
    ):
        monkeypatch.setattr(paths, name, (root / place).resolve())
    return root
