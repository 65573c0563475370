"""Speed of paper 3."""
