"""Paper 5: Efficient Inferencing of Compressed Deep Neural Networks (arXiv 1711.00244)."""

from leandnn.huffman.compress import compress
from leandnn.huffman.costs import Costs
from leandnn.huffman.model import Compressed, load
from leandnn.huffman.plan import Plan, plan, score

__all__ = ["Compressed", "Costs", "Plan", "compress", "load", "plan", "score"]
