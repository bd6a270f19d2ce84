"""What a benchmark's protocol asks of its questions, checked as soon as they are at hand. Imports no torch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import judges
from pipelines.benchmarks import ALL, Benchmark
from pipelines.configuration import Config
from pipelines.judges import EndpointJudge, FunctionJudge

if TYPE_CHECKING:
    from salsa.judging.prompts import PromptSet
    from salsa.judging.questions import QuestionSet

CATEGORIES = frozenset({"writing", "roleplay", "stem", "humanities", "math", "coding", "reasoning", "extraction"})
"""Of MT-Bench: a selection of its questions need not have all that its protocol names."""

Fetch = Callable[[str], Path | None]
"""Gives the file of an address, None where it is not at hand."""


@dataclass(frozen=True)
class Protocol:
    """How a suite's questions are answered and judged, as plain values; without `kinds` nobody reads them.

    `prompts_key` names the key of the judge's prompts, `prompts` their file (None: our own), `count` how many questions
    are asked. Files are absolute.
    """

    suite: str
    count: int
    temperatures: Sequence[str]
    reference_categories: Sequence[str]
    references: str | None
    baselines: Mapping[str, str]
    kinds: Sequence[str]
    prompts_key: str
    prompts: str | None
    levels: int

    def to_json(self) -> dict[str, Any]:
        """Return plain values, for the stage that reads the questions: `Protocol(**values)`."""
        return asdict(self)

    @property
    def at(self) -> str:
        """The key of the benchmark."""
        return f"suite.benchmarks.{self.suite}"


def of(config: Config, suite: str, benchmark: Benchmark | None) -> Protocol:
    """Return the protocol of a benchmark, or of a suite of the data, in a configuration."""
    judge, given = config.judge, benchmark or Benchmark()
    reads = isinstance(judge, EndpointJudge | FunctionJudge)
    kinds = (given.kinds if benchmark else judge.kinds) if reads else []
    own = given.judge_prompts is not None
    path = given.judge_prompts or (judge.prompts if reads else None)
    return Protocol(
        suite=suite,
        count=given.prompts or config.suite.prompts,
        temperatures=list(given.temperatures),
        reference_categories=list(given.reference_categories),
        references=judges.absolute(given.references),
        baselines={category: str(judges.absolute(path)) for category, path in given.baselines.items()},
        kinds=[kind.value for kind in kinds],
        prompts_key=f"suite.benchmarks.{suite}.judge_prompts" if own else "judge.prompts",
        prompts=judges.absolute(path),
        levels=given.levels or (judge.levels if reads else 3),
    )


def problems(protocol: Protocol, questions: Path, fetch: Fetch) -> list[str]:
    """Return what of a protocol its questions do not bear, each with its key and the fix.

    Raises DataError where the questions cannot be read.
    """
    from salsa.data.rows import DataError
    from salsa.judging.questions import read_questions

    whole = read_questions(questions, protocol.suite)
    asked = replace(whole, questions=whole.questions[: protocol.count])
    found = list(_unknown_categories(protocol, whole))
    if protocol.kinds and not found:
        try:
            forms = _forms(protocol, asked, fetch)
        except DataError as error:
            found.append(f"{protocol.at}.references: {error}")
        else:
            found += prompt_problems(protocol, forms)
        found += _baselines(protocol, asked, fetch)
    return found


def prompt_problems(protocol: Protocol, forms: list[tuple[int, bool]]) -> list[str]:
    """Return why a judge cannot be asked of turns, with a right answer or without: (turn, with a reference)."""
    from salsa.data.rows import DataError
    from salsa.judging.prompts import PromptError

    try:
        prompts = judges.prompt_set(protocol.prompts, protocol.levels)
        for kind in protocol.kinds:
            _check_kind(prompts, kind)
            for turn, reference in forms:
                prompts.choose(kind, turn, reference)
    except (DataError, OSError, PromptError) as error:
        return [f"{protocol.prompts_key}={protocol.prompts}: {error} (null: our own)"]
    return []


def _check_kind(prompts: "PromptSet", kind: str) -> None:
    from salsa.judging.prompts import PromptError

    if not any(template.kind == kind for template in prompts.templates):
        raise PromptError(f"{prompts.source} has no prompt of kind {kind}; add some, take our own, or do not ask it")


def _unknown_categories(protocol: Protocol, questions: "QuestionSet") -> Iterator[str]:
    there = sorted({each.category for each in questions.questions} - {""})
    for key in ("reference_categories", "temperatures"):
        for name in getattr(protocol, key):
            if name not in there and name not in CATEGORIES:
                yield (
                    f"{protocol.at}.{key}: no question is of category {name!r}; {_there_are(there)}: "
                    "take it out or write it so"
                )


def _there_are(categories: list[str]) -> str:
    return f"their categories are {', '.join(categories)}" if categories else "they have no categories"


def _forms(protocol: Protocol, asked: "QuestionSet", fetch: Fetch) -> list[tuple[int, bool]]:
    """Return the turns that are judged, with a right answer or without; none if these are not at hand.

    Raises DataError where a question lacks a right answer.
    """
    from salsa.judging.questions import with_references

    if protocol.references is not None:
        path = fetch(protocol.references)
        if path is None:
            return []
        asked = with_references(asked, path, protocol.reference_categories)
    return sorted({(turn, bool(each.reference)) for each in asked.questions for turn in range(1, len(each.turns) + 1)})


def _baselines(protocol: Protocol, asked: "QuestionSet", fetch: Fetch) -> Iterator[str]:
    from salsa.data.rows import DataError
    from salsa.judging.questions import read_answers

    there = sorted({each.category for each in asked.questions} - {""})
    for category, address in protocol.baselines.items():
        at = f"{protocol.at}.baselines.{category}"
        own = [each for each in asked.questions if category in (ALL, each.category)]
        if not own:
            yield (
                f"{at}: none of the {len(asked.questions)} questions is of category {category!r}; "
                f"{_there_are(there)}: take it out or write it so (more questions: {protocol.at}.prompts)"
            )
        elif path := fetch(address):
            try:
                answered = read_answers(path, own).replies
            except DataError as error:
                yield f"{at}: {error}"
                continue
            if not answered:
                yield f"{at}={address}: answers none of the {len(own)} questions; is it of another benchmark?"
