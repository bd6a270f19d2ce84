"""What a person sees of an experiment: tables, figures, sample replies and a page, all from `experiment.json`."""
