"""Figures and tables of paper 2."""

from leandnn.report.autosparse.tables import TABLES
from leandnn.report.pages import Page

PAGE = Page("20_autosparse", TABLES, landing="autosparse-tradeoff")
