"""How good a soup is on held-out text: the loss by which the greedy recipe chooses. Imports torch when it is asked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from salsa.data import forms
from salsa.data.conversation import Conversation
from salsa.data.rows import DataError, FileTable
from salsa.models.source import read_configuration

_ACCEPTED = 'each row has "messages" (a list of {role, content} that ends with an assistant turn) or "text"'


class TrialError(RuntimeError):
    """A model or a tokenizer that gives no loss on the held-out rows; the message says which and why."""


@dataclass(frozen=True)
class Heldout:
    """The held-out rows of a file: conversations, and documents of plain text."""

    path: Path
    conversations: tuple[Conversation, ...]
    documents: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.conversations) + len(self.documents)


def read(path: Path) -> Heldout:
    """Read held-out conversations (`messages`) and documents (`text`) from JSON lines, a JSON list or Parquet.

    Raises:
        DataError: if the file is missing or damaged, holds none, or a row is malformed, which is named.
    """
    conversations: list[Conversation] = []
    documents: list[str] = []
    for row in FileTable(path).rows(forms.DEMONSTRATION_COLUMNS | forms.DOCUMENT_COLUMNS):
        try:
            if row.values is None:
                raise forms.MalformedRowError(row.problem)
            if row.values.get("messages") is not None:
                conversations.append(forms.demonstration(row.values))
            else:
                documents.append(forms.document(row.values))
        except forms.MalformedRowError as error:
            raise DataError(f"--validation: {row.place}: {error}; correct the row, or take it out") from error
        except forms.WrongColumnsError as error:
            found = ", ".join(row.values or {}) or "none"
            raise DataError(f"--validation: {row.place} has the columns {found}; {_ACCEPTED}") from error
    if not conversations and not documents:
        raise DataError(f"--validation {path} holds no rows; {_ACCEPTED}")
    return Heldout(path, tuple(conversations), tuple(documents))


class Trials:
    """Measures models that share tokenizer and context; of conversations, the assistant's turns count.

    Rows that are longer than the context are left out; `too_long` says how many.
    """

    def __init__(self, heldout: Heldout, tokenizer: Path, configuration: Path) -> None:
        self._heldout = heldout
        self._tokenizer = tokenizer
        self._configuration = configuration

    @property
    def too_long(self) -> int:
        """How many rows are left out because they do not fit into the context."""
        return len(self._heldout) - len(self._rows)

    def loss(self, folder: Path, progress: Callable[[int, int], None] | None = None) -> float:
        """Return the held-out loss of the model in a folder in nats a token; `progress` is told rows done and in all.

        Raises:
            TrialError: if tokenizer or rows cannot be used.
            UnavailableModelError: if the folder holds no causal language model.
        """
        from salsa.models.families import load_causal
        from salsa.training.validation import Likelihoods, heldout_loss

        rows = self._rows
        model = load_causal(folder)
        try:
            likelihoods = Likelihoods(model, rows)
        except ValueError as error:
            raise TrialError(f"{self._heldout.path}: {error}") from error
        return heldout_loss(likelihoods, progress=progress).mean

    @cached_property
    def _rows(self) -> list[tuple[list[int], list[bool]]]:
        from salsa.models.families import load_tokenizer

        encoded = self._encoded(load_tokenizer(self._tokenizer))
        context = _context(read_configuration(self._configuration))
        fitting = [(ids, learned) for ids, learned in encoded if context is None or len(ids) <= context]
        if not fitting:
            shortest = min(len(ids) for ids, _ in encoded)
            raise TrialError(
                f"none of the {len(encoded)} rows of {self._heldout.path} fits into the models' context of {context} "
                f"tokens (the shortest has {shortest}); give shorter ones"
            )
        return fitting

    def _encoded(self, tokenizer: Any) -> list[tuple[list[int], list[bool]]]:
        from salsa.data.chat import encode_conversation, encode_texts

        if self._heldout.conversations and not tokenizer.chat_template:
            raise TrialError(
                f"{self._heldout.path} holds conversations, and the tokenizer in {self._tokenizer} has no chat "
                'template to write them in; give rows of plain text ({"text": ...})'
            )
        try:
            rows = encode_conversation(tokenizer, self._heldout.conversations, "assistant")
            texts = encode_texts(tokenizer, self._heldout.documents)
        except ValueError as error:
            raise TrialError(f"{self._heldout.path}: {error}") from error
        ends = (tokenizer.bos_token_id, tokenizer.eos_token_id)
        first, last = ([] if token is None else [token] for token in ends)
        for text in texts:
            ids = [*first, *text, *last]
            rows.append((ids, [False, *([True] * (len(ids) - 1))]))
        return rows


def _context(configuration: Mapping[str, Any]) -> int | None:
    """Return how many tokens a model reads at most, if its configuration says so."""
    found = configuration.get("max_position_embeddings")
    return found if isinstance(found, int) else None
