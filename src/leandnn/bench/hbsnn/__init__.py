"""Speed of paper 4."""

BENCHES = {"hbsnn": "patterns"}
