"""Stage `soup`: the weighted average of the SFT models, tensor by tensor."""

from typing import Any

from pipelines.work import Work
from salsa.soup.average import average


def run(work: Work) -> tuple[str, dict[str, Any]]:
    """Leave the soup's model folder."""
    weights = work.config["weights"]
    folders = [work.inputs[f"ingredient_{index}"].path for index in range(1, len(weights) + 1)]
    average(folders, weights, work.folder)
    shares = " + ".join(f"{weight:g} SFT{index}" for index, weight in enumerate(weights, start=1))
    return shares, {"weights": list(weights)}
