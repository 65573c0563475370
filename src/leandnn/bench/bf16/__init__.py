"""Speed of paper 1."""
