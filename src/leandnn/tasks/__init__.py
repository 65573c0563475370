"""What is learned: a task each, for the one loop (train/loop.py); and the judges of images."""
