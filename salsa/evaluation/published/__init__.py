"""Readers of judgment files that others published: FastChat's, Arena-Hard's and our own verdicts."""
