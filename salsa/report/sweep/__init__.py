"""What a person sees of a sweep: one table over its experiments, figures over the swept keys, missing cells named."""
