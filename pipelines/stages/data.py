"""Stage `data`: reads files or hub sets once, checks every row, and leaves canonical JSON lines in disjoint splits."""
