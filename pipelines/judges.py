"""Judges: the schema of `judge=`, what a judge is known by, and how a stage gets hold of one that reads.

Two kinds: those that give every reply a score (the embedded world's gold reward, a second reward model), and those
that read replies and say which is better (any OpenAI-compatible endpoint, a function of one's own). Imports no torch.
"""

import hashlib
import inspect
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import MISSING

from pipelines import rules
from pipelines.benchmarks import ALL, Benchmark, check_kinds
from pipelines.choices import JudgeName, Question, Role
from pipelines.ranges import ConfigurationError, require
from salsa.judging.endpoint import Endpoint, EndpointError

if TYPE_CHECKING:
    from salsa.judging.judgment import Spending
    from salsa.judging.prompts import PromptSet
    from salsa.judging.schedule import Limits

_SETTINGS = {"connect": "connect_timeout", "total": "timeout"}
"""Keys of settings of an endpoint that are called otherwise there."""
_NAME = 100
"""Characters of a judge's name in the name of a file."""
NO_SCORES = "none"
"""What stages that score replies are told where the judge gives no scores."""


@dataclass
class ScoreJudge:
    """Gives every reply a score; the higher one wins."""

    name: JudgeName = MISSING
    tie_margin: float = MISSING
    rounds: int = MISSING
    level: float = MISSING

    def check(self, at: str) -> None:
        """Check the ranges of the keys under `at`."""
        require(self.tie_margin >= 0, f"{at}.tie_margin", self.tie_margin, "must not be negative")
        _check_intervals(self, at)


@dataclass
class _Reader:
    """What judges that read have in common."""

    name: JudgeName = MISSING
    rows: list[Role] = MISSING
    kinds: list[Question] = MISSING
    levels: int = MISSING
    prompts: str | None = MISSING
    concurrency: int = MISSING
    max_failed: float = MISSING
    max_unparsed: float = MISSING
    rounds: int = MISSING
    level: float = MISSING

    def check(self, at: str) -> None:
        """Check the ranges of the keys under `at`."""
        require(len(self.rows) > 0, f"{at}.rows", [], f"name at least one of {', '.join(role.value for role in Role)}")
        check_kinds(f"{at}.kinds", self.kinds)
        require(self.levels in (3, 5), f"{at}.levels", self.levels, "our own prompts have 3 or 5 levels")
        require(self.concurrency >= 1, f"{at}.concurrency", self.concurrency, "must be at least 1")
        require(0 <= self.max_failed < 1, f"{at}.max_failed", self.max_failed, "is a share and must be in [0, 1)")
        unread = self.max_unparsed
        require(0 <= unread <= 1, f"{at}.max_unparsed", unread, "is a share and must be in [0, 1] (1: no limit)")
        _check_intervals(self, at)


@dataclass
class EndpointJudge(_Reader):
    """A model behind an OpenAI-compatible endpoint."""

    url: str = MISSING
    model: str = MISSING
    key_variable: str | None = MISSING
    temperature: float = MISSING
    max_tokens: int = MISSING
    body: dict[str, Any] = MISSING
    price_in: float | None = MISSING
    price_out: float | None = MISSING
    max_calls: int | None = MISSING
    max_cost: float | None = MISSING
    attempts: int = MISSING
    wait: float = MISSING
    timeout: float = MISSING
    connect_timeout: float = MISSING

    def check(self, at: str) -> None:
        """Check the ranges of the keys under `at`."""
        super().check(at)
        for key in ("temperature", "wait", "price_in", "price_out", "max_calls", "max_cost"):
            value = getattr(self, key)
            require(value is None or value >= 0, f"{at}.{key}", value, "must not be negative")
        require(self.attempts >= 1, f"{at}.attempts", self.attempts, "must be at least 1")
        known = self.price_in is not None
        require(
            known == (self.price_out is not None),
            f"{at}.price_in",
            self.price_in,
            f"goes with {at}.price_out: give both",
        )
        require(
            self.max_cost is None or known, f"{at}.max_cost", self.max_cost, f"needs {at}.price_in and {at}.price_out"
        )
        taken = sorted({"model", "messages", "stream", "n"} & set(self.body))
        require(not taken, f"{at}.body", self.body, f"cannot set {taken[0] if taken else ''}")
        try:
            longest = endpoint(endpoint_settings(self)).longest
        except EndpointError as error:
            # Without the value, which may hold a key; what is none is in the message.
            raise ConfigurationError(f"{at}.{_SETTINGS.get(error.setting, error.setting)}: {error}") from None
        require(
            self.max_cost is None or longest is not None,
            f"{at}.max_cost",
            self.max_cost,
            f"needs a limit of the length: {at}.body takes out max_tokens; give max_completion_tokens there",
        )


@dataclass
class FunctionJudge(_Reader):
    """A function of one's own: given requests, it returns what it says to each (`salsa.judging.functions`)."""

    function: dict[str, Any] = MISSING

    def check(self, at: str) -> None:
        """Check the ranges of the keys under `at`."""
        super().check(at)
        known = isinstance(self.function.get(rules.TARGET), str)
        fix = "give a mapping with _target_ (a function by its full name) and the function's own arguments by name"
        require(known, f"{at}.function", self.function, fix)
        for key, fix in _NOT_OF_JUDGES.items():
            require(key not in self.function, f"{at}.function.{key}", self.function.get(key), fix)
        rules.read(f"{at}.function", self.function)


_NOT_OF_JUDGES = {
    "weight": "is for rules of the reward",
    "normalise": "is for rules of the reward",
    "_partial_": "leave it out: a function is given its arguments and then called with requests, and an object of a "
    "class is made once",
}
Reader = EndpointJudge | FunctionJudge
Judge = ScoreJudge | Reader


def _check_intervals(judge: "ScoreJudge | _Reader", at: str) -> None:
    require(judge.rounds >= 100, f"{at}.rounds", judge.rounds, "must be at least 100")
    require(0.5 <= judge.level < 1, f"{at}.level", judge.level, "must be in [0.5, 1)")


def scores(judge: Judge) -> str:
    """Return what scores replies: the judge's name, or `NO_SCORES`."""
    return judge.name.value if isinstance(judge, ScoreJudge) else NO_SCORES


def shown(judge: Judge) -> str:
    """Return the judge's name in tables and in verdicts."""
    if isinstance(judge, EndpointJudge):
        return judge.model
    return str(judge.function[rules.TARGET]) if isinstance(judge, FunctionJudge) else judge.name.value


def log_path(name: str) -> Path:
    """Return where in the outputs' folder the verdicts of a judge of this name are kept; no two names share a file."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._")[:_NAME] or "judge"
    known = "" if plain == name else f"-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return Path("verdicts", f"{plain}{known}.jsonl")


def endpoint_settings(judge: EndpointJudge) -> dict[str, Any]:
    """Return where and how an endpoint is asked, as plain values."""
    return {
        "url": judge.url,
        "model": judge.model,
        "key_variable": judge.key_variable,
        "temperature": judge.temperature,
        "max_tokens": judge.max_tokens,
        "body": dict(judge.body),
        "connect": judge.connect_timeout,
        "total": judge.timeout,
    }


def endpoint(settings: Mapping[str, Any]) -> Endpoint:
    """Return the endpoint of plain settings; one without a variable for its key is asked without a key."""
    return Endpoint(**dict(settings) | {"key_variable": settings["key_variable"] or ""})


def identity(judge: Reader) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a judge's verdicts depend on, and what asking it needs besides.

    The same model at another address is the same judge; prices, limits and pace change no verdict.

    Raises ConfigurationError where the module of a function is not found.
    """
    from salsa.judging.log import lock_of

    place: dict[str, Any] = {"judge": shown(judge), "concurrency": judge.concurrency, "max_failed": judge.max_failed}
    place["alone"] = str(lock_of(log_path(place["judge"])))
    if isinstance(judge, EndpointJudge):
        settings = endpoint_settings(judge)
        place |= {"endpoint": settings, "prices": [judge.price_in, judge.price_out]}
        place |= {"max_calls": judge.max_calls, "max_cost": judge.max_cost}
        place |= {"attempts": judge.attempts, "wait": judge.wait}
        return {"model": judge.model, "settings": endpoint(settings).settings()}, place
    known, folders = rules.identity(rules.read("judge.function", judge.function))
    return {"function": known}, place | {"key": "judge.function", "folders": folders}


def prompts_digest(key: str, path: str | None, levels: int, kind: str | None = None) -> str:
    """Return what the prompts of a file, or our own, are known by; those of one kind (pair, single) if it is given.

    Raises ConfigurationError, which names the key, the file and the fix, where a file has none.
    """
    from salsa.data.rows import DataError
    from salsa.judging.prompts import PromptError

    try:
        return digest(prompt_set(path, levels), kind)
    except (PromptError, DataError, OSError) as error:
        raise ConfigurationError(
            f"{key}={path}: {error}; give a file of FastChat's form, or null for our own"
        ) from error


def digest(prompts: "PromptSet", kind: str | None) -> str:
    """Return what prompts are known by: all that is said in them and how the answer is read, whatever their names."""
    said = [
        [each.kind, each.reference, each.turns, each.grammar, each.digest]
        for each in prompts.templates
        if kind in (None, each.kind)
    ]
    return hashlib.sha256(json.dumps(said).encode("ascii")).hexdigest()


def expected(suite: str, benchmark: Benchmark, most: int, category: str | None = None) -> dict[str, Any]:
    """Return how many questions and turns a benchmark has, and how many bytes they, right answers and a baseline have.

    Without a file at hand, how many questions at most. Raises DataError, which names the key, for a file that is none.
    """
    from salsa.data.rows import DataError
    from salsa.judging.questions import read_answers, read_questions

    at = f"suite.benchmarks.{suite}"
    path = at_hand(benchmark.questions)
    if path is None:
        return {"questions": most, "turns": None}
    try:
        found = read_questions(path).questions[:most]
        asked = [each for each in found if category in (None, ALL, each.category)]
        texts = [turn for each in asked for turn in each.turns]
        if references := at_hand(benchmark.references):
            right = read_answers(references, asked).replies
            referred = [each.id for each in asked if each.category in benchmark.reference_categories]
            texts += [turn for identity in referred for turn in right.get(identity, ())]
        counts = {"questions": len(asked), "turns": sum(len(each.turns) for each in asked), "bytes": _bytes(texts)}
        if category is not None and (baseline := at_hand(benchmark.baselines[category])):
            replies = read_answers(baseline, asked).replies
            counts["baseline"] = _bytes([turn for each in asked for turn in replies.get(each.id, ())])
    except DataError as error:
        raise DataError(f"{at}: {error}") from error
    return counts


def at_hand(address: str | None) -> Path | None:
    """Return the file that an address means if it is on this machine."""
    if address is None:
        return None
    from salsa.data.address import parse

    file = parse(address)
    path = file if isinstance(file, Path) else file.cached()
    return path if path is not None and path.is_file() else None


def _bytes(texts: list[str]) -> int:
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)


def prompt_set(path: str | None, levels: int) -> "PromptSet":
    """Return the prompts of a file of this machine or of the hub, or our own; raises what reading the file raises."""
    from salsa.data.address import fetch
    from salsa.judging.prompts import official, own

    return own(levels) if path is None else official(fetch(path))


def absolute(path: str | None) -> str | None:
    """Return the address of a file as a stage finds it, whatever its working directory is."""
    from salsa.data.address import SCHEME

    return path if path is None or path.startswith(SCHEME) else str(Path(path).expanduser().absolute())


def load(identity: Mapping[str, Any], place: Mapping[str, Any]) -> Callable[..., Any]:
    """Return the function that a stage asks, from its identity and its place.

    Raises ConfigurationError where it cannot be imported, or is no longer what was planned.
    """
    return rules.load(place["key"], identity["function"], list(place["folders"]))


def limits(place: Mapping[str, Any]) -> "Limits":
    """Return how fast and how often a judge is asked."""
    from salsa.judging.schedule import Limits

    if "endpoint" not in place:
        return Limits(place["concurrency"])
    wait = place["wait"]
    return Limits(place["concurrency"], place["attempts"], wait, max(wait, Limits.longest_wait))


def spending(place: Mapping[str, Any]) -> "Spending":
    """Return what a judge costs, and what may be spent."""
    from salsa.judging.cost import Prices
    from salsa.judging.judgment import Spending

    return Spending(Prices(*place.get("prices", (None, None))), place.get("max_calls"), place.get("max_cost"))


def function_problem(judge: FunctionJudge) -> str:
    """Import a function, without making an object of a class, and return why it cannot be called, "" if it can."""
    try:
        known, place = identity(judge)
        found = rules.load(place["key"], known["function"], list(place["folders"]), make=False)
    except ConfigurationError as error:
        return str(error)
    target, arguments = known["function"]["target"], known["function"]["arguments"]
    function = getattr(found, "func", found)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # functions written in C need not have one
        return ""
    try:
        signature.bind(*(() if inspect.isclass(function) else ([],)), **arguments)
    except TypeError as error:
        return f"judge.function={target}: {error}; judge.function gives it {', '.join(arguments) or 'no arguments'}"
    return ""


def key_problem(judge: EndpointJudge) -> str:
    """Return why an endpoint cannot be asked with the key in the environment, "" if it can or needs none."""
    if judge.key_variable is None:
        return ""
    try:
        key = endpoint(endpoint_settings(judge)).key()
    except EndpointError as error:
        return f"judge.key_variable={judge.key_variable}: {error}"
    if key is None and judge.url.startswith("https:"):
        return (
            f"judge.key_variable={judge.key_variable}: there is no key for {judge.url} in the environment: "
            f"export {judge.key_variable}=..., or judge.key_variable=null for an endpoint that needs none"
        )
    return ""
