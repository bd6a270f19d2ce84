"""`salsa judge`: judging files of answers, for people who need nothing else of this project."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from salsa.judging.arguments import UsageError, add_judge, add_output
from salsa.judging.asking import carried_out, print_json
from salsa.report.markup import visible

if TYPE_CHECKING:
    from salsa.judging.questions import Answers, QuestionSet
    from salsa.judging.request import Request

_DESCRIPTION = """\
Ask a judge about the answers of one model (scores from 1 to 10) or of two (which one is better, in both orders).
Verdicts are appended to --out as they arrive; the same command goes on where it was stopped. Files of answers and
questions are FastChat's, Arena-Hard's, or JSON lines: {"id": 1, "reply": "..."} and {"id": 1, "question": "..."}.
The key comes from the environment and goes nowhere but to the endpoint.
"""
_EXAMPLES = """\
examples
  what it will cost, before anything is asked
    salsa judge tuned.jsonl base.jsonl --questions question.jsonl --judge-url https://api.openai.com/v1 \\
      --judge-model gpt-4.1-2025-04-14 --price-in 2 --price-out 8 --dry-run
  two models on MT-Bench by the official prompts and references, then the win rate of the first one
    salsa judge tuned.jsonl base.jsonl --questions question.jsonl --references gpt-4.jsonl \\
      --prompts judge_prompts.jsonl --judge-url URL --judge-model NAME --max-cost 10 --price-in 2 --price-out 8 \\
      --out verdicts.jsonl
    salsa winrate --format verdicts verdicts.jsonl
  scores of one model, by a judge on this machine
    salsa judge tuned.jsonl --questions question.jsonl --judge-url http://localhost:8000/v1 --judge-model NAME \\
      --out verdicts.jsonl
  read stored completions anew; nothing is asked
    salsa judge --reparse --out verdicts.jsonl
"""


def add_parser(subparsers: Any) -> None:
    """Add `judge` to the command line."""
    parser = subparsers.add_parser(
        "judge",
        help="ask a judge about the answers of one or two models",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    text = "the model that is judged; with a second file the two are compared, and wins are those of the first one"
    parser.add_argument("answers", nargs="*", type=Path, metavar="ANSWERS", help=text)
    parser.add_argument("--questions", type=Path, metavar="FILE", help="the questions that were answered")
    text = "right answers, in the form of a file of answers, for questions of --reference-categories"
    parser.add_argument("--references", type=Path, metavar="FILE", help=text)
    text = "default: math reasoning coding, as in MT-Bench; questions without a category always count"
    parser.add_argument("--reference-categories", nargs="+", metavar="C", help=text)
    parser.add_argument("--suite", metavar="NAME", help="name of the benchmark in the verdicts (default: by the form)")
    text = "names of the models (default: those in the files)"
    parser.add_argument("--names", nargs="+", metavar="NAME", help=text)
    parser.add_argument("--partial", action="store_true", help="judge what is answered, where answers are missing")
    text = "read the completions in --out anew, by their grammar or the one that is named; nothing is asked"
    parser.add_argument("--reparse", nargs="?", const="", metavar="GRAMMAR", help=text)
    add_judge(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Judge; return 0, 1 if a verdict is missing at the end, 2 for something that cannot be asked for."""
    return carried_out("salsa judge", lambda: _judge(args) if args.reparse is None else _reparse(args))


def _judge(args: argparse.Namespace) -> int:
    from salsa.judging import options
    from salsa.judging.asking import asked
    from salsa.judging.matches import Asked

    _check(args)
    name, judge, settings = options.judge(args)
    requests = _requests(args, Asked(name, options.prompts(args), settings))
    outcome = asked(args, requests, judge)
    return 0 if outcome is None or outcome.complete else 1


def _check(args: argparse.Namespace) -> None:
    if len(args.answers) not in (1, 2):
        raise UsageError(f"{len(args.answers)} files of answers are named; name one to score it, two to compare them")
    if args.questions is None:
        raise UsageError("--questions is missing: name the file of the questions that were answered")
    if args.names is not None and len(args.names) != len(args.answers):
        raise UsageError(f"--names has {len(args.names)} names for {len(args.answers)} files of answers")
    if args.reference_categories is not None and args.references is None:
        raise UsageError("--reference-categories says for which questions --references counts; name that file too")
    if args.levels is not None and len(args.answers) == 1:
        raise UsageError("--levels is for comparing two models; a single one is scored from 1 to 10")


def _requests(args: argparse.Namespace, asked: Any) -> "list[Request]":
    from salsa.judging.matches import pairs, singles
    from salsa.judging.questions import REFERENCE_CATEGORIES, read_answers, read_questions, with_references

    questions = read_questions(args.questions, args.suite)
    names = args.names or [None] * len(args.answers)
    answers = [read_answers(path, questions.questions, name) for path, name in zip(args.answers, names, strict=True)]
    for each in answers:
        _check_answered(args, questions, each)
    if args.references is not None:
        categories = tuple(args.reference_categories or REFERENCE_CATEGORIES)
        questions = with_references(questions, args.references, categories)
    elif not args.quiet and any(question.category in REFERENCE_CATEGORIES for question in questions.questions):
        print("salsa judge: math, reasoning and coding are judged without --references", file=sys.stderr)
    if len(answers) == 1:
        return singles(questions, answers[0], asked)
    if answers[0].model == answers[1].model:
        raise UsageError(f"both models are called {answers[0].model}; tell them apart with --names FIRST SECOND")
    return pairs(questions, answers[0], answers[1], asked)


def _check_answered(args: argparse.Namespace, questions: "QuestionSet", answers: "Answers") -> None:
    from salsa.data.rows import DataError
    from salsa.judging.questions import listed, unanswered

    missing = unanswered(questions, answers)
    if not missing:
        return
    text = f"{answers.source} has no answer to all turns of {listed(missing)}"
    if not args.partial:
        raise DataError(f"{text}; answer them, or judge the others with --partial")
    if not args.quiet:
        print(f"salsa judge: {visible(text)}; they are not judged", file=sys.stderr)


def _reparse(args: argparse.Namespace) -> int:
    from salsa.judging.answer import reparsed
    from salsa.judging.grammar import GRAMMARS
    from salsa.judging.log import VerdictLog
    from salsa.judging.verdict import counting, counts, lines

    if args.out is None or args.answers:
        raise UsageError("--reparse reads the file of --out alone; write salsa judge --reparse --out verdicts.jsonl")
    if args.reparse and args.reparse not in GRAMMARS:
        raise UsageError(f"--reparse is {args.reparse!r}, expected one of {', '.join(GRAMMARS)}")
    if not args.out.exists():
        raise UsageError(f"--out: there is no {args.out}")
    with VerdictLog(args.out) as log:
        before = list(lines(log.path))  # every one: what was asked again has several, and all were paid for
        try:
            after = [reparsed(found, args.reparse or None) for found in before]
        except ValueError as error:
            raise UsageError(f"--reparse: {error}") from None
        counted = counting(after)
        changed = sum(counted[key] != found for key, found in log.verdicts.items())
        if after != before and not args.dry_run:
            log.rewrite(after)
    shown: dict[str, Any] = {"out": str(args.out), **counts(counted.values()), "changed": changed, "calls": 0}
    if args.json:
        print_json(shown)
    elif not args.quiet:
        print(", ".join(f"{shown[name]:,} {name}" for name in ("sent", "judged", "unparsed", "failed", "changed")))
    return 0
