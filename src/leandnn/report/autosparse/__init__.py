"""Figures and tables of paper 2."""
