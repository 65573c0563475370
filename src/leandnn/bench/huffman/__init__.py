"""Speed of paper 5."""
