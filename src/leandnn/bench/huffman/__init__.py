"""Speed of paper 5."""

BENCHES = {"huffman": "inference"}
