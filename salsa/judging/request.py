"""One question to a judge, and what came back."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """What a judge is asked, as messages and in its parts.

    `key` names what is asked, of which models and in which order, `content` what the judge is shown, whoever wrote the
    replies: two models with the same reply are asked about once.

    `messages` are those of a chat (`role`, `content`). The parts are for judges that are no language models:
    `questions` are the user's turns up to the one that is graded, `replies_a` and `replies_b` the replies to them
    (`replies_b` is None where a single reply is scored), `reference` the right answers, if there are any. The other
    fields are those of the verdict (`salsa.judging.verdict`) that it leads to.
    """

    key: str
    content: str
    messages: tuple[dict[str, str], ...]
    questions: tuple[str, ...]
    replies_a: tuple[str, ...]
    replies_b: tuple[str, ...] | None
    reference: tuple[str, ...]
    suite: str
    question: str
    category: str
    cluster: str
    turn: int
    kind: str
    model_a: str
    model_b: str | None
    order: int
    judge: str
    prompt: str
    prompt_name: str
    grammar: str


@dataclass(frozen=True)
class Completion:
    """What a judge said: `text`, why it ended, what it calls itself, and the tokens that it counted (None if not)."""

    text: str
    finish: str = ""
    snapshot: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None
