"""Figures and tables of paper 2."""

from leandnn.report.autosparse.tables import TABLES
from leandnn.report.pages import Page

MISSED = """
The excess of a step with thresholds is memory traffic, since every weight is read a few times more; that
shows where layers are wide and batches small. The thresholds are one autograd function of few vectorised
passes; torch's own operators with autograd, and a first function with masks, took longer. Exported small nets
are no faster than dense ones: their layers have too few channels.
"""

PAGE = Page("20_autosparse", TABLES, landing="autosparse-tradeoff", missed=MISSED)
