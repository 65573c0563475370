"""Figures and tables of paper 4."""

from leandnn.report.hbsnn.tables import TABLES
from leandnn.report.pages import Page

MISSED = """
A convolution reads the images in place where its output is a multiple of 8 pixels wide, whatever the stride;
smaller images, and the gradients, gather patches, which does not shrink with the zeros. The input gradient of
blocks one column wide is added up in place, twice as fast as by the transposed index: it reads and writes dX
once for every panel of few rows, and stays short of RBGP4's. Panels of four rows read a row of x for four
sums, where larger ones have eight. Blocks of 4×4 at random places come near RBGP4, whose speed on a CPU is
that of rows which share their columns.
"""

PAGE = Page("40_hbsnn", TABLES, landing="hbsnn-pareto", missed=MISSED)
