"""Speed of paper 1."""

BENCHES = {"train-step": "train_step"}
