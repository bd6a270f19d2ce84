"""Sentences beside the tables: what was read, what was left out, by which rules."""

from collections.abc import Iterator, Mapping
from typing import Any

from salsa.report.markup import one_line, visible

Found = Mapping[str, Any]
COUNTS = ("sent", "judged", "unparsed", "failed")
"""What became of the judgments that were asked for."""


def heading(section: Found) -> str:
    """Return what a section is about."""
    judge = f", judged by {section['judge']}" if section["judge"] else ""
    snapshots = f" ({', '.join(section['snapshots'])})" if section["snapshots"] else ""
    category = f", {section['category']}" if section["category"] else ""
    prompts = f", prompt {' and '.join(section['prompts'])}" if section["prompts"] else ""
    against = f", against {section['baseline']}" if section.get("baseline") else ""
    return one_line(f"{section['suite'] or 'no suite named'}{category}{judge}{snapshots}{prompts}{against}")


def notes(found: Found) -> list[str]:
    """Return sentences on what was read: nothing that was left out goes unsaid."""
    read = found["reading"]
    rows = f"{read['rows']} rows: {read['used']} used, {read['duplicates']} duplicates, {read['malformed']} malformed"
    lines = [f"{found['format']}, {len(found['files'])} file{'s' * (len(found['files']) > 1)}, {rows}."]
    if read["duplicates"]:
        models = ", ".join(f"{model} ({count})" for model, count in read["duplicates_by_model"].items())
        kept = "the first" if read["duplicates_kept"] == "first" else "the last that gave a verdict"
        other = read["duplicates"] - read["duplicates_same_text"]
        lines.append(f"Judged more than once: {models}; {kept} counts. {other} of them have another text.")
    if read["duplicates_other_asked"]:
        other = read["duplicates_other_asked"]
        lines.append(f"{other} of them are of other replies or settings of the judge: these may be different models.")
    if read["retries"]:
        lines.append(f"{read['retries']} lines are of questions that were asked again, as they had no verdict.")
    lines += [f"Malformed: {text}" for text in read["malformed_rows"]]
    if read["malformed"] > len(read["malformed_rows"]):
        lines.append(f"Malformed: {read['malformed'] - len(read['malformed_rows'])} more.")
    if read["compared_with_stored"]:
        compared = f"{read['compared_with_stored']} verdicts read from the judge's text"
        lines.append(f"{compared}; {read['differ_from_stored']} differ from what is stored.")
    lines += [f"Differs: {text}" for text in read["differing"]]
    if read["without_text"]:
        lines.append(f"{read['without_text']} verdicts have no text: taken as stored.")
    if read["not_read"]:
        lines.append(f"{read['not_read']} verdicts were not read again (--stored, or no known grammar): as stored.")
    return [visible(line) for line in lines]


def remarks(section: Found, found: Found) -> list[str]:
    """Return sentences on a section's rule, its counts, and what is unusual in it."""
    told = ", ".join(f"{section['counts'][name]} {name}" for name in COUNTS)
    lines = [f"Judgments: {told}."] if section["counts"]["sent"] else []
    lines.append(f"Rule: {section.get('rules', {}).get(section['rule'], section['rule'])}.")
    if len(section["snapshots"]) > 1:
        lines.append(f"The judge changed: {', '.join(section['snapshots'])} are mixed here.")
    if section.get("outside_scale"):
        lines.append(f"{section['outside_scale']} scores are outside 1 to 10; they count as the judge wrote them.")
    if "matches" in section and section["matches"]["all"]:
        match = section["matches"]
        told = (
            f"{match['both_judged']} with two verdicts, {match['one_judged']} with one, {match['none_judged']} without"
        )
        lines.append(f"Matches: {match['all']}; {told}; {match['one_order_only']} in one order only.")
    if "baseline" in section:
        lines += _on_baseline(section)
    if section.get("battles", {}).get("self"):
        lines.append(f"{section['battles']['self']} battles of a model against itself are left out.")
    if section.get("style") and section["style"]["unknown_battles"]:
        left_out = section["style"]["unknown_battles"]
        lines.append(f"Style control leaves out {left_out} battles whose replies are not known.")
    if section["kind"] == "arena" and not section["style"] and (found["replies"] or {}).get("models"):
        lines.append(
            f"No battle has both replies in the answers, which are of {', '.join(found['replies']['models'])}."
        )
    if found["replies"] and section["kind"] != "single":
        unit = "tokens as counted in the files" if found["replies"]["length_unit"] == "tokens" else "words and marks"
        lines.append(f"Length of replies ({found['replies']['source']}): {unit}.")
    return [visible(line) for line in lines]


def _on_baseline(section: Found) -> Iterator[str]:
    if section["baseline"] is None:
        yield "No baseline: win rates are over all opponents."
    elif section.get("baseline_inferred"):
        yield f"Baseline: {section['baseline']}, which is in every battle (--baseline names another)."
    else:
        yield f"Baseline: {section['baseline']}."
