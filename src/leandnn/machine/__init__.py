"""The machine: what it is, what it can do, what decides bits on it."""
