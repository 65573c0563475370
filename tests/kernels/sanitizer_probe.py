"""One error that a sanitizer must report; tools/sanitize runs this file to know that its build has them.

Argument: an instruction set, whose code reads one number behind a tensor; or `overflow`.
"""

from __future__ import annotations

import sys

import numpy as np
import torch

import conftest  # noqa: F401  takes the build that LEANDNN_NATIVE names
from leandnn.kernels import _native

if sys.argv[1] == "overflow":
    begin, zero = np.array([0, 1], np.int32), np.zeros(1, np.int32)
    plan = _native.Plan(1, 1, 1, 1, 1, 1, 1, begin, zero, begin, zero, np.array([0, 1]), False)
    endless = _native.Geometry(1 << 40, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1 << 40, 1)
    plan.conv(0, 0, False, endless, 0, False, 0, False, 1)
_native.select(sys.argv[1])
x = torch.zeros(100)
_native.round(x.data_ptr(), x.data_ptr(), 101, 8 | 7 << 8, 0, 1)
