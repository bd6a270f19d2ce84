"""What the evidence of a study says: from scored replies to the dictionary of `study.json` (no torch)."""
