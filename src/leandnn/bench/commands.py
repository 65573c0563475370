"""What `make repro` and the lanes of tests cost a newcomer in a fresh clone, and a second repro.

The clone starts with empty pip and npm caches, so downloads are counted in the first. Measured once each (they
take minutes); `dvc repro` with nothing to do is repeated.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path

import psutil

from leandnn import paths
from leandnn.bench.benchfile import Row
from leandnn.bench.timing import row
from leandnn.errors import LeandnnError
from leandnn.machine import card

MIB = 1 << 20
AFTER = "after `make repro`"
COMMANDS = {"repro": "a fresh clone", "check": AFTER, "test": AFTER, "test-slow": AFTER}
"""What `make` is asked, and what it starts from."""


def _resident(process: psutil.Process) -> int:
    """Bytes resident in a process and all below it."""
    total = 0
    try:
        for each in [process, *process.children(recursive=True)]:
            total += each.memory_info().rss
    except psutil.NoSuchProcess:  # one ended between listing and asking
        pass
    return total


def _measure(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[float, float]:
    """Seconds and peak resident MiB of a command, its children included; LeandnnError if it fails."""
    peak, start = 0, time.perf_counter()
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, _resident(watched))
            time.sleep(0.2)
        seconds = time.perf_counter() - start
        if process.returncode != 0:
            log.seek(0)
            end = " / ".join(log.read().strip().splitlines()[-5:])
            raise LeandnnError(f"{' '.join(command)} ended with {process.returncode}, expected 0: {end}")
    return seconds, peak / MIB


def _disk_mib(folder: Path) -> float:
    answer = subprocess.run(["du", "-sk", str(folder)], capture_output=True, text=True, check=True)
    return int(answer.stdout.split()[0]) / 1024


def _row(command: str, state: str, times: list[float], disk: float, peak: float) -> Row:
    case = {"command": command, "state": state, "disk_mib": round(disk), "peak_mib": round(peak)}
    return row("commands", case, "leandnn", card.cores(), times, 1.0, "runs")


def rows(quick: bool) -> list[Row]:
    """Measured rows; quick: only `dvc repro` with nothing to do, in this checkout."""
    environment = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "LEANDNN_ROOT")}

    def nothing_to_do(folder: Path, repeats: int) -> Row:
        bin_path = f"{folder / '.venv' / 'bin'}{os.pathsep}{environment['PATH']}"
        measured = [
            _measure(["dvc", "repro"], folder, {**environment, "PATH": bin_path}) for _ in range(repeats)
        ]
        times, peaks = [m[0] for m in measured], [m[1] for m in measured]
        return _row("dvc repro", "nothing to do", times, _disk_mib(folder), max(peaks))

    if quick:
        return [nothing_to_do(paths.ROOT, 5)]
    with tempfile.TemporaryDirectory() as place:
        clone, caches = Path(place) / "leandnn", Path(place) / "caches"
        subprocess.run(["git", "clone", "--quiet", str(paths.ROOT), str(clone)], check=True)
        environment |= {"PIP_CACHE_DIR": str(caches / "pip"), "npm_config_cache": str(caches / "npm")}
        found = []
        for lane, state in COMMANDS.items():
            seconds, peak = _measure(["make", lane], clone, environment)
            found.append(_row(f"make {lane}", state, [seconds], _disk_mib(clone), peak))
        return [*found, nothing_to_do(clone, 20)]


def summary(rows: list[Row]) -> str:
    """The newcomer's figure."""
    return "; ".join(f"{r['case']['command']} ({r['case']['state']}): {r['median_s']:.1f} s" for r in rows)
