"""Figures and tables of paper 5."""

from leandnn.report.huffman import tables
from leandnn.report.pages import Page

PAGE = Page("50_huffman", tables.TABLES, landing="huffman-caps")
