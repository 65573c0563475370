"""leandnn: a reproducible companion to five papers on making deep nets cheap.

The package imports nothing heavy by itself; each door is opened by name, e.g.
``from leandnn.kernels import round_to`` or ``from leandnn.bf16 import Policy, emulate``.
"""

__version__ = "0.1.0"
