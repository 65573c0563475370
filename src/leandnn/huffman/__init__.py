"""Paper 5: Efficient Inferencing of Compressed Deep Neural Networks (arXiv 1711.00244)."""

from leandnn.huffman.batch_plan import BatchPlan, plan, score
from leandnn.huffman.compress import compress
from leandnn.huffman.costs import Costs
from leandnn.huffman.model import Compressed, load

__all__ = ["BatchPlan", "Compressed", "Costs", "compress", "load", "plan", "score"]
