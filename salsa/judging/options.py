"""What a person asks of a judge on the command line, as checked values."""

import argparse
import json
import math
from typing import Any

from salsa.judging.arguments import UsageError
from salsa.judging.cost import Prices
from salsa.judging.endpoint import Endpoint, EndpointError
from salsa.judging.functions import Function, load
from salsa.judging.judgment import Spending
from salsa.judging.prompts import PromptSet, official, own
from salsa.judging.schedule import Limits


def judge(args: argparse.Namespace) -> tuple[str, Endpoint | Function, dict[str, Any]]:
    """Return the judge's name, the judge, and its settings that may change a verdict.

    Raises:
        UsageError: for options that do not make sense.
        JudgeError: for a function that cannot be loaded.
    """
    if args.judge is not None:
        if args.judge_url is not None:
            raise UsageError("--judge and --judge-url name two judges; keep one")
        return args.judge_model or args.judge, load(args.judge), {}
    if args.judge_url is None or args.judge_model is None:
        raise UsageError("name the judge: --judge-url and --judge-model, or --judge module:function")
    try:
        endpoint = Endpoint(
            url=args.judge_url,
            model=args.judge_model,
            key_variable=args.key_env,
            temperature=_number("--temperature", args.temperature, 0.0),
            max_tokens=args.max_tokens,
            body=_body(args.body),
            connect=args.connect_timeout,
            total=args.timeout,
        )
        endpoint.key()
    except EndpointError as error:
        raise UsageError(str(error)) from None
    return args.judge_model, endpoint, endpoint.settings()


def prompts(args: argparse.Namespace) -> PromptSet:
    """Return the prompts; raise UsageError where --levels and --prompts name two, and what `official` raises."""
    if args.prompts is None:
        return own(args.levels or 3)
    if args.levels is not None:
        raise UsageError("--levels is for our own prompts; those of --prompts say themselves what they ask for")
    return official(args.prompts)


def limits(args: argparse.Namespace) -> Limits:
    """Return how the judge is asked; raise UsageError for a number out of range."""
    for option in ("--concurrency", "--attempts"):
        if getattr(args, option[2:]) < 1:
            raise UsageError(f"{option} is {getattr(args, option[2:])}, expected 1 or more")
    wait = _number("--wait", args.wait, 0.0)
    return Limits(args.concurrency, args.attempts, wait, max(wait, Limits.longest_wait))


def spending(args: argparse.Namespace) -> Spending:
    """Return prices and limits of the cost; raise UsageError where one is missing or out of range."""
    for option in ("--max-cost", "--price-in", "--price-out"):
        value = getattr(args, option[2:].replace("-", "_"))
        if value is not None:
            _number(option, value, 0.0)
    if (args.price_in is None) != (args.price_out is None):
        raise UsageError("--price-in and --price-out go together")
    if args.max_cost is not None and args.price_in is None:
        raise UsageError("--max-cost needs the prices of tokens: --price-in and --price-out")
    if args.max_calls is not None and args.max_calls < 0:
        raise UsageError(f"--max-calls is {args.max_calls}, expected 0 or more")
    if args.judge is not None and (args.max_cost is not None or args.max_calls is not None):
        raise UsageError("--max-calls and --max-cost are for endpoints; a function of --judge keeps its own budget")
    return Spending(Prices(args.price_in, args.price_out), args.max_calls, args.max_cost)


def longest(args: argparse.Namespace, judge: Endpoint | Function) -> int | None:
    """Return the most tokens that a completion may have; raise UsageError where --max-cost needs them and none are."""
    most = judge.longest if isinstance(judge, Endpoint) else args.max_tokens
    if most is None and args.max_cost is not None:
        raise UsageError(
            "--max-cost needs a limit of the length: --body takes out max_tokens; give max_completion_tokens there"
        )
    return most


def _body(text: str | None) -> dict[str, Any]:
    try:
        body = json.loads(text or "{}")
    except ValueError as error:
        raise UsageError(f"--body is no JSON ({error})") from None
    if not isinstance(body, dict):
        raise UsageError("--body is no JSON object; write it as '{\"seed\": 1}'")
    if taken := {"model", "messages", "stream", "n"} & set(body):
        raise UsageError(f"--body cannot set {sorted(taken)[0]}")
    return body


def _number(option: str, value: float, least: float) -> float:
    if not (math.isfinite(value) and value >= least):
        raise UsageError(f"{option} is {value}, expected a number of {least:g} or more")
    return value
