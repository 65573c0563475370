"""Figures and tables of paper 1."""
