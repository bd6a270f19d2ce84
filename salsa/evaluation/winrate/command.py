"""`salsa winrate`: what existing judgment files say, in FastChat's, Arena-Hard's or our own format."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

FAILED, MISUSED = 1, 2
"""Exit codes: what was asked for went wrong, or cannot be asked for."""
FORMATS = ("mt-bench-single", "mt-bench-pair", "arena-hard", "verdicts")
_DESCRIPTION = """\
Compute scores, win rates and ratings with honest intervals from judgments that exist already, plain or gzipped:
FastChat's <judge>_single.jsonl and <judge>_pair.jsonl, Arena-Hard's judgments and battles (both releases), and the
verdicts of salsa. Rows that cannot be read are counted and named; what was judged twice counts once.
"""
_EXAMPLES = """\
examples
  MT-Bench scores by model, turn and category
    salsa winrate --format mt-bench-single gpt-4_single.jsonl
  adjusted win rates against a baseline
    salsa winrate --format mt-bench-pair gpt-4_pair.jsonl --baseline gpt-3.5-turbo
  Arena-Hard with style control, from the files of a judge and of the answers
    salsa winrate --format arena-hard model_judgment/*.jsonl --baseline gpt-4-0314 --answers model_answer/*.jsonl
  three training seeds of one method
    salsa winrate --format verdicts verdicts.jsonl --replicates salsa=seed_1,seed_2,seed_3
"""


def add_parser(subparsers: Any) -> None:
    """Add `winrate` to the command line."""
    parser = subparsers.add_parser(
        "winrate",
        help="scores, win rates and ratings from judgment files",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="JSON lines, plain or gzipped")
    parser.add_argument("--format", choices=FORMATS, help="default: that which the first file looks like")
    parser.add_argument("--baseline", metavar="NAME", help="the model that the others are compared with")
    _add_reading(parser)
    _add_statistics(parser)
    parser.add_argument("--json", action="store_true", help="print JSON for programs, and nothing else")
    parser.add_argument("--out", type=Path, metavar="DIR", help="also write winrate.md, winrate.csv and winrate.json")


def _add_reading(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("reading")
    text = "files of answers, for style control and length bias (default: replies that the judge's prompts show)"
    group.add_argument("--answers", nargs="+", type=Path, default=[], metavar="FILE", help=text)
    text = "the questions: their categories, and with a cluster the topics that are resampled instead of questions"
    group.add_argument("--questions", type=Path, metavar="FILE", help=text)
    text = "take scores and winners as stored instead of reading the judge's texts"
    group.add_argument("--stored", action="store_true", help=text)
    text = "of what was judged twice, use the first judgment, or the last that gave a verdict (default)"
    group.add_argument("--duplicates", choices=("first", "last"), default="last", help=text)
    text = "whose rules read Arena-Hard's texts (default: the release whose layout the files have)"
    group.add_argument("--release", choices=("first", "current"), help=text)


def _add_statistics(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("statistics")
    text = "models that are replicates of one method, such as training seeds; may be given more than once"
    group.add_argument("--replicates", action="append", default=[], metavar="NAME=MODEL,MODEL", help=text)
    text = "Arena-Hard: battles that a strong verdict counts for (default: 3)"
    group.add_argument("--weight", type=_positive(int), default=3, metavar="N", help=text)
    text = "rounds of the question-clustered bootstrap (default: 10000)"
    group.add_argument("--rounds", type=_positive(int), default=10_000, metavar="N", help=text)
    group.add_argument("--level", type=_level, default=0.95, metavar="L", help="of its intervals (default: .95)")
    group.add_argument("--seed", type=int, default=0, metavar="N", help="of the resampling (default: 0)")


def run(args: argparse.Namespace) -> int:
    """Compute and show the report; return 0, 1 for files that cannot be read, 2 for what cannot be asked for."""
    try:
        methods = _methods(args.replicates)
    except ValueError as error:
        return _give_up(str(error), MISUSED)
    # From here on it takes a moment.
    from salsa.evaluation.published.lines import FormatError
    from salsa.evaluation.published.reading import Options, detect, read
    from salsa.evaluation.winrate.report import report
    from salsa.evaluation.winrate.settings import Settings

    try:
        form = args.format or detect(args.files[0])
        options = Options(args.baseline, args.release, args.stored, args.duplicates == "first")
        answers, questions = _background(args)
        reading = read(args.files, form, options, questions)
        settings = Settings(
            baseline=args.baseline,
            release=args.release,
            weight=args.weight,
            rounds=args.rounds,
            level=args.level,
            seed=args.seed,
            replicates=methods,
        )
        _check_baseline(args.baseline, reading, form)
        found = report(reading, args.files, answers, settings, options.first)
        _tell(found, args)
        return 0
    except BrokenPipeError:
        raise  # no failure: whoever read the output has seen enough
    except FormatError as error:
        return _give_up(str(error), FAILED)
    except OSError as error:
        return _give_up(f"{error.filename}: {error.strerror}" if error.filename else str(error), FAILED)
    except ValueError as error:
        return _give_up(str(error), MISUSED)


def _background(args: argparse.Namespace) -> tuple[Any, Any]:
    from salsa.evaluation.published.answers import answers, questions

    return answers(args.answers), questions(args.questions) if args.questions else None


def _check_baseline(baseline: str | None, reading: Any, form: str) -> None:
    if baseline is None or form == "mt-bench-single":
        return
    known = {name for verdict in reading.verdicts for name in (verdict.model_a, verdict.model_b) if name}
    known |= {name for battle in reading.battles for name in (battle.first, battle.second)}
    if baseline not in known:
        raise ValueError(f"--baseline {baseline} is not among the models: {', '.join(sorted(known))}")


def _tell(found: dict[str, Any], args: argparse.Namespace) -> None:
    if args.out is not None:
        from salsa.report.winrate.output import write

        write(found, args.out)
    if args.json:
        json.dump(found, sys.stdout, indent=2, ensure_ascii=False, allow_nan=False)
        sys.stdout.write("\n")
        return
    from salsa.report.winrate.output import show

    show(found)
    if args.out is not None:
        print(f"written to {args.out}")


def _methods(given: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for text in given:
        name, _, models = text.partition("=")
        listed = [model for model in models.split(",") if model]
        if not name or len(listed) < 2 or len(set(listed)) < len(listed):
            raise ValueError(f"--replicates {text}: expected NAME=MODEL,MODEL with at least two different models")
        found[name] = listed
    return found


def _positive(kind: Any) -> Any:
    def parsed(text: str) -> Any:
        value = kind(text)
        if value <= 0:
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value

    parsed.__name__ = "number"
    return parsed


def _level(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def _give_up(text: str, code: int) -> int:
    print(f"salsa winrate: {text}", file=sys.stderr)
    return code
