"""Figures and tables of the kernels."""

from leandnn.report.kernels import tables
from leandnn.report.pages import Page

PAGE = Page("05_kernels", tables.TABLES)
