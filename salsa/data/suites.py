"""Names of prompt suites: those that ingestion makes itself, and those that a file of prompts may become."""

import re

OWN_SUITES = ("heldout", "validation")
"""Suites made of prompts that no split of the pairs contains."""

ULTRA_SUITES = ("ultrachat", "ultrafeedback")
"""Suites that the test splits of the hub sets become (`salsa.data.sets`)."""

TAKEN = (*OWN_SUITES, "mean")
"""Names that no file can have: in tables, "mean" is the column of the mean over suites."""


def name_problem(name: str) -> str | None:
    """Return why the suite of a file cannot have this name, or None if it can."""
    if name in TAKEN:
        return f"the names {', '.join(TAKEN)} are taken"
    if not re.fullmatch(r"[A-Za-z0-9_]+", name):
        return "a name is made of letters, digits and underscores"
    return None
