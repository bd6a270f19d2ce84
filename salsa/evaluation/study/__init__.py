"""What a study concludes from its replicates: intervals, verdicts, chosen coefficients, fronts of gold against KL."""
