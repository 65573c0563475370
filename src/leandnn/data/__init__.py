"""Data sets: fetched, verified, prepared, and served in batches."""
