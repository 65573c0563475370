"""Where things are: absolute paths, so that nothing depends on the working directory."""

from __future__ import annotations

import os
from pathlib import Path


def _find_root() -> Path:
    """The repository: LEANDNN_ROOT, else the nearest folder with params.yaml and dvc.yaml.

    Looked for above the working directory first (a throw-away copy must use its own files although the
    package is installed from elsewhere), then above this file, then the working directory itself.
    """
    if chosen := os.environ.get("LEANDNN_ROOT"):
        return Path(chosen).resolve()
    here = Path.cwd().resolve()
    for start in (here, Path(__file__).resolve()):
        for folder in (start, *start.parents):
            if (folder / "params.yaml").is_file() and (folder / "dvc.yaml").is_file():
                return folder
    return here


ROOT = _find_root()
PACKAGE = Path(__file__).resolve().parent
DATA = Path(
    os.environ.get("LEANDNN_DATA", ROOT / "data")
).resolve()  # elsewhere where the checkout must stay small
RAW = DATA / "raw"
PREPARED = DATA / "prepared"
RUNS = ROOT / "runs"
BUILD = ROOT / "build"
CHECKPOINTS = BUILD / "checkpoints"
LOCKS = BUILD / "locks"
NOTEBOOKS = ROOT / "notebooks"
REFERENCE = ROOT / "reference"
PARAMS = ROOT / "params.yaml"
CLAIMS = ROOT / "claims.yaml"


def relative(path: Path | str) -> str:
    """`path` as a person would type it: relative to the repository where it lies inside."""
    path = Path(path)
    try:
        return Path(os.path.realpath(path)).relative_to(ROOT).as_posix()
    except ValueError:
        return str(path)
