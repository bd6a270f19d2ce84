"""The options that `salsa judge` and `salsa judge-agreement` share. Imports nothing that takes long."""

import argparse
from pathlib import Path


class UsageError(ValueError):
    """Options that do not make sense, alone or together; the message names one and says how it is written."""


def add_judge(parser: argparse.ArgumentParser) -> None:
    """Add the options that say who judges, by which prompts, how fast, and what it may cost."""
    group = parser.add_argument_group("judge")
    text = "any OpenAI-compatible endpoint, such as http://localhost:8000/v1"
    group.add_argument("--judge-url", metavar="URL", help=text)
    group.add_argument("--judge-model", metavar="NAME", help="the model at the endpoint; best a dated snapshot")
    text = "ask a function of your own: given requests, it returns a completion for each (salsa.judging.functions)"
    group.add_argument("--judge", metavar="MODULE:FUNCTION", help=text)
    text = "the environment variable that holds the key (default: OPENAI_API_KEY)"
    group.add_argument("--key-env", default="OPENAI_API_KEY", metavar="NAME", help=text)
    group.add_argument("--prompts", type=Path, metavar="FILE", help="prompts in the form of FastChat's file")
    text = "levels of our own pairwise prompts (default: 3)"
    group.add_argument("--levels", type=int, choices=(3, 5), help=text)
    group.add_argument("--temperature", type=float, default=0.0, metavar="T", help="default: 0")
    group.add_argument("--max-tokens", type=int, default=2048, metavar="N", help="of a verdict (default: 2048)")
    text = 'more keys for the request, as JSON; null takes one out: \'{"seed": 1, "temperature": null}\''
    group.add_argument("--body", metavar="JSON", help=text)
    group = parser.add_argument_group("pace")
    text = "requests under way at once (default: 8); of a function: requests a call"
    group.add_argument("--concurrency", type=int, default=8, metavar="N", help=text)
    text = "of one request, for what may pass: 5xx, lost connections, time-outs (default: 6)"
    group.add_argument("--attempts", type=int, default=6, metavar="N", help=text)
    text = "seconds for a whole answer (default: 300)"
    group.add_argument("--timeout", type=float, default=300.0, metavar="S", help=text)
    text = "seconds for a connection (default: 10)"
    group.add_argument("--connect-timeout", type=float, default=10.0, metavar="S", help=text)
    text = "first wait between attempts, in seconds; it doubles up to a minute (default: 1)"
    group.add_argument("--wait", type=float, default=1.0, metavar="S", help=text)
    group = parser.add_argument_group("cost")
    text = "stop after N requests, over all runs into the same file"
    group.add_argument("--max-calls", type=int, metavar="N", help=text)
    text = "stop before more than X is spent, over all runs into the same file"
    group.add_argument("--max-cost", type=float, metavar="X", help=text)
    group.add_argument("--price-in", type=float, metavar="P", help="price of a million tokens that the judge reads")
    group.add_argument("--price-out", type=float, metavar="P", help="price of a million tokens that the judge writes")


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where verdicts go and what is shown."""
    group = parser.add_argument_group("work")
    text = "the file of verdicts; what it holds is not asked again"
    group.add_argument("--out", type=Path, metavar="FILE", help=text)
    text = "ask again for verdicts that could not be parsed"
    group.add_argument("--ask-again", action="store_true", help=text)
    group.add_argument("--dry-run", action="store_true", help="show what would be asked and about what it costs")
    group.add_argument("--json", action="store_true", help="print JSON for programs, and nothing else")
    group.add_argument("--quiet", action="store_true", help="print nothing but errors and what --json asks for")
