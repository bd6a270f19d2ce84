"""What is reported together: the judgments of one suite, kind and judge, by prompts that do not compete."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from salsa.evaluation.battles import Battle
from salsa.evaluation.published.reading import Reading
from salsa.evaluation.published.rows import Row
from salsa.judging.verdict import Verdict

Scope = tuple[str, str, str]
"""Suite, kind and judge."""


@dataclass(frozen=True)
class Name:
    """What a section is about; the category is empty where it has all, `prompts` is a number (0 where it has all)."""

    suite: str
    kind: str
    judge: str
    category: str
    prompts: int


@dataclass
class Group:
    """The judgments of a section, its rows with duplicates, and its battles; `prompts` if others compete with them."""

    verdicts: list[Verdict] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    battles: list[Battle] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)


def groups(reading: Reading) -> dict[Name, Group]:
    """Return what belongs together.

    Categories of Arena-Hard are kept apart where each has a baseline of its own. A suite may have several prompts,
    as for its turns; they are kept apart where two of them judged the same replies to the same question.
    """
    apart, prompts = _apart(reading), _numbers(reading.verdicts)
    rivals = {scope for (scope, _), number in prompts.items() if number > 0}

    def name(verdict: Verdict) -> Name:
        scope = _scope(verdict)
        return Name(*scope, verdict.category if scope in apart else "", prompts[(scope, verdict.prompt)])

    found: dict[Name, Group] = {}
    for verdict in reading.verdicts:
        group = found.setdefault(name(verdict), Group())
        group.verdicts.append(verdict)
        shown = f"{verdict.prompt_name} {verdict.prompt[:8]}".strip()
        if _scope(verdict) in rivals and shown not in group.prompts:
            group.prompts.append(shown)
    for row in reading.appended:
        known = [each.verdict for each in row.judged if (_scope(each.verdict), each.verdict.prompt) in prompts]
        for verdict in known[:1]:
            found.setdefault(name(verdict), Group()).rows.append(row)
    for battle in reading.battles:
        category = battle.category if _BATTLES in apart else ""
        found.setdefault(Name(*_BATTLES, category, 0), Group()).battles.append(battle)
    return found


_BATTLES: Scope = ("arena_hard", "arena", "")


def _scope(verdict: Verdict) -> Scope:
    arena = verdict.kind == "pair" and verdict.suite.startswith("arena")
    return verdict.suite, "arena" if arena else verdict.kind, verdict.judge


def _apart(reading: Reading) -> set[Scope]:
    """Return what has a single baseline in each category, and not the same one in all."""
    opponents: dict[Scope, dict[str, set[str]]] = {}
    for verdict in reading.verdicts:
        scope = _scope(verdict)
        if scope[1] == "arena" and verdict.model_b is not None and verdict.model_a != verdict.model_b:
            opponent = verdict.model_a if verdict.order == 1 else verdict.model_b
            opponents.setdefault(scope, {}).setdefault(verdict.category, set()).add(opponent)
    for battle in reading.battles:
        if battle.first != battle.second:
            opponents.setdefault(_BATTLES, {}).setdefault(battle.category, set()).add(battle.first)
    return {scope for scope, found in opponents.items() if _differ(found)}


def _differ(opponents: Mapping[str, set[str]]) -> bool:
    return all(len(found) == 1 for found in opponents.values()) and len(set.union(*opponents.values())) > 1


def _numbers(verdicts: Iterable[Verdict]) -> dict[tuple[Scope, str], int]:
    """Return a number for each prompt, the lowest that none has which judged the same replies to a question."""
    judged: dict[tuple[object, ...], set[str]] = {}
    rivals: dict[tuple[Scope, str], set[str]] = {}
    for verdict in verdicts:
        scope, models = _scope(verdict), frozenset({verdict.model_a, verdict.model_b})
        others = judged.setdefault((scope, verdict.question, verdict.turn, models), set())
        rivals.setdefault((scope, verdict.prompt), set())
        if verdict.prompt not in others:
            for other in others:
                rivals[(scope, verdict.prompt)].add(other)
                rivals[(scope, other)].add(verdict.prompt)
            others.add(verdict.prompt)
    numbers: dict[tuple[Scope, str], int] = {}
    for scope, prompt in rivals:
        taken = {numbers.get((scope, other)) for other in rivals[(scope, prompt)]}
        numbers[(scope, prompt)] = next(number for number in range(len(taken) + 1) if number not in taken)
    return numbers
