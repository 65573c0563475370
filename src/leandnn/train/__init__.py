"""Training: the one loop, its checkpoints and schedules, and the runner of whole comparisons."""
