"""Token ids of prompts and replies read back as text, for rewards that read text."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerFast

from salsa.data.chat import decode_replies
from salsa.data.conversation import Prompt
from salsa.models.sequences import Sequences


class Dialogues:
    """The prompts of a training by their token ids, and the replies to them as text.

    Prompts are looked up, not decoded: their text is the one that was asked. `ids` [prompts] are their token ids, up to
    where the reply begins; where several prompts have the same ids, the first one is meant.

    Raises:
        ValueError: if prompts and ids differ in number.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, prompts: Sequence[Prompt], ids: Sequence[Sequence[int]]
    ) -> None:
        self._tokenizer = tokenizer
        self._prompts: dict[tuple[int, ...], Prompt] = {}
        for prompt, row in zip(prompts, ids, strict=True):
            self._prompts.setdefault(tuple(row), prompt)

    def prompts(self, sequences: Sequences) -> list[Prompt]:
        """Return the prompts of rows. Raises ValueError for one that is none of those given."""
        found = []
        for row, begin in zip(sequences.ids.tolist(), sequences.prompt_lengths.tolist(), strict=True):
            prompt = self._prompts.get(tuple(row[:begin]))
            if prompt is None:
                raise ValueError(
                    f"the prompt of token ids {row[: min(begin, 8)]}... is none of the {len(self._prompts)} prompts "
                    "that these rewards were made for"
                )
            found.append(prompt)
        return found

    def replies(self, sequences: Sequences, *, keep_control: bool = False) -> list[str]:
        """Return the texts of replies; with `keep_control` the control tokens before the end token are spelled out."""
        ids, begins, counts = (field.tolist() for field in sequences)
        rows = [row[begin : begin + count] for row, begin, count in zip(ids, begins, counts, strict=True)]
        return decode_replies(self._tokenizer, rows, keep_control=keep_control)
