"""Stage `rule`: what zero and one of a rule of the reward mean, measured on the replies of SFT1."""

import json
import math
from typing import Any

from pipelines.rules import load
from pipelines.stages.reward import ROLE, fixed_replies, unit
from pipelines.work import Work
from salsa.models.families import load_tokenizer
from salsa.rl.rules import Rule


def run(work: Work) -> tuple[str, dict[str, Any]]:
    """Leave `rule.json`: mean and standard deviation of the rule's values, on the replies of the reward's normaliser.

    Raises ValueError where the rule gives all of them the same value.
    """
    place = work.stage.execution
    rule = Rule(place["key"], load(place["key"], work.config["rule"], place["folders"]))
    fixed = fixed_replies(work, load_tokenizer(work.inputs["normaliser"].path), ROLE)
    values = rule.values(
        fixed.prompts, [reply.text for reply in fixed.replies], [reply.ended for reply in fixed.replies]
    )
    broken = next((value for value in values if not math.isfinite(value)), None)
    if broken is not None:
        raise ValueError(f"{place['key']} gives a reply of SFT1 the value {broken}, which cannot be normalised")
    fix = f"{place['key']} gives every reply of SFT1 the same value; use {place['key']}.normalise=false"
    measured = unit(values, fix) | {"normaliser_finished": fixed.finished}
    (work.folder / "rule.json").write_text(json.dumps(measured, indent=1))
    says = f"mean {measured['mean']:.3g}, standard deviation {measured['std']:.3g} on {len(values)} replies of SFT1"
    return says, measured
