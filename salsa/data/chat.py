"""Tokenizers and chat templates, and the token ids and learning masks of conversations.

The Jinja template that travels with the tokenizer is the only description of a chat format. To encode, it is rendered
once for each sequence of roles with place holders for the contents; contents are then tokenised apart from the
template's own control tokens. That has three effects: the ids of a prompt followed by the ids of a reply are exactly
the ids of the conversation; a text that spells a control token, such as "<eos>", stays a text; and a content that
occurs often is tokenised once.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from jinja2 import TemplateError
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from salsa.data.conversation import Conversation

Learn = Literal["assistant", "last", "all"]

ZOO_MARKERS = ("<user>", "<guide>")
PLAIN_MARKERS = ("<|system|>", "<|user|>", "<|assistant|>")

_UNKNOWN_ROLE = "{{ raise_exception('this chat format has no role ' + message['role']) }}"

TEMPLATES = {
    # Words and markers are separated by spaces, so that a word-level tokenizer reads the rendered text.
    "zoo": (
        "{{ bos_token }}{% for message in messages %}"
        "{% if message['role'] == 'user' %}{{ ' <user> ' + message['content'] }}"
        "{% elif message['role'] == 'assistant' %}{{ ' <guide> ' + message['content'] + ' ' + eos_token }}"
        "{% else %}" + _UNKNOWN_ROLE + "{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ ' <guide>' }}{% endif %}"
    ),
    "plain": (
        "{{ bos_token }}{% for message in messages %}"
        "{% if message['role'] in ['system', 'user', 'assistant'] %}"
        "{{ '<|' + message['role'] + '|>' + message['content'] }}"
        "{% else %}" + _UNKNOWN_ROLE + "{% endif %}"
        "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    ),
    # A header ends with a line break because every kind of tokenizer starts a fresh word there; after "Assistant: "
    # some would want the space to belong to the reply and others would add a second one.
    "text": (
        "{{ bos_token if bos_token else '' }}{% for message in messages %}"
        "{% if message['role'] == 'system' %}{{ 'System:\n' + message['content'] + '\n\n' }}"
        "{% elif message['role'] == 'user' %}{{ 'User:\n' + message['content'] + '\n\n' }}"
        "{% elif message['role'] == 'assistant' %}{{ 'Assistant:\n' + message['content'] + eos_token }}"
        "{% else %}" + _UNKNOWN_ROLE + "{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'Assistant:\n' }}{% endif %}"
    ),
}

_BATCH = 8192  # texts handed to the tokenizer at once: bounds the memory that its results take


def word_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """Return a tokenizer of a closed vocabulary, one token a word, with the embedded world's control tokens.

    There is no unknown token: a word outside the vocabulary is an error at encoding, never a silent loss. Raises
    ValueError for a word that is repeated, empty, split by white space, or a control token.
    """
    specials = ["<pad>", "<bos>", "<eos>", *ZOO_MARKERS]
    vocabulary = {token: index for index, token in enumerate(specials)}
    for word in words:
        if word.split() != [word] or word in vocabulary:
            raise ValueError(f"the vocabulary holds {word!r}, which is repeated, a control token, or not one word")
        vocabulary[word] = len(vocabulary)
    backend = Tokenizer(models.WordLevel(vocabulary))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return _wrap(backend, specials)


def train_bpe(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer trained on the texts (Sennrich et al. 2016, on bytes as in GPT-2).

    Every text can be encoded, since all 256 bytes are in the vocabulary. Text and size determine the result. A small
    text may yield fewer tokens than `vocab_size`. Raises ValueError if not even the bytes fit in.
    """
    specials = ["<pad>", "<bos>", "<eos>", *PLAIN_MARKERS]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    if vocab_size < len(specials) + len(alphabet):
        raise ValueError(
            f"a byte-level vocabulary of {vocab_size} tokens is too small: "
            f"{len(alphabet)} bytes and {len(specials)} control tokens need {len(specials) + len(alphabet)}"
        )
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    # The pre-tokenizer keeps letters and punctuation apart, so no merge can ever spell "<eos>" or "<|user|>".
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in specials],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return _wrap(backend, specials)


def _wrap(backend: Tokenizer, specials: Sequence[str]) -> PreTrainedTokenizerFast:
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        extra_special_tokens=list(specials[3:]),
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )


def set_chat_template(tokenizer: PreTrainedTokenizerFast, name: str) -> None:
    """Give the tokenizer a chat template, and a padding token if it has none.

    "zoo" and "plain" need the control tokens of `word_tokenizer` and `train_bpe`; "text" writes the roles as plain
    text, for tokenizers that have no tokens for them; "own" keeps the template that the tokenizer brings. Padding is
    the unknown token where that exists, else the end token: lengths, never the padding token, say which tokens are
    real. Raises ValueError where tokenizer and template do not fit each other.
    """
    if name != "own" and name not in TEMPLATES:
        raise ValueError(f"there is no chat template {name!r}; there are {', '.join(TEMPLATES)} and own")
    if tokenizer.eos_token is None:
        raise ValueError("the tokenizer has no end-of-sequence token, so no reply could ever end; set its eos_token")
    if name == "own":
        if not tokenizer.chat_template:
            raise ValueError('the tokenizer brings no chat template of its own; use the template "text"')
    else:
        needed = {"zoo": ("<bos>", *ZOO_MARKERS), "plain": ("<bos>", *PLAIN_MARKERS)}.get(name, ())
        missing = [token for token in needed if token not in _specials(tokenizer)]
        if missing:
            raise ValueError(
                f"the template {name!r} needs the control tokens {' '.join(missing)}, which the tokenizer lacks; "
                'use the template "text", which writes the roles as plain text'
            )
        tokenizer.chat_template = TEMPLATES[name]
    if tokenizer.pad_token is None:
        unknown = tokenizer.unk_token
        usable = unknown is not None and unknown not in (tokenizer.bos_token, tokenizer.eos_token)
        tokenizer.pad_token = unknown if usable else tokenizer.eos_token
    _Encoder(tokenizer).layout(("user", "assistant"))


def encode_prompts(tokenizer: PreTrainedTokenizerFast, conversations: Sequence[Conversation]) -> list[list[int]]:
    """Return the ids of conversations that wait for a reply, each up to and with the assistant's header.

    Raises ValueError for a conversation that does not end with a user turn.
    """
    encoder = _Encoder(tokenizer)
    plans = []
    for conversation in conversations:
        if not conversation or conversation[-1].role != "user":
            raise ValueError(f"a prompt must end with a user turn: {_shown(conversation)}")
        steps = encoder.layout((*(message.role for message in conversation), "assistant"))
        plans.append([_fill(step, conversation) for step in steps if step.turn != len(conversation)])
    return [[token for ids in parts for token in ids] for parts in encoder.encode(plans)]


def encode_replies(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], ended: Sequence[bool]) -> list[list[int]]:
    """Return the ids of replies, with the end token where `ended`; they continue the ids of `encode_prompts`."""
    encoder = _Encoder(tokenizer)
    eos = int(tokenizer.eos_token_id)
    encoded = encoder.encode([[text] for text in texts])
    return [[*ids, eos] if end else list(ids) for (ids,), end in zip(encoded, ended, strict=True)]


def encode_conversation(
    tokenizer: PreTrainedTokenizerFast, conversations: Sequence[Conversation], learn: Learn
) -> list[tuple[list[int], list[bool]]]:
    """Return the ids of finished conversations, and which of them are learned.

    "assistant" learns every assistant turn with its end token, "last" only the last one, "all" everything. The first
    token is never learned: nothing comes before it that could predict it. Raises ValueError for a conversation that
    does not end with an assistant turn.
    """
    if learn not in ("assistant", "last", "all"):
        raise ValueError(f"learn is {learn!r}; it must be assistant, last or all")
    encoder = _Encoder(tokenizer)
    plans, turns = [], []
    for conversation in conversations:
        if not conversation or conversation[-1].role != "assistant":
            raise ValueError(f"a conversation to learn from must end with an assistant turn: {_shown(conversation)}")
        steps = encoder.layout(tuple(message.role for message in conversation))
        plans.append([_fill(step, conversation) for step in steps])
        turns.append([step.turn for step in steps])
    results = []
    for conversation, parts, owners in zip(conversations, encoder.encode(plans), turns, strict=True):
        ids: list[int] = []
        mask: list[bool] = []
        last = len(conversation) - 1
        for part, turn in zip(parts, owners, strict=True):
            ids += part
            learned = learn == "all" or (turn is not None if learn == "assistant" else turn == last)
            mask += [learned] * len(part)
        mask[0] = False
        results.append((ids, mask))
    return results


def encode_texts(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    """Return the ids of plain documents: no control token is added, and none is read from the text."""
    return [list(ids) for (ids,) in _Encoder(tokenizer).encode([[text] for text in texts])]


def decode_replies(
    tokenizer: PreTrainedTokenizerFast, ids: Sequence[Sequence[int]], *, keep_control: bool = False
) -> list[str]:
    """Return the texts of replies; words of a closed vocabulary are joined by single spaces.

    Without control tokens a text can go back into a conversation. With `keep_control` every control token except the
    end token at the end is spelled out: what a judge or a person reads, from whom a policy must not hide anything.
    """
    rows = [list(row) for row in ids]
    if keep_control:
        rows = [row[:-1] if row and row[-1] == tokenizer.eos_token_id else row for row in rows]
    return list(_backend(tokenizer).decode_batch(rows, skip_special_tokens=not keep_control))


class _Step(NamedTuple):
    """A stretch of a conversation: known ids, or text made of literals and of the contents of messages (by index)."""

    ids: tuple[int, ...] | None
    pieces: tuple[str | int, ...]
    turn: int | None  # the assistant message that this stretch is, with its end token; None for all the rest


def _fill(step: _Step, conversation: Conversation) -> tuple[int, ...] | str:
    if step.ids is not None:
        return step.ids
    if len(step.pieces) == 1 and isinstance(step.pieces[0], int):
        return conversation[step.pieces[0]].content
    return "".join(p if isinstance(p, str) else conversation[p].content for p in step.pieces)


class _Encoder:
    """Encodes for one call: remembers the layouts of role sequences and the ids of texts that were seen."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self.specials = _specials(tokenizer)
        # An unknown token stands for odd characters in some vocabularies, so it may come out of a text.
        self.control = {index for token, index in self.specials.items() if token != tokenizer.unk_token}
        self.splitter = re.compile("(" + "|".join(map(re.escape, sorted(self.specials, key=len, reverse=True))) + ")")
        self.layouts: dict[tuple[str, ...], tuple[_Step, ...]] = {}

    def encode(self, plans: Sequence[Sequence[tuple[int, ...] | str]]) -> Iterable[list[Sequence[int]]]:
        """Yield each plan with its texts replaced by their ids; equal texts are tokenised once."""
        unique = list(dict.fromkeys(part for plan in plans for part in plan if isinstance(part, str)))
        known: dict[str, list[int]] = {}
        for start in range(0, len(unique), _BATCH):
            texts = unique[start : start + _BATCH]
            known.update(zip(texts, self._tokenise(texts), strict=True))
        for plan in plans:
            yield [known[part] if isinstance(part, str) else part for part in plan]

    def _tokenise(self, texts: list[str]) -> list[list[int]]:
        backend = _backend(self.tokenizer)
        before = backend.encode_special_tokens
        # Earlier calls of the tokenizer may have left padding or truncation switched on in its backend.
        backend.no_padding()
        backend.no_truncation()
        backend.encode_special_tokens = True  # read "<eos>" in a text as characters, not as the control token
        try:
            rows = [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]
        except Exception as error:  # the library raises bare Exception
            raise ValueError(self._reason(texts, error)) from error
        finally:
            backend.encode_special_tokens = before
        for text, ids in zip(texts, rows, strict=True):
            if not self.control.isdisjoint(ids):
                token = next(t for t, index in self.specials.items() if index in ids and index in self.control)
                raise ValueError(f"the text {_cut(text)!r} contains the control token {token!r}; remove it")
        return rows

    def _reason(self, texts: list[str], error: Exception) -> str:
        vocabulary = self.tokenizer.get_vocab()
        for text in texts:
            unknown = [word for word in text.split() if word not in vocabulary]
            if unknown and "[UNK]" in str(error):
                return f"the word {unknown[0]!r} of {_cut(text)!r} is not in the closed vocabulary"
        return f"the tokenizer cannot encode {_cut(texts[0])!r} or one of the {len(texts) - 1} texts with it: {error}"

    def layout(self, roles: tuple[str, ...]) -> tuple[_Step, ...]:
        """Return the steps of conversations with these roles; the last role is the assistant's."""
        if roles not in self.layouts:
            self.layouts[roles] = self._layout(roles)
        return self.layouts[roles]

    def _layout(self, roles: tuple[str, ...]) -> tuple[_Step, ...]:
        literals = self._literals(roles, header=False)
        steps: list[_Step] = []
        run: list[str | int] = []  # literals and contents that are tokenised together
        for index, role in enumerate(roles):
            if role != "assistant":
                self._add_literal(literals[index], steps, run)
                run.append(index)
                continue
            self._add_literal(self._header(roles, index, literals[index]), steps, run)
            self._flush(steps, run)
            steps.append(_Step(None, (index,), index))
            steps.append(_Step((int(self.tokenizer.eos_token_id),), (), index))
            literals[index + 1] = self._after_end(literals[index + 1])
        return tuple(steps)

    def _literals(self, roles: tuple[str, ...], header: bool) -> list[str]:
        """Render the template with place holders for the contents; return what stands before, between and after."""
        messages = [{"role": role, "content": f"\ue000{index}\ue001"} for index, role in enumerate(roles)]
        try:
            text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=header)
        except TemplateError as error:
            raise ValueError(f"the chat template refuses turns of {', '.join(roles)}: {error}") from error
        parts = re.split("\ue000(\\d+)\ue001", text)
        if parts[1::2] != [str(index) for index in range(len(roles))]:
            raise ValueError(
                f"the chat template leaves out or repeats turns of {', '.join(roles)}; use another template"
            )
        return parts[::2]

    def _header(self, roles: tuple[str, ...], index: int, literal: str) -> str:
        """Return what stands before the reply at `index`: as a prompt has it, where the model will start to write."""
        if index == 0:
            return literal
        header = self._literals(roles[:index], header=True)[-1]
        if roles[index - 1] == "assistant":
            header = self._after_end(header)
        if header.rstrip() != literal.rstrip():
            raise ValueError(
                f"the chat template writes {literal!r} before a reply in a conversation but {header!r} in a prompt, "
                'so replies would not continue their prompts; use the template "text"'
            )
        return header

    def _after_end(self, literal: str) -> str:
        end = self.tokenizer.eos_token
        if not literal.lstrip().startswith(end):
            raise ValueError(
                f"the chat template ends a reply with {literal!r}, not with the tokenizer's end token {end!r}; "
                "set the tokenizer's eos_token to what ends its turns, or use another template"
            )
        return literal.lstrip().removeprefix(end)

    def _add_literal(self, literal: str, steps: list[_Step], run: list[str | int]) -> None:
        for piece in self.splitter.split(literal):
            if piece in self.specials:
                self._flush(steps, run)
                self._add_ids([self.specials[piece]], steps)
            elif piece:
                run.append(piece)

    def _flush(self, steps: list[_Step], run: list[str | int]) -> None:
        text = [piece for piece in run if isinstance(piece, str)]
        if len(text) < len(run):
            steps.append(_Step(None, tuple(run), None))
        elif text:
            self._add_ids(self._tokenise(["".join(text)])[0], steps)
        run.clear()

    def _add_ids(self, ids: list[int], steps: list[_Step]) -> None:
        before = steps.pop().ids or () if steps and steps[-1].ids is not None and steps[-1].turn is None else ()
        steps.append(_Step((*before, *ids), (), None))


def _backend(tokenizer: PreTrainedTokenizerFast) -> Tokenizer:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ValueError(f"{type(tokenizer).__name__} is not a fast tokenizer; a tokenizer.json file is needed")
    return backend


def _specials(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    return {token.content: index for index, token in tokenizer.added_tokens_decoder.items() if token.special}


def _cut(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _shown(conversation: Conversation) -> str:
    return (
        "it is empty"
        if not conversation
        else f"it ends with {conversation[-1].role}: {_cut(conversation[-1].content)!r}"
    )
