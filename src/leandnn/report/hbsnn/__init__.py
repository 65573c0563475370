"""Figures and tables of paper 4."""

from leandnn.report.hbsnn import tables
from leandnn.report.pages import Page

PAGE = Page("40_hbsnn", tables.TABLES, landing="hbsnn-pareto")
