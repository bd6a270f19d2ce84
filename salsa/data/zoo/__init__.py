"""Pocket Zoo: a small generated instruction world in which every stage of the work can run for real, in seconds."""
