"""Speed of paper 2."""

BENCHES = {"autosparse": "speed"}
