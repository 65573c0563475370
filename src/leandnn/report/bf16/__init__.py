"""Figures and tables of paper 1."""

from leandnn.report.bf16 import tables
from leandnn.report.pages import Page

PAGE = Page("10_bf16", tables.TABLES, landing="bf16-pairs")
