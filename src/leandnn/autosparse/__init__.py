"""Paper 2: sparse training by learned thresholds under which gradients are annealed, and a ledger of its FLOPs."""

from leandnn.autosparse import flops
from leandnn.autosparse.method import AutoSparse, Options

__all__ = ["AutoSparse", "Options", "flops"]
