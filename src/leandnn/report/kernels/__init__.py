"""Figures and tables of the kernels."""

from leandnn.report.kernels.tables import TABLES
from leandnn.report.pages import Page

PAGE = Page("05_kernels", TABLES)
