"""Products with matrices whose non-zeros lie in panels: groups of rows that share their columns."""
