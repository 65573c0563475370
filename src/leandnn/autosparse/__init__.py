"""Paper 2: sparse training by learned thresholds under which gradients are annealed, and a ledger of its FLOPs."""

import leandnn.autosparse.flops as flops
from leandnn.autosparse.method import AutoSparse, Options

__all__ = ["AutoSparse", "Options", "flops"]
