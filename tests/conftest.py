"""A small repository of its own for tests that run the command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from leandnn import paths

REPOSITORY = Path(__file__).resolve().parents[1]
PARAMS = (REPOSITORY / "params.yaml").read_text()


def _write_cifar(path: Path) -> None:
    """A prepared file as large as the real one on paper, but sparse: noise in the first images, zeros after."""
    from leandnn.data.prepared import layout
    from leandnn.data.sources import DATASETS

    places = layout(DATASETS["cifar10"])
    header = json.dumps(
        {"__metadata__": {}}
        | {name: {"dtype": "U8", "shape": s, "data_offsets": [a, b]} for name, (s, a, b) in places.items()}
    ).encode()
    header += b" " * (-len(header) % 8)
    random = np.random.default_rng(0)
    with path.open("wb") as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        for name, (shape, begin, end) in places.items():
            stream.seek(8 + len(header) + begin)
            if name.endswith("labels"):
                stream.write((np.arange(shape[0]) % 10).astype(np.uint8).tobytes())
            else:
                stream.write(random.integers(0, 256, 1500 * 3072, dtype=np.uint8).tobytes())
                stream.truncate(8 + len(header) + end)


@pytest.fixture(scope="session")
def cifar_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in for data/prepared/cifar10.safetensors."""
    path = tmp_path_factory.mktemp("data") / "cifar10.safetensors"
    _write_cifar(path)
    return path


@pytest.fixture
def repository(tmp_path: Path, cifar_file: Path) -> Path:
    """A root with params.yaml, dvc.yaml, claims.yaml and data, apart from the real one."""
    for name in ("params.yaml", "dvc.yaml", "claims.yaml"):
        shutil.copy(REPOSITORY / name, tmp_path)
    prepared = tmp_path / "data" / "prepared"
    prepared.mkdir(parents=True)
    os.link(cifar_file, prepared / "cifar10.safetensors")
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
    for name, place in (
        ("ROOT", "."),
        ("PREPARED", "data/prepared"),
        ("RUNS", "runs"),
        ("BUILD", "build"),
        ("CHECKPOINTS", "build/checkpoints"),
        ("LOCKS", "build/locks"),
        ("REFERENCE", "reference"),
    ):
        monkeypatch.setattr(paths, name, (repository / place).resolve())
    return repository
