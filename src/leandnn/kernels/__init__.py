"""The fast parts, and the readable references beside them.

``round_to`` is the public door; ``dispatch`` decides which implementation serves a call.
"""

from leandnn.kernels.rounding.format import Format
from leandnn.kernels.rounding.ops import round_to

__all__ = ["Format", "round_to"]
