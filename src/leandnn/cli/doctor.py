"""`leandnn doctor`: one line per thing this machine needs, each failure with the command that mends it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from leandnn import paths
from leandnn.errors import LeandnnError
from leandnn.machine import card, libraries

FREE_GIB = 3.0  # data 0.5, caches 0.5, smoke copy and checkpoints the rest


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, whether it is well, what was found, and the mending command if not."""

    name: str
    ok: bool
    found: str
    mend: str = ""

    def __str__(self) -> str:
        line = f"[{'OK' if self.ok else 'FAIL'}]".ljust(7) + f"{self.name:<14} {self.found}"
        return line if self.ok else f"{line}\n       mend it with: {self.mend}"


def _python() -> Finding:
    version = sys.version_info
    ok = (3, 11) <= version[:2] <= (3, 13)
    found = f"{version.major}.{version.minor}.{version.micro}" + ("" if ok else ", expected 3.11 to 3.13")
    return Finding("Python", ok, found, "PYTHON=python3.12 make setup")


def _compiler() -> Finding:
    compiler = shutil.which("c++")
    if compiler is None:
        return Finding("compiler", False, "there is no c++", "sudo apt-get install g++")
    answer = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False)
    ok = answer.returncode == 0 and bool(answer.stdout)
    return Finding(
        "compiler",
        ok,
        answer.stdout.splitlines()[0] if ok else "c++ does not run",
        "sudo apt-get install g++",
    )


def _torch() -> Finding:
    import torch

    return Finding("torch", True, f"{torch.__version__}, {torch.get_num_threads()} threads")


def _torchvision() -> Finding:
    operators = libraries.torchvision_operators()
    import torchvision

    return Finding("torchvision", True, f"{torchvision.__version__} (operators: {operators})")


def _extension() -> Finding:
    import torch

    from leandnn.kernels import dispatch, round_to

    names = dispatch.supported()
    if len(names) == 1:
        return Finding(
            "kernels", False, "the compiled extension is missing", "rm -f .venv/.native && make setup"
        )
    x = torch.linspace(-3, 3, 1001)
    ok = torch.equal(round_to(x, "bf16"), x.bfloat16().float())
    found = f"{dispatch.active()} in use, this CPU runs {', '.join(names)}"
    return Finding(
        "kernels", ok, found if ok else found + ", but rounding is wrong", "rm -f .venv/.native && make setup"
    )


def _dvc() -> Finding:
    version = importlib.metadata.version("dvc")
    ok = (paths.ROOT / ".dvc" / "config").is_file() and shutil.which("git") is not None
    return Finding(
        "DVC",
        ok,
        version if ok else f"{version}, but no repository around",
        "run from a clone; apt-get install git",
    )


def _is_torn(path: Path, whole: Callable[[Path], object]) -> bool:
    """Whether `whole` refuses a file that DVC writes in place; one that is not there is fine."""
    for pause in (1.0, 0.0):
        try:
            whole(path)
            return False
        except Exception:
            if not path.exists():
                return False
        time.sleep(pause)  # a DVC at work may be half-way through
    return True


def _rwlock() -> Finding:
    path = paths.ROOT / ".dvc" / "tmp" / "rwlock"

    def whole(path: Path) -> None:
        from dvc.rwlock import SCHEMA

        SCHEMA(json.loads(path.read_text(encoding="utf-8")))

    ok = not _is_torn(path, whole)
    found = "whole" if ok else "a killed DVC left it half-written"
    return Finding("rwlock", ok, found, "rm .dvc/tmp/rwlock  # when no dvc is at work here")


def _dvc_lock() -> Finding:
    """What a restored dvc.lock no longer says, DVC finds in its cache of runs."""
    from leandnn.params import read_yaml

    ok = not _is_torn(paths.ROOT / "dvc.lock", lambda path: read_yaml(path)["schema"])
    found = "whole" if ok else "it is no whole YAML file: a killed DVC left it half-written"
    return Finding("dvc.lock", ok, found, "git checkout -- dvc.lock")


def _store() -> Finding:
    """DVC would compute anew what is damaged there (`verify` in .dvc/config); git has it."""
    git = ["git", "-C", str(paths.ROOT), "diff", "--name-only", "--", "store"]
    answer = subprocess.run(git, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        return Finding("store", True, "not checked: there is no git repository around")
    changed = answer.stdout.splitlines()
    if not changed:
        return Finding("store", True, "as committed")
    found = f"{len(changed)} of its objects are damaged or gone, the first is {changed[0]}"
    return Finding("store", False, found, "git checkout -- store  # or commit what `dvc gc` removed")


def _cache() -> Finding:
    """DVC trusts a read-only object by its name, so a damaged one would come back into runs/."""
    dvc = [sys.executable, "-m", "dvc", "cache", "dir"]
    answer = subprocess.run(dvc, cwd=paths.ROOT, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        return Finding("cache", True, "not checked: there is no DVC repository around")
    damaged = [paths.relative(path) for path in damaged_objects(paths.ROOT / answer.stdout.strip())]
    if not damaged:
        return Finding("cache", True, "every object has the MD5 that it is named by")
    return Finding(
        "cache",
        False,
        f"{len(damaged)} objects are damaged: their MD5 is not their name",
        # DVC remembers digests of what it restored from them; a fresh memory makes it look.
        f"rm -f {' '.join(map(shlex.quote, damaged))} && DVC_SITE_CACHE_DIR=$(mktemp -d) make repro",
    )


def damaged_objects(cache: Path) -> Iterator[Path]:
    """The objects of a DVC cache or remote, files/md5/<two digits>/<the others>, whose MD5 is not their name."""
    for path in sorted((cache / "files" / "md5").glob("[0-9a-f][0-9a-f]/" + "[0-9a-f]" * 30 + "*")):
        try:
            with path.open("rb") as stream:
                found = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        except FileNotFoundError:  # another process took it away
            continue
        if found != path.parent.name + path.name.removesuffix(".dir"):
            yield path


def _kernel() -> Finding:
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    mend = f"{sys.executable} -m ipykernel install --sys-prefix"
    try:
        spec = KernelSpecManager().get_kernel_spec("python3")
    except NoSuchKernel:
        return Finding("Jupyter kernel", False, "there is no kernel python3", mend)
    return Finding("Jupyter kernel", True, f"python3 ({paths.relative(spec.resource_dir)})")


def _data() -> Finding:
    from leandnn.data import sources

    ok = (paths.PREPARED / "cifar10.safetensors").exists()
    return Finding("data", ok, sources.status("cifar10"), "leandnn data fetch cifar10")


def _disk() -> Finding:
    free = shutil.disk_usage(paths.ROOT).free / (1 << 30)
    return Finding(
        "disk",
        free >= FREE_GIB,
        f"{free:.0f} GiB free, {FREE_GIB:.0f} needed",
        "make clean; dvc gc --workspace",
    )


def _gpu() -> Finding:
    names = card.gpu_names()
    return Finding("GPU", True, ", ".join(names) or "none (everything here runs without one)")


CHECKS: dict[str, tuple[Callable[[], Finding], str]] = {
    "Python": (_python, ""),
    "compiler": (_compiler, "sudo apt-get install g++"),
    "torch": (_torch, "make setup"),
    "torchvision": (_torchvision, "make setup"),
    "kernels": (_extension, "make setup"),
    "DVC": (_dvc, "make setup"),
    "rwlock": (_rwlock, "make setup"),
    "dvc.lock": (_dvc_lock, "make setup"),
    "store": (_store, "apt-get install git"),
    "cache": (_cache, "make setup"),
    "Jupyter kernel": (_kernel, "make setup"),
    "data": (_data, "leandnn data fetch cifar10"),
    "disk": (_disk, ""),
    "GPU": (_gpu, ""),
}


OF_A_CLONE = ("DVC", "rwlock", "dvc.lock", "store", "cache", "Jupyter kernel", "data")


def _no_clone() -> Finding:
    left_out = f"the pipeline's {len(OF_A_CLONE)} checks are left out"
    said = f"there is none around {Path.cwd()}: the package works, and {left_out}"
    return Finding("clone", True, f"{said}; run this inside of one, or set LEANDNN_ROOT to its path")


def findings(names: Sequence[str] = ()) -> list[Finding]:
    """What these checks find, or all that have something to look at; one that itself breaks is a failure.

    LeandnnError for a name that is none of CHECKS.
    """
    if unknown := [name for name in names if name not in CHECKS]:
        raise LeandnnError(f"there is no check {unknown[0]!r}, expected some of {', '.join(CHECKS)}")
    found = []
    if not names and not paths.PARAMS.is_file():
        found.append(_no_clone())
        names = [name for name in CHECKS if name not in OF_A_CLONE]
    for name in names or CHECKS:
        check, mend = CHECKS[name]
        try:
            found.append(check())
        except Exception as error:
            found.append(Finding(name, False, f"{type(error).__name__}: {error}", mend))
    return found


def main(names: Sequence[str] = ()) -> int:
    """Print the findings of these checks, or of all; 0 if all is well.

    Missing data is no failure of the machine: the pipeline fetches it.
    """
    found = findings(names)
    print("\n".join(map(str, found)))
    return 0 if all(f.ok for f in found if f.name != "data") else 1
