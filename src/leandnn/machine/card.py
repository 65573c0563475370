"""The machine a number was measured on: its name, its card, the versions that decide a number."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from leandnn.errors import LeandnnError

LIBRARIES = ("torch", "torchvision", "numpy", "leandnn")


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


@functools.cache
def _generation() -> tuple[str, ...]:
    """Family and model number of the processor; empty where the system is silent."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return ()
    found = dict(re.findall(r"^(cpu family|model)\s*:\s*(\d+)$", text, re.MULTILINE))
    return (found["cpu family"], found["model"]) if len(found) == 2 else ()


def cpu_generation() -> str:
    """ "family 25, model 17": what tells apart processors that the system calls alike; empty where it is silent."""
    return ", ".join(
        f"{word} {number}" for word, number in zip(("family", "model"), _generation(), strict=False)
    )


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


def must_have(device: str) -> None:
    """LeandnnError for a GPU ("cuda" or "cuda:N") that torch does not find."""
    if device.startswith("cuda"):
        import torch

        found = torch.cuda.device_count()
        if int(device.partition(":")[2] or 0) >= found:
            raise LeandnnError(
                f"device is {device!r}, but torch finds {found} GPUs here, expected one of them, or cpu"
            )


def instruction_sets() -> list[str]:
    """The vector instruction sets that matter to the kernels and that this CPU has."""
    known = (
        "avx2",
        "fma",
        "avx512f",
        "avx512_bf16",
        "avx512vbmi",
        "avx512_vnni",
        "amx_bf16",
        "asimd",
        "sve",
        "bf16",
    )
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return []
    line = next((x for x in text.splitlines() if x.startswith(("flags", "Features"))), "")
    present = set(line.split())
    return [isa for isa in known if isa in present]


def lacks_bf16() -> bool:
    """Whether the system says that this CPU multiplies no BF16 numbers; False where it is silent."""
    found = instruction_sets()
    return bool(found) and not any(isa.endswith("bf16") for isa in found)


def caches() -> dict[str, str]:
    """Sizes of the first core's caches, e.g. {"L1d": "32K", "L2": "1024K"}; empty where the system is silent."""
    found = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size = ((index / part).read_text().strip() for part in ("level", "type", "size"))
        except OSError:
            continue
        found[f"L{level}" + {"Data": "d", "Instruction": "i"}.get(kind, "")] = size
    return found


def name(device: str = "cpu") -> str:
    """A short name for `reference/<machine>/`: of the GPU for a cuda device, else of the CPU and core count.

    The system may call two processors alike, so the CPU's name carries its family and model number, where
    they are known: "amd-epyc-f25m17-2c-avx512".
    """
    if device.startswith("cuda"):
        names = gpu_names()
        label = names[0] if names else "cuda"
    else:
        generation = "".join(letter + number for letter, number in zip("fm", _generation(), strict=False))
        label = f"{cpu_model()} {generation} {cores()}c"
        if "avx512f" in instruction_sets():
            label += " avx512"
    label = re.sub(r"\((r|tm)\)|\bcpu\b|@.*?ghz|\bprocessor\b|\bwith\b.*graphics", " ", label.lower())
    return "-".join(dict.fromkeys(re.findall(r"[a-z0-9]+", label)))


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide a number."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def read(device: str = "cpu") -> dict[str, Any]:
    """What a bench or a reference result was measured on (no host name, no user); see probe.card for rates."""
    try:
        memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    except (ValueError, OSError):
        memory_gib = float("nan")
    return {
        "name": name(device),
        "cpu": cpu_model(),
        "cpu_generation": cpu_generation(),
        "cores": cores(),
        "isa": instruction_sets(),
        "caches": caches(),
        "memory_gib": round(memory_gib, 1),
        "gpus": gpu_names(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions(),
    }
