"""Rules: rewards that are functions of text, such as TRL's reward functions. Imports no torch."""

import functools
import inspect
import traceback
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from salsa.data.conversation import Prompt

COLUMNS = ("prompts", "completions", "ended", "messages", "ids")
"""What a rule can ask for by the names of its parameters, one entry a reply each."""


class RuleError(ValueError):
    """A rule that cannot be called, or whose values are no rewards; the message names the rule."""


class Rule:
    """A function that gives replies their rewards: `function(prompts=..., completions=..., ...)` -> one number a reply.

    It is given those of `COLUMNS` that it has parameters for, all of them if it takes `**kwargs`: `prompts`, the last
    question of each conversation; `completions`, the replies, without control tokens; `ended`, whether a reply has its
    end token; `messages`, the conversations before the replies as lists of {"role", "content"}; `ids`, the names of
    the prompts in the data. Parameters that are bound already (`functools.partial`) stay as they are.

    Raises:
        RuleError: if it needs a parameter that is not there, or does not look at completions.
    """

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name = name
        self._function = function
        self._accepted = _accepted(name, function)

    def values(self, prompts: Sequence[Prompt], completions: Sequence[str], ended: Sequence[bool]) -> list[float]:
        """Return one number a reply, which may be NaN or infinite: a guard of the training answers to that.

        Raises:
            RuleError: if the rule raises, or does not return one number a reply.
        """
        conversations = [prompt.conversation() for prompt in prompts]
        columns: dict[str, list[Any]] = {
            "prompts": [conversation[-1].content for conversation in conversations],
            "completions": list(completions),
            "ended": list(ended),
            "messages": [[{"role": said.role, "content": said.content} for said in each] for each in conversations],
            "ids": [prompt.id for prompt in prompts],
        }
        try:
            returned = self._function(**{name: columns[name] for name in self._accepted})
        except Exception as error:
            at = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{at.filename}, line {at.lineno}"
            raise RuleError(f"rule {self.name} raised {type(error).__name__}: {error} ({place})") from error
        return self._numbers(returned, columns["completions"])

    def _numbers(self, returned: Any, completions: Sequence[str]) -> list[float]:
        if isinstance(returned, str | bytes | dict) or not isinstance(returned, Iterable):
            raise RuleError(
                f"rule {self.name} returned {returned!r:.80} ({type(returned).__name__}); "
                "it must return a list with one number for each completion"
            )
        values = list(returned)
        if len(values) != len(completions):
            raise RuleError(
                f"rule {self.name} returned {len(values)} values for {len(completions)} completions; "
                "it must return one number for each"
            )
        return [self._number(row, value, completions[row]) for row, value in enumerate(values)]

    def _number(self, row: int, value: Any, completion: str) -> float:
        # Numbers of NumPy and of torch.
        number = value.item() if getattr(value, "shape", None) == () else value
        if not isinstance(number, int | float):
            raise RuleError(
                f"rule {self.name} returned {value!r:.40} ({type(value).__name__}) for row {row}, the completion "
                f"{completion!r:.80}; each value must be a number"
            )
        return float(number)


def _accepted(name: str, function: Callable[..., Any]) -> list[str]:
    """Return the columns that a function can be given, by name."""
    bound = set(function.keywords) if isinstance(function, functools.partial) else set()
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError) as error:
        raise RuleError(f"rule {name}: {function!r} is not a function with a signature ({error})") from error
    named = [each for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    free = {each.name for each in named} - bound
    takes_all = any(each.kind is each.VAR_KEYWORD for each in parameters)
    _check_required(name, [each for each in parameters if each.name not in bound])
    accepted = [column for column in COLUMNS if column not in bound and (takes_all or column in free)]
    if "completions" not in accepted:
        raise RuleError(f"rule {name} has no parameter completions; it takes (prompts, completions, **columns)")
    return accepted


def _check_required(name: str, parameters: Collection[inspect.Parameter]) -> None:
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    required = [each for each in parameters if each.default is each.empty and each.kind not in variable]
    missing = [each.name for each in required if each.name not in COLUMNS or each.kind is each.POSITIONAL_ONLY]
    if missing:
        raise RuleError(
            f"rule {name} needs {', '.join(missing)}; what is not one of {', '.join(COLUMNS)} "
            "must have a value in the configuration, or a default"
        )
