"""`leandnn doctor`: one line per thing this machine needs, each failure with the command that mends it."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from leandnn import paths
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
    "Jupyter kernel": (_kernel, "make setup"),
    "data": (_data, "leandnn data fetch cifar10"),
    "disk": (_disk, ""),
    "GPU": (_gpu, ""),
}


def findings() -> list[Finding]:
    """All findings; a check that itself breaks is a failure with its reason."""
    found = []
    for name, (check, mend) in CHECKS.items():
        try:
            found.append(check())
        except Exception as error:
            found.append(Finding(name, False, f"{type(error).__name__}: {error}", mend))
    return found


def main() -> int:
    """Print the findings; 0 if all is well. Missing data is no failure of the machine: the pipeline fetches it."""
    found = findings()
    print("\n".join(map(str, found)))
    return 0 if all(f.ok for f in found if f.name != "data") else 1
