"""Figures and tables of paper 1."""

from leandnn.report.bf16.tables import TABLES
from leandnn.report.pages import Page

PAGE = Page("10_bf16", TABLES, landing="bf16-pairs")
