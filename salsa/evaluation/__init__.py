"""Measures of replies and reward models, and the statistics on them: NumPy only."""
