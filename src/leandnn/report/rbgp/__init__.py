"""Figures and tables of paper 3."""
