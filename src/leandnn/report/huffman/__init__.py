"""Figures and tables of paper 5."""
