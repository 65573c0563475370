"""Speed of the kernels."""

BENCHES = {"panels": "panels", "rounding": "rounding", "sparse-step": "sparse_step"}
