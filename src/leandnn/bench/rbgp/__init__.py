"""Speed of paper 3."""

BENCHES = {"rbgp": "inference"}
