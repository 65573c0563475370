"""Figures and tables of paper 4."""
