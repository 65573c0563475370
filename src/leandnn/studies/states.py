"""States of the package that can be run side by side: today's, and those of commits, each built by itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leandnn import paths
from leandnn.errors import LeandnnError
from leandnn.files import replacing
from leandnn.studies import digests
from leandnn.studies.digests import Behaviour

PROGRAM = Path("tools/side.py")


@dataclass(frozen=True)
class Side:
    """A state of the package that can be run: its name, its root, and what its Python path begins with."""

    name: str
    root: Path
    site: Path

    def train(self, request: dict[str, Any], threads: int) -> dict[str, Any]:
        """What tools/side.py says of a request; LeandnnError with its last line where it fails."""
        with tempfile.TemporaryDirectory() as folder:
            asked, answered = Path(folder) / "request.json", Path(folder) / "result.json"
            asked.write_text(json.dumps(request))
            libraries = os.pathsep.join(path for path in sys.path if path.endswith("site-packages"))
            environment = {
                **os.environ,
                "LEANDNN_ROOT": str(paths.ROOT),  # the data, and nets that judge
                "OMP_NUM_THREADS": str(threads),
                "PYTHONPATH": f"{self.site}{os.pathsep}{libraries}",
            }
            # -S: an editable install of the working tree would come first.
            command = [sys.executable, "-S", str(self.root / PROGRAM), str(asked), str(answered)]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                said = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
                raise LeandnnError(
                    f"{request['study']}/{request['arm']} does not train at {self.name}: {said}"
                )
            result: dict[str, Any] = json.loads(answered.read_text())
            return result


def git(*arguments: str) -> str:
    """What git says in this clone; LeandnnError where there is none, or what it refuses."""
    try:
        return subprocess.run(
            ["git", "-C", str(paths.ROOT), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()
    except FileNotFoundError as error:
        raise LeandnnError("there is no git here, expected it: proofs compare with a commit") from error
    except subprocess.CalledProcessError as error:
        said = (error.stderr.strip().splitlines() or ["it failed"])[-1]
        raise LeandnnError(
            f"git {arguments[0]} says: {said}; proofs compare with a commit of this clone"
        ) from error


def side_of(commit: str, stack: ExitStack, *, build: bool = True) -> tuple[Side, dict[str, Behaviour]]:
    """The package at a commit, in a worktree of its own, and what every arm did there."""
    root = stack.enter_context(_worktree(commit))
    if not (root / PROGRAM).is_file():
        raise LeandnnError(f"{commit[:8]} has no {PROGRAM}: it is from before there were proofs")
    side = stack.enter_context(built(commit[:8], root)) if build else Side(commit[:8], root, root / "src")
    code = (
        "import json, sys; from leandnn.studies import digests; "
        "print(json.dumps({a: [b.parts, b.value] for a, b in digests.behaviours().items()}))"
    )
    libraries = os.pathsep.join(path for path in sys.path if path.endswith("site-packages"))
    environment = {
        **os.environ,
        "LEANDNN_ROOT": str(root),
        "PYTHONPATH": f"{root / 'src'}{os.pathsep}{libraries}",
    }
    done = subprocess.run(
        [sys.executable, "-S", "-W", "ignore", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise LeandnnError(f"what arms do at {commit[:8]} cannot be read: {said}")
    return side, {arm: Behaviour(*found) for arm, found in json.loads(done.stdout).items()}


@contextmanager
def _worktree(commit: str) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="leandnn-prove-"))
    try:
        git("worktree", "add", "--detach", "--force", str(folder / "tree"), commit)
        yield folder / "tree"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run(["git", "-C", str(paths.ROOT), "worktree", "prune"], capture_output=True, check=False)


@contextmanager
def built(name: str, root: Path) -> Iterator[Side]:
    """The package of a root, copied into a folder of its own together with its kernels."""
    site = Path(tempfile.mkdtemp(prefix="leandnn-site-"))
    try:
        ignored = shutil.ignore_patterns("__pycache__", "*.so", "cpu")
        shutil.copytree(root / "src" / "leandnn", site / "leandnn", ignore=ignored)
        kernels = _kernels(name, root)
        shutil.copy(kernels, site / "leandnn" / "kernels" / f"_native{kernels.suffix}")
        yield Side(name, root, site)
    finally:
        shutil.rmtree(site, ignore_errors=True)


def _kernels(name: str, root: Path) -> Path:
    """The compiled kernels of a root; those of the same C++ are built once, into build/prove/."""
    package = root / "src" / "leandnn"
    built = (
        paths.BUILD
        / "prove"
        / f"native-{digests.source_digest(root, package, ('.cpp', '.hpp', '.inc'))[:16]}.so"
    )
    if built.is_file():
        return built
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--no-index",
            "--no-build-isolation", "--target", folder, str(root),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = [line for line in (done.stdout + done.stderr).splitlines() if "error" in line.lower()]
            raise LeandnnError(f"{name} does not build: {(said or ['pip failed'])[0].strip()}")
        found = next(Path(folder).glob("leandnn/kernels/_native*.so"))
        with replacing(built) as stream:
            stream.write(found.read_bytes())
    return built
