"""Figures and tables of paper 5."""

from leandnn.report.huffman.tables import TABLES
from leandnn.report.pages import Page

MISSED = """
The smallest layout codes single symbols, whose entropy alone takes about what the target allows; a code for
each class of rows and columns would save a little, and more tables. Measured memory counts whole pages and
the allocator, which the accounted bytes leave out: that shows where a layer is small. Wide batches are bound
by the L2 cache, from which every weight takes its row of x; there decoding first costs little, since it is
done once for the whole batch, and ours once for each tile of it (a tile of twice the width was no faster).
"""

PAGE = Page("50_huffman", TABLES, landing="huffman-caps", missed=MISSED)
