"""Figures and tables of the kernels."""

from leandnn.report.kernels.tables import TABLES
from leandnn.report.pages import Page

MISSED = """
The shares of the peak are those of AVX-512 code; AVX2 has half that peak, and the portable code less.
`torch.mm` is a weak dense peer: oneDNN with prepacked weights and DeepSparse are the columns to read. One
column comes near the bound of reading the values; eight are bound by arithmetic and not by bandwidth, and
stay far from it. With more zeros the rate falls, since packing X and writing Y do not shrink. The speed
belongs to panels: with unstructured zeros our own CSR is slower, and 4×4 blocks without panels have a slower
dW. Stochastic rounding to FP16 is far slower than a copy. The Triton kernels are not timed here.
"""

PAGE = Page("05_kernels", TABLES, missed=MISSED)
