"""Made-up studies that have everything: a table over families and suites, an ablation of alpha, a frontier, a plane."""

from tests.report.study.comparisons import alpha, made_with, table_1
from tests.report.study.fronts import MODELS, frontier, plane
from tests.report.study.pieces import ARMS, FAMILIES, SUITES, cell, estimate, fingerprint, study

__all__ = [
    "ARMS",
    "EXAMPLES",
    "FAMILIES",
    "MODELS",
    "SUITES",
    "alpha",
    "cell",
    "estimate",
    "fingerprint",
    "frontier",
    "made_with",
    "plane",
    "study",
    "table_1",
]

EXAMPLES = {"plane": plane, "table_1": table_1, "alpha": alpha, "frontier": frontier}
