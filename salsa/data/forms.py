"""The forms in which rows hold conversations, pairs, prompts and documents, and what makes a row malformed."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from salsa.data.conversation import ROLES, Conversation, Message, Pair, Prompt

DEMONSTRATION_FORMS = ("messages (a list of {role, content} that ends with an assistant turn)",)
PREFERENCE_FORMS = (
    "prompt + chosen + rejected (each a text or a list of {role, content})",
    "chosen + rejected (Anthropic's transcripts, or lists of {role, content} that differ in the last turn)",
)
PROMPT_FORMS = (
    "turns (a list of texts, as in MT-Bench)",
    "messages (a list of {role, content})",
    "prompt (a text or a list of {role, content})",
    "instruction (a text)",
    "data (a text, as in UltraChat's evaluation set)",
)
DOCUMENT_FORMS = ("text (a text)",)

DEMONSTRATION_COLUMNS = frozenset({"messages"})
PREFERENCE_COLUMNS = frozenset({"prompt", "chosen", "rejected"})
_IDS = ("question_id", "prompt_id", "uid", "id")
PROMPT_COLUMNS = frozenset(
    {"turns", "messages", "prompt", "instruction", "data", "category", "class", "cluster", *_IDS}
)
DOCUMENT_COLUMNS = frozenset({"text"})

_TRANSCRIPT = "\n\nHuman:"
_TURN = re.compile(r"\n\n(Human|Assistant):")
_SPEAKERS = {"Human": "user", "Assistant": "assistant"}


class MalformedRowError(ValueError):
    """A row that has the right columns and cannot be used; the text is the reason under which it is counted."""


class WrongColumnsError(ValueError):
    """A row that has none of the accepted forms."""


def demonstration(row: Mapping[str, Any]) -> Conversation:
    """Return the conversation of a row; white space around its contents is removed."""
    if row.get("messages") is None:
        raise WrongColumnsError
    conversation = _messages(row["messages"])
    if conversation[-1].role != "assistant":
        raise MalformedRowError("the conversation does not end with an assistant turn")
    return conversation


def preference(row: Mapping[str, Any]) -> Pair:
    """Return the pair of a row; both replies answer one conversation, and they differ."""
    prompt, chosen, rejected = (row.get(key) for key in ("prompt", "chosen", "rejected"))
    if chosen is None or rejected is None:
        raise WrongColumnsError
    if isinstance(chosen, str) != isinstance(rejected, str):
        raise MalformedRowError("chosen and rejected are of different kinds")
    if prompt is not None:
        start = _prompt(prompt)
        replies = (_continuation(chosen, start), _continuation(rejected, start))
    else:
        replies = (_finished(chosen), _finished(rejected))
    (conversation, reply), (other_conversation, other_reply) = replies
    if conversation != other_conversation:
        raise MalformedRowError("chosen and rejected answer different conversations")
    if reply == other_reply:
        raise MalformedRowError("chosen equals rejected")
    return Pair(conversation, reply, other_reply, cluster=question_key(conversation))


def prompt(row: Mapping[str, Any]) -> Prompt:
    """Return the prompt of a row: all questions of `turns`, else the last user turn after the turns before it."""
    context: Conversation = ()
    if row.get("turns") is not None:
        turns = row["turns"]
        if not isinstance(turns, list) or not turns:
            raise MalformedRowError("turns is not a list of texts")
        questions = tuple(_text(turn) for turn in turns)
    else:
        conversation = _asked(row)
        context, questions = conversation[:-1], (conversation[-1].content,)
    given = next((row[key] for key in _IDS if row.get(key) is not None), None)
    name = str(given) if given is not None else prompt_key(Prompt("", questions, context))
    cluster = row.get("cluster")
    category = row.get("category") or row.get("class")
    return Prompt(
        id=name,
        questions=questions,
        context=context,
        cluster=cluster.strip() if isinstance(cluster, str) and cluster.strip() else name,
        category=category.strip() if isinstance(category, str) else "",
    )


def document(row: Mapping[str, Any]) -> str:
    """Return the plain text of a row."""
    if row.get("text") is None:
        raise WrongColumnsError
    return _text(row["text"])


def transcript(conversation: Conversation) -> str:
    """Return a conversation as a plain document, for pre-training and for perplexity."""
    return "\n\n".join(f"{message.role.capitalize()}: {message.content}" for message in conversation)


def question_key(conversation: Conversation) -> str:
    """Return a hash of the first user turn, by which splits and clusters are made.

    The first turn and not the whole prompt: sets hold the same conversation at several lengths, and a longer one
    would give away the replies of a shorter one in another split. Case and white space do not count.
    """
    first = next((message.content for message in conversation if message.role == "user"), "")
    return _digest(" ".join(first.split()).casefold())


def conversation_key(conversation: Conversation) -> str:
    """Return a hash of all turns."""
    return _digest("\x00".join(f"{message.role}\x01{message.content}" for message in conversation))


def prompt_key(prompt: Prompt) -> str:
    """Return a hash of the context and all questions."""
    return conversation_key((*prompt.context, *(Message("user", question) for question in prompt.questions)))


def text_key(text: str) -> str:
    """Return a hash of a document."""
    return _digest(text)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _asked(row: Mapping[str, Any]) -> Conversation:
    """Return the conversation up to the last user turn."""
    if row.get("messages") is not None:
        conversation = _messages(row["messages"])
        return conversation[:-1] if conversation[-1].role == "assistant" else conversation
    for column in ("prompt", "instruction", "data"):
        if row.get(column) is not None:
            return _prompt(row[column])
    raise WrongColumnsError


def _prompt(value: Any) -> Conversation:
    if isinstance(value, str) and value.startswith(_TRANSCRIPT):
        turns = _speakers(value)
        if turns[-1] == ("assistant", ""):
            turns.pop()
        conversation = _conversation(turns)
    elif isinstance(value, str):
        return (Message("user", _text(value)),)
    else:
        conversation = _messages(value)
    if conversation[-1].role != "user":
        raise MalformedRowError("the prompt does not end with a user turn")
    return conversation


def _finished(value: Any) -> tuple[Conversation, str]:
    """Split a whole conversation, a transcript or a list of messages, into its prompt and its last reply."""
    if isinstance(value, str):
        if not value.lstrip().startswith(_TRANSCRIPT.lstrip()):
            raise MalformedRowError("without a prompt, chosen and rejected must be transcripts that begin with Human:")
        conversation = _conversation(_speakers(value))
    else:
        conversation = _messages(value)
    if conversation[-1].role != "assistant":
        raise MalformedRowError("the conversation does not end with an assistant turn")
    return conversation[:-1], conversation[-1].content


def _continuation(value: Any, start: Conversation) -> tuple[Conversation, str]:
    """Return prompt and reply of a row that has a prompt; the value is the reply alone or the whole conversation."""
    if isinstance(value, str) and not value.startswith(_TRANSCRIPT):
        return start, _text(value)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], Mapping):
        if value[0].get("role") != "assistant":
            raise MalformedRowError("the conversation does not end with an assistant turn")
        return start, _text(value[0].get("content"))
    conversation, reply = _finished(value)
    turns = tuple(message for message in conversation if message.role != "system")
    asked = tuple(message for message in start if message.role != "system")
    if turns[: len(asked)] != asked and turns[-1:] != asked:
        raise MalformedRowError("the prompt is not a part of the conversation")
    return conversation, reply


def _speakers(text: str) -> list[tuple[str, str]]:
    parts = _TURN.split("\n\n" + text.lstrip())
    return [(_SPEAKERS[name], content.strip()) for name, content in zip(parts[1::2], parts[2::2], strict=True)]


def _messages(value: Any) -> Conversation:
    if not isinstance(value, list) or not value:
        raise MalformedRowError("not a list of messages")
    turns = []
    for message in value:
        if not isinstance(message, Mapping) or "role" not in message or "content" not in message:
            raise MalformedRowError("a message without role or content")
        if message["role"] not in ROLES:
            raise MalformedRowError(f"a role other than {', '.join(ROLES)}")
        turns.append((message["role"], message["content"]))
    return _conversation(turns)


def _conversation(turns: list[tuple[str, Any]]) -> Conversation:
    """Check that user and assistant take turns after an optional system message, and that every turn says something."""
    for index, (role, _) in enumerate(turns[1:] if turns[0][0] == "system" else turns):
        if role != ("user", "assistant")[index % 2]:
            raise MalformedRowError("user and assistant do not take turns")
    if turns == turns[:1] and turns[0][0] == "system":
        raise MalformedRowError("a system message and nothing else")
    return tuple(Message(role, _text(content)) for role, content in turns)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise MalformedRowError("a content that is not text")
    text = value.strip()
    if not text:
        raise MalformedRowError("an empty turn")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise MalformedRowError("text that is not valid Unicode") from error
    return text
