"""Figures and tables of the kernels."""
