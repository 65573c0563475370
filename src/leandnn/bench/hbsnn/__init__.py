"""Speed of paper 4."""
