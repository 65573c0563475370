"""Rounding of float32 values to narrower formats, kept as float32."""
