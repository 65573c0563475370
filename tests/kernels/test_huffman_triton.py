"""The Triton decoder on a machine without a GPU, in processes of its own (see test_panels_triton)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.kernels.test_panels_triton import needs_triton, passes

pytestmark = pytest.mark.slow


@needs_triton
def test_results_in_the_interpreter():
    passes("triton_huffman_cases.py", TRITON_INTERPRET="1")


@needs_triton
def test_the_decoder_compiles_for_hopper(tmp_path: Path):
    passes("triton_huffman_compiles.py", TRITON_INTERPRET="0", TRITON_CACHE_DIR=str(tmp_path))


def test_triton_is_imported_by_the_first_decoding_alone():
    code = "import sys, leandnn.kernels.huffman.gpu; sys.exit('triton' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
