"""`leandnn site`: everything there is to see, as static HTML that needs no server and no network.

Sphinx builds it from docs/ (pages written by hand), from reports/ (pages, figures and executed notebooks, which are
shown and not run), and from the claims (landing.py). It replaces the old site only when it is whole.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

from leandnn import paths
from leandnn.claims import verdicts
from leandnn.errors import LeandnnError
from leandnn.files import write_text
from leandnn.report.site import landing
from leandnn.report.summary import read_drawn
from leandnn.studies.locks import locked

_MARK = ".buildinfo"  # Sphinx writes it into every site
_COMPLAINT = re.compile(r"WARNING|ERROR|error:", re.IGNORECASE)


def build(root: Path = paths.ROOT, target: Path | None = None) -> Path:
    """Build the site of the repository `root` into `target` (`root`/site if None); returns that folder.

    An older site there is replaced in one step at the end. Raises LeandnnError when Sphinx or a source is
    missing, when `target` holds something that is no site, when it cannot be written, while another process
    builds the same site, and for the first warning of Sphinx (all of them are in build/site.log).
    """
    final = root / "site" if target is None else target
    # Beside a target of one's own: only within one file system can a folder be swapped in.
    work = root / "build" / "site.partial" if target is None else final.with_name(f"{final.name}.partial")
    _check(root, final)
    with locked("site", "the site is being built") if target is None else nullcontext():
        try:
            shutil.rmtree(work, ignore_errors=True)
            _assemble(root, work / "source")
            _sphinx(root, work)
            final.parent.mkdir(parents=True, exist_ok=True)
            if final.exists():
                final.rename(work / "old")
            (work / "html").rename(final)
        except OSError as error:
            place = paths.relative(error.filename or final)
            raise LeandnnError(f"the site cannot be written to {place}: {error.strerror or error}") from error
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return final


def _check(root: Path, final: Path) -> None:
    missing = [name for name in ("sphinx", "myst_nb", "furo") if importlib.util.find_spec(name) is None]
    if missing:
        raise LeandnnError(
            f"the site needs the packages of the extra `site`, and {', '.join(missing)} is missing: run make setup"
        )
    for needed, mend in (
        ("docs/conf.py", "run it in the repository"),
        ("reports/README.md", "run dvc repro"),
    ):
        if not (root / needed).is_file():
            raise LeandnnError(f"{paths.relative(root / needed)} is missing, {mend}")
    if final.exists() and not (final.is_dir() and ((final / _MARK).exists() or not any(final.iterdir()))):
        raise LeandnnError(f"{paths.relative(final)} is no site, expected a new folder or an older site")


def _assemble(root: Path, source: Path) -> None:
    """Everything Sphinx reads, in one folder: docs/ over reports/, and what the landing page includes."""
    results, drawn = verdicts.compute(root), read_drawn(root)
    shutil.copytree(root / "reports", source)
    skipped = shutil.ignore_patterns("__pycache__", "_build")
    shutil.copytree(root / "docs", source, ignore=skipped, dirs_exist_ok=True)
    write_text(source / "generated" / "figures.md", landing.figures(results, drawn))


def _sphinx(root: Path, work: Path) -> None:
    """Run Sphinx in a process of its own, since it changes much of the one it runs in."""
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q"]
    result = subprocess.run(
        [*command, "-d", str(work / "doctrees"), str(work / "source"), str(work / "html")],
        env={**os.environ, "LEANDNN_ROOT": str(root), "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if result.returncode:
        text = result.stdout.replace(f"{work / 'source'}{os.sep}", "")
        log = root / "build" / "site.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(text, encoding="utf-8")
        lines = [line for line in text.splitlines() if line.strip()] or [f"status {result.returncode}"]
        first = next((line for line in lines if _COMPLAINT.search(line)), lines[-1])
        raise LeandnnError(f"Sphinx refused the site: {first.strip()} (all of it: {paths.relative(log)})")
