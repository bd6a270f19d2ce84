"""Conversations, prompts and preference pairs: the plain records that every stage exchanges. No torch here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Message:
    """One turn of a conversation; `role` is one of `ROLES`."""

    role: str
    content: str


Conversation = tuple[Message, ...]


@dataclass(frozen=True)
class Prompt:
    """Questions that a model answers in order, after an optional context of finished turns.

    `questions` holds one user turn for ordinary suites and two for two-turn suites; each question is asked after
    the model's own replies to the earlier ones. `cluster` groups prompts whose results are not independent.
    `query` is what a programmatic judge needs to know (JSON values only); None where there is no such judge.
    """

    id: str
    questions: tuple[str, ...]
    context: Conversation = ()
    cluster: str = ""
    category: str = ""
    query: Mapping[str, Any] | None = None

    def conversation(self, replies: tuple[str, ...] = ()) -> Conversation:
        """Return the messages up to the first unanswered question, given the replies so far."""
        messages = list(self.context)
        for question, reply in zip(self.questions, replies, strict=False):
            messages += [Message("user", question), Message("assistant", reply)]
        if len(replies) < len(self.questions):
            messages.append(Message("user", self.questions[len(replies)]))
        return tuple(messages)


@dataclass(frozen=True)
class Pair:
    """Two replies to one conversation (which ends with a user turn), the first preferred to the second."""

    conversation: Conversation
    chosen: str
    rejected: str
    cluster: str = ""
