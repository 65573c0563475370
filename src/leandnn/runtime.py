"""Device, threads, seeds, determinism, and the card of the machine that a number was measured on."""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
import importlib.util
import os
import platform
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

LIBRARIES = ("torch", "torchvision", "numpy", "leandnn")


def keep_freed_memory() -> None:
    """Make glibc keep freed blocks for the next allocation instead of returning them to the system.

    A training step frees and asks for the same megabytes over and over; by default each new block is mapped
    afresh and every page of it faults, which costs a small net about a quarter of its step. Elsewhere than
    glibc this does nothing.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    trim_threshold, mmap_threshold = -1, -3  # names of malloc.h; 32 MiB is the largest threshold it takes
    mallopt(mmap_threshold, 32 << 20)
    mallopt(trim_threshold, 2**31 - 1)


def configure(*, seed: int, threads: int, device: str = "cpu") -> torch.device:
    """Fix what decides the bits of a run: thread count, seeds, deterministic algorithms.

    - seed: seeds torch's generators on every device.
    - threads: torch's intra-op threads; CPU results are bit-equal only at one thread count.
    - device: "cpu", "cuda" or "cuda:N".

    Returns the torch device. Raises RuntimeError (torch's own) if the device does not exist.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read by cuBLAS when CUDA starts
    import torch

    keep_freed_memory()
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    # Fills every fresh tensor with NaN under deterministic mode: a debugging aid that costs a pass of memory.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    return torch.device(device)


@functools.cache
def torchvision_operators() -> str:
    """Make `import torchvision` work, and say how: "compiled" or "schemas only".

    A torchvision built for CUDA cannot load its operators beside a CPU torch, and its import then fails while
    it registers meta kernels for two operators that do not exist. Declaring their schemas first mends that;
    it is done only when the operators did not load. Call this before the first `import torchvision`.
    """
    import torch

    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("torchvision is not installed")
    library = next(Path(spec.origin).parent.glob("_C*.so"), None)
    if library is not None:
        try:
            torch.ops.load_library(str(library))
            return "compiled"
        except OSError:
            pass
    schemas = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        schemas.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _kept.append(schemas)  # a Library undoes its definitions when it is collected
    return "schemas only"


_kept: list[Any] = []


def peak_memory_mib() -> float:
    """Peak resident memory of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / (1 << 10)


@functools.cache
def cpu_model() -> str:
    """The processor's name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def cores() -> int:
    """Cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def gpu_names() -> list[str]:
    """Names of the NVIDIA GPUs, by nvidia-smi (so that torch need not be imported); empty if none."""
    try:
        answer = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in answer.stdout.splitlines() if line.strip()]


def instruction_sets() -> list[str]:
    """The vector instruction sets that matter to the kernels and that this CPU has."""
    known = ("avx2", "fma", "avx512f", "avx512_bf16", "avx512vbmi", "avx512_vnni", "amx_bf16", "asimd", "sve")
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return []
    line = next((x for x in text.splitlines() if x.startswith(("flags", "Features"))), "")
    present = set(line.split())
    return [isa for isa in known if isa in present]


def machine_name(device: str = "cpu") -> str:
    """A short name for `reference/<machine>/`: of the GPU for a cuda device, else of the CPU and core count."""
    if device.startswith("cuda"):
        names = gpu_names()
        label = names[0] if names else "cuda"
    else:
        label = f"{cpu_model()} {cores()}c"
        if "avx512f" in instruction_sets():
            label += " avx512"
    label = re.sub(r"\((r|tm)\)|\bcpu\b|@.*?ghz|\bprocessor\b|\bwith\b.*graphics", " ", label.lower())
    return re.sub(r"[^a-z0-9]+", "-", label).strip("-")


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide a number."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def machine_card(device: str = "cpu") -> dict[str, Any]:
    """What a bench or a reference result was measured on (no host name, no user)."""
    try:
        memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    except (ValueError, OSError):
        memory_gib = float("nan")
    return {
        "name": machine_name(device),
        "cpu": cpu_model(),
        "cores": cores(),
        "isa": instruction_sets(),
        "memory_gib": round(memory_gib, 1),
        "gpus": gpu_names(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions(),
    }
