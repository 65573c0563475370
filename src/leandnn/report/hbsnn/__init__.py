"""Figures and tables of paper 4."""

from leandnn.report.hbsnn.tables import TABLES
from leandnn.report.pages import Page

PAGE = Page("40_hbsnn", TABLES, landing="hbsnn-pareto")
