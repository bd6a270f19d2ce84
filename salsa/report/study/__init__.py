"""What a person sees of a study: verdicts, tables, figures and a page, all from `study.json`."""
