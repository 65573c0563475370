"""Speed of paper 2."""
