"""Judges that are functions of one's own, named as `module:function`."""

import importlib
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from salsa.judging.answer import Answer
from salsa.judging.client import JudgeError
from salsa.judging.request import Completion, Request

Function = Callable[[Sequence[Request]], Sequence[Completion | str | None]]
"""A judge: given requests, it returns a completion for each, in their order, as text or with what is known of it.

The text is read by the grammar of the request's prompt, as that of any judge. None says that it has no answer.
"""


def load(name: str) -> Function:
    """Return the function that `module:function` names; the working directory is searched too.

    Raises:
        JudgeError: if there is no such module or function.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise JudgeError(f"--judge is {name!r}; write it as module:function")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except ImportError as error:
        raise JudgeError(f"judge {name}: {error}; is it in the working directory or installed?") from error
    except AttributeError as error:
        raise JudgeError(f"judge {name}: {error}") from error
    if not callable(found):
        raise JudgeError(f"judge {name} is no function but {type(found).__name__}")
    return found


def ask(function: Function, requests: Sequence[Request], batch: int, answered: Callable[[Answer], None]) -> None:
    """Ask a function `batch` requests at a time and hand on the answers.

    Raises:
        JudgeError: if it fails, or does not return one completion for each request.
    """
    for start in range(0, len(requests), batch):
        part = requests[start : start + batch]
        begun = time.monotonic()
        try:
            completions = list(function(part))
        except Exception as error:
            raise JudgeError(f"the judge failed: {type(error).__name__}: {error}") from error
        if len(completions) != len(part):
            raise JudgeError(f"the judge gave {len(completions)} completions for {len(part)} requests")
        seconds = (time.monotonic() - begun) / len(part)
        for request, completion in zip(part, completions, strict=True):
            answered(_answer(request, completion, seconds))


def _answer(request: Request, completion: Completion | str | None, seconds: float) -> Answer:
    if isinstance(completion, str):
        completion = Completion(completion)
    if completion is None:
        return Answer(request, None, "the judge gave no answer", None, seconds, 1)
    if not isinstance(completion, Completion):
        raise JudgeError(f"the judge gave {type(completion).__name__} for a completion; return text or Completion")
    return Answer(request, completion, "", None, seconds, 1)
