"""The Triton kernels on a machine without a GPU: interpreted for their results, compiled for Hopper.

Both run in processes of their own: whether Triton interprets is settled when it is imported.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

needs_triton = pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"),
    reason="pyproject asks for Triton on Linux x86-64 alone",
)


def passes(name: str, **environment: str) -> None:
    file = Path(__file__).with_name(name)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)]
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


@needs_triton
def test_results_in_the_interpreter():
    passes("triton_cases.py", TRITON_INTERPRET="1")


@needs_triton
def test_kernels_compile_for_hopper(tmp_path: Path):
    passes("triton_compiles.py", TRITON_INTERPRET="0", TRITON_CACHE_DIR=str(tmp_path))


def test_triton_is_imported_by_the_first_product_alone():
    code = "import sys, leandnn.kernels.panels.gpu; sys.exit('triton' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
