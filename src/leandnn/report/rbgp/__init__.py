"""Figures and tables of paper 3."""

from leandnn.report.pages import Page
from leandnn.report.rbgp import tables

PAGE = Page("30_rbgp", tables.TABLES, landing="rbgp-accuracy")
