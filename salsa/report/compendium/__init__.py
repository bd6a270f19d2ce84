"""One page over everything in an outputs folder: studies, experiments, samples, landscapes, lineage."""
