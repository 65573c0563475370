"""Figures and tables of paper 3."""

from leandnn.report.pages import Page
from leandnn.report.rbgp.tables import TABLES

PAGE = Page("30_rbgp", TABLES, landing="rbgp-accuracy")
