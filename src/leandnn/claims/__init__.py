"""The claims as data, what was measured of them, and the verdicts."""
