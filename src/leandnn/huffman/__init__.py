"""Paper 5: Efficient Inferencing of Compressed Deep Neural Networks (arXiv 1711.00244)."""

from leandnn.huffman.compress import compress
from leandnn.huffman.model import Compressed, load

__all__ = ["Compressed", "compress", "load"]
