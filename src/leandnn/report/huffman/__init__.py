"""Figures and tables of paper 5."""

from leandnn.report.huffman.tables import TABLES
from leandnn.report.pages import Page

PAGE = Page("50_huffman", TABLES, landing="huffman-caps")
