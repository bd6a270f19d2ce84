"""The chaos test: processes are killed while they work, and the results must not show it. `python -m tests.chaos`."""
