"""A scripted judge of every prompt form, for tests and demonstrations: `python -m tests.judging.panel --log FILE`.

It prefers the reply with more different words, with a little noise and a little liking for the one shown first. Its
verdict depends on nothing but the prompt and its seed.
"""

import argparse
import hashlib
import json
import math
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salsa.judging.cost import tokens
from tests.judging.server import Exchange, serving

ROOT = Path(__file__).parents[2]
Messages = Sequence[Mapping[str, str]]
TIE, STRONG = 0.1, 1.0
"""Differences of merit up to which replies are equally good, and from which one is much better."""
UNPARSABLE = (
    "I would rather not judge this.",
    "Both replies have their merits. Verdict: it depends.",
    "My verdict is [[unclear]].",
)
"""What no grammar finds a verdict in."""
_GOLDEN = (math.sqrt(5) - 1) / 2
_WORD = re.compile(r"\w+")
_NONCE = re.compile(r"stands between lines of the form <<<\.\.\. (\w+)>>>")
_OPENING = re.compile(r"\[Question\]|\[User Question\]|<\|User Prompt\|>|(?:\[|<\|)The Start of ")
_FASTCHAT = re.compile(
    r"(?:\[|<\|)The Start of Assistant(?: (?P<side>[AB]))?'s (?P<what>Answer|Conversation with User)(?:\]|\|>)\n"
    r"(?P<text>.*?)"
    r"\n(?:\[|<\|)The End of Assistant(?: (?P=side))?'s (?P=what)(?:\]|\|>)",
    re.DOTALL,
)
_ASKED = (("[[A>>B]]", "arena"), ("[[rating_a,rating_b]]", "two-scores"), ("[[A]]", "letter"), ("[[rating]]", "rating"))


@dataclass(frozen=True)
class Temper:
    """How the judge judges and misbehaves.

    `position` is what the reply shown first has in advance, `noise` how far chance may change a merit; merits are
    those of `merit`. Of all requests so large a share is answered with what cannot be parsed (`unparsable`), with 429
    (`limited`) or with 500 (`failing`): which ones depends on their numbers alone. `seconds` go by before an answer.
    """

    seed: int = 0
    position: float = 0.05
    noise: float = 0.15
    unparsable: float = 0.0
    limited: float = 0.0
    failing: float = 0.0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        shares = (self.unparsable, self.limited, self.failing)
        if min(shares) < 0 or sum(shares) > 1:
            raise ValueError(f"the shares are {shares}, expected numbers from 0 whose sum is 1 at most")


@dataclass(frozen=True)
class Shown:
    """What a prompt asks for (`form`), and the replies that it shows: one, or two in their order."""

    form: str
    replies: tuple[str, ...]


def shown(messages: Messages) -> Shown | None:
    """Return what a prompt asks for and shows; None for one in no known form."""
    text = messages[-1]["content"]
    nonce = _NONCE.search(text)
    if nonce is not None:
        return _own(text, nonce.group(1))
    system = "\n".join(each["content"] for each in messages[:-1])
    opening = _OPENING.search(text)
    told = system + text[: opening.start() if opening else 0]
    form = next((name for mark, name in _ASKED if mark in told), None)
    sides = {match["side"]: _last(match) for match in _FASTCHAT.finditer(text)}
    if form is None or len(sides) != (1 if form == "rating" else 2):
        return None
    return Shown(form, tuple(sides[side] for side in sorted(sides, key=str)))


def merit(text: str) -> float:
    """Return what a reply is worth, from 1 to 10: different words count, and repetition costs."""
    words = _WORD.findall(text.lower())
    if not words:
        return 1.0
    different = len(set(words))
    return min(10.0, 1 + 1.2 * math.log1p(different) + different / len(words))


def judgment(messages: Messages, temper: Temper) -> tuple[str, str]:
    """Return the form of a prompt and what the judge says to it. Raises ValueError for a prompt in no known form."""
    found = shown(messages)
    if found is None:
        raise ValueError("the prompt is in no known form")
    merits = [merit(reply) for reply in found.replies]
    luck = temper.noise * _luck(messages, temper.seed)
    if len(merits) == 1:
        score = min(10, max(1, round(merits[0] + luck)))
        verdict = f"Rating: [[{score}]]" if found.form == "rating" else f"Verdict: {score}"
        return found.form, f"The reply is worth {merits[0]:.2f} to me.\n\n{verdict}"
    lead = merits[0] - merits[1] + temper.position + luck
    reason = f"Reply A is worth {merits[0]:.2f} to me, and reply B {merits[1]:.2f}."
    return found.form, f"{reason}\n\n{_VERDICTS[found.form](lead)}"


def outcome(number: int, temper: Temper) -> str:
    """Return what becomes of the request of this number: "limited", "failing", "unparsable", or "" for a verdict.

    Of n requests each kind has its share, but for one or two, evenly spread.
    """
    place, end = (number + 1) * _GOLDEN % 1, 0.0
    for kind in ("limited", "failing", "unparsable"):
        end += getattr(temper, kind)
        if place < end:
            return kind
    return ""


def script(temper: Temper, log: Path | None = None) -> Callable[[Exchange], None]:
    """Return the script of a server that judges; each call is a line of the log."""
    lock = threading.Lock()

    def play(exchange: Exchange) -> None:
        time.sleep(temper.seconds)
        code, form, said = _answer(exchange, temper)
        used = sum(tokens(message["content"]) for message in exchange.body["messages"]), tokens(said)
        line = {"number": exchange.number, "code": code, "form": form, "said": said[-80:], "digest": _digest(exchange)}
        if log is not None:  # before the answer: whoever has one finds its call in the log
            with lock, log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line | {"tokens_in": used[0], "tokens_out": used[1]}) + "\n")
        if code == 200:
            exchange.say(said, usage=used)
        else:
            exchange.fail(code, said, {"Retry-After": "0.01"} if code == 429 else None)

    return play


def calls(log: Path) -> list[dict[str, Any]]:
    """Return the calls of a log in their order; there are none where there is no file."""
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []


def repeated(log: Path) -> int:
    """Return how many calls asked once more for what had been answered before."""
    answered = Counter(call["digest"] for call in calls(log) if call["code"] == 200)
    return sum(count - 1 for count in answered.values())


@contextmanager
def running(log: Path, *options: str) -> Iterator[str]:
    """Run the program in a process of its own and give its URL; `options` are those of the command line."""
    words = [sys.executable, "-m", "tests.judging.panel", "--log", str(log), *options]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert url, "the judge did not start"
            yield url
        finally:
            process.terminate()


def main() -> None:
    """Serve until the process is told to end."""
    parser = argparse.ArgumentParser(prog="python -m tests.judging.panel", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 (default) is one that is free; the URL is printed")
    parser.add_argument("--log", type=Path, metavar="FILE", help="each call is added to it as a line of JSON")
    parser.add_argument("--seed", type=int, default=Temper.seed)
    for name in ("position", "noise", "unparsable", "limited", "failing", "seconds"):
        parser.add_argument(f"--{name}", type=float, default=getattr(Temper, name), metavar="X")
    given = vars(parser.parse_args())
    port, log = given.pop("port"), given.pop("log")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with serving(script(Temper(**given), log), port) as server, suppress(KeyboardInterrupt):
        print(server.url, flush=True)
        threading.Event().wait()


def _own(text: str, nonce: str) -> Shown | None:
    what = r"(?P<what>reply(?P<side> [AB])?(?: to request \d+)?)"
    part = re.compile(rf"<<<{what} {nonce}>>>\n(?P<text>.*?)\n<<<end of (?P=what) {nonce}>>>", re.DOTALL)
    sides = {(match["side"] or "").strip(): match["text"] for match in part.finditer(text)}
    if sides.keys() == {"A", "B"}:
        asked = text.rpartition(f"{nonce}>>>")[2]
        return Shown("own-5" if "A>>B" in asked else "own-3", (sides["A"], sides["B"]))
    return Shown("own-score", (sides[""],)) if sides.keys() == {""} else None


def _last(match: re.Match[str]) -> str:
    """Return the reply that is judged: of a conversation the last one."""
    if match["what"] == "Answer":
        return match["text"]
    return match["text"].rpartition(f"### Assistant {match['side']}:\n")[2].strip()


def _five(lead: float) -> str:
    if abs(lead) <= TIE:
        return "A=B"
    mark = ">>" if abs(lead) >= STRONG else ">"
    return f"A{mark}B" if lead > 0 else f"B{mark}A"


def _three(lead: float) -> str:
    return _five(lead).replace(">>", ">")


def _two_scores(lead: float) -> str:
    higher = lead if abs(lead) > TIE else 0.0
    return f"[[{5 + max(0.0, higher):.1f}, {5 + max(0.0, -higher):.1f}]]"


_LETTERS = {"A>B": "A", "B>A": "B", "A=B": "C"}
_VERDICTS: dict[str, Callable[[float], str]] = {
    "own-3": lambda lead: f"Verdict: {_three(lead)}",
    "own-5": lambda lead: f"Verdict: {_five(lead)}",
    "letter": lambda lead: f"[[{_LETTERS[_three(lead)]}]]",
    "two-scores": _two_scores,
    "arena": lambda lead: f"My final verdict is: [[{_five(lead)}]]",
}


def _luck(messages: Messages, seed: int) -> float:
    """Return a number from -1 to 1 that the prompt and the seed determine."""
    text = json.dumps([seed, [message["content"] for message in messages]])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**63 - 1


def _answer(exchange: Exchange, temper: Temper) -> tuple[int, str, str]:
    """Return the code of the answer, the form of the prompt, and what is said."""
    try:
        form, said = judgment(exchange.body["messages"], temper)
    except ValueError as error:
        return 400, "", str(error)
    kind = outcome(exchange.number, temper)
    if kind == "unparsable":
        return 200, form, UNPARSABLE[exchange.number % len(UNPARSABLE)]
    if kind:
        return (429, form, "slow down") if kind == "limited" else (500, form, "the judge stumbled")
    return 200, form, said


def _digest(exchange: Exchange) -> str:
    return hashlib.sha256(json.dumps([exchange.body["model"], exchange.body["messages"]]).encode()).hexdigest()


if __name__ == "__main__":
    main()
