"""What runs, and in which order: the plan of an experiment, its execution, sweeps and tracking."""
