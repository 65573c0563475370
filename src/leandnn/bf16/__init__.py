"""Paper 1: A Study of BFLOAT16 for Deep Learning Training (arXiv 1905.12322)."""

from leandnn.bf16.emulate import emulate
from leandnn.bf16.policy import Policy, Rounding
from leandnn.bf16.sites import rounding_sites

__all__ = ["Policy", "Rounding", "emulate", "rounding_sites"]
