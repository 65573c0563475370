"""LEANDNN_NATIVE names a build of the extension to test in place of the installed one (tools/sanitize)."""

from __future__ import annotations

import importlib.util
import os
import sys

NAME = "leandnn.kernels._native"

if path := os.environ.get("LEANDNN_NATIVE"):
    assert NAME not in sys.modules, "the installed extension is loaded already"
    spec = importlib.util.spec_from_file_location(NAME, path)
    assert spec is not None and spec.loader is not None
    sys.modules[NAME] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[NAME])
