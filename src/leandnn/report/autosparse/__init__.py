"""Figures and tables of paper 2."""

from leandnn.report.autosparse import tables
from leandnn.report.pages import Page

PAGE = Page("20_autosparse", tables.TABLES, landing="autosparse-tradeoff")
