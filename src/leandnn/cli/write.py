"""`leandnn write`: all that is generated and in git, made anew from what runs and records say now."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from leandnn import paths
from leandnn.claims import verdicts
from leandnn.errors import LeandnnError
from leandnn.report import notebooks, readme

MADE_BY_TRAINING = ("data", "train")  # stages whose names begin so are not text


def main() -> int:
    """Strip notebooks, make reports/ by the pipeline's report stages, fill README.md.

    LeandnnError, before anything but notebooks is written, where the pipeline would train for it.
    """
    for notebook in sorted(paths.NOTEBOOKS.glob("*.ipynb")):
        notebooks.strip_file(notebook, notebook)
    _dvc("repro", "--quiet", "digests")
    stale = [name for name in json.loads(_dvc("status", "--json")) if name.startswith(MADE_BY_TRAINING)]
    if stale:
        raise LeandnnError(
            f"{', '.join(stale)} would run first, expected only reports to be stale: "
            "`leandnn prove` if the code computes what it did, else `dvc repro`; then `leandnn write`"
        )
    _dvc("repro", "summary")
    readme.write(verdicts.compute(paths.ROOT))
    print("notebooks/, reports/ and README.md are as generated")
    return 0


def _dvc(*arguments: str) -> str:
    """Run a DVC command, which shows its progress; returns what `status` prints, LeandnnError if it fails."""
    command = [sys.executable, "-m", "dvc", *arguments]
    kept = subprocess.PIPE if arguments[0] == "status" else None
    # Stages call `leandnn`, which is on nobody's PATH where the environment is not activated.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    answer = subprocess.run(
        command, cwd=paths.ROOT, env={**os.environ, "PATH": path}, stdout=kept, text=True, check=False
    )
    if answer.returncode:
        raise LeandnnError(
            f"dvc {' '.join(arguments)} ended with {answer.returncode}, expected 0 (see above)"
        )
    return answer.stdout or ""
