"""Speed of the kernels."""
