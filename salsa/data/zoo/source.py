"""The embedded world as a source of data: nothing is downloaded, and everything follows from a seed."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from salsa.data.conversation import Conversation, Message, Pair, Prompt
from salsa.data.zoo.authors import AUTHOR_MIX, AUTHORS, Author, answer, check_mix
from salsa.data.zoo.corpus import Outline, draw_corpus, draw_heldout, recall_probes
from salsa.data.zoo.draws import weighted
from salsa.data.zoo.gold import GoldParts, gold_turns
from salsa.data.zoo.language import WORDS, display
from salsa.data.zoo.prompts import SUITES, Suites, as_prompt, draw_suites, draw_training_turns
from salsa.data.zoo.questions import Question, question_of
from salsa.data.zoo.world import World, draw_world
from salsa.seeds import generator


class ZooSource:
    """The zoo of a seed; implements `salsa.data.source.Source`.

    The seed fixes facts, suites and held-out text; `author_mix` gives the shares of the careful, the terse, the chatty
    and the careless author in demonstrations and in the contexts of two-turn prompts.

    Raises:
        ValueError: when the seed is negative or the shares are not four that sum to 1.
    """

    chat: str = "zoo"
    words: tuple[str, ...] | None = WORDS
    suites: tuple[str, ...] = SUITES

    def __init__(self, seed: int = 0, author_mix: Sequence[float] = AUTHOR_MIX) -> None:
        if seed < 0:
            raise ValueError(f"seed {seed} of the zoo must not be negative")
        self.seed = seed
        self.author_mix = check_mix(author_mix)
        self.world: World = draw_world(seed)

    @cached_property
    def _suites(self) -> Suites:
        return draw_suites(self.seed)

    @cached_property
    def _heldout(self) -> dict[Outline, str]:
        return draw_heldout(generator(self.seed, 0, "zoo held-out text"), self.world, self._suites.reserved)

    def corpus(self, rng: np.random.Generator, tokens: int) -> list[str]:
        """Return pre-training documents of about `tokens` words in all."""
        return draw_corpus(rng, self.world, tokens, self._suites.reserved, self._heldout.keys())

    def heldout_text(self, count: int) -> list[str]:
        """Return the first `count` of the fixed documents that the corpus leaves out (all, if there are fewer)."""
        return list(self._heldout.values())[:count]

    def _author(self, rng: np.random.Generator) -> Author:
        return weighted(rng, AUTHORS, self.author_mix)

    def _exchange(self, rng: np.random.Generator, author: Author, question: Question) -> Conversation:
        return Message("user", question.text), Message("assistant", answer(rng, author, self.world, question))

    def demonstrations(self, rng: np.random.Generator, count: int) -> list[Conversation]:
        """Return training prompts answered by an author, who in a two-turn conversation answers both turns."""
        conversations: list[Conversation] = []
        for _ in range(count):
            author = self._author(rng)
            turns = draw_training_turns(rng, self._suites.reserved)
            conversations.append(tuple(m for turn in turns for m in self._exchange(rng, author, turn)))
        return conversations

    def prompts(self, rng: np.random.Generator, count: int) -> list[Prompt]:
        """Return training prompts of one question, a quarter of them after a question that an author has answered."""
        prompts: list[Prompt] = []
        for index in range(count):
            turns = draw_training_turns(rng, self._suites.reserved)
            context = self._exchange(rng, self._author(rng), turns[0]) if len(turns) > 1 else ()
            prompts.append(as_prompt(f"train-{index:05d}", turns[-1:], context))
        return prompts

    def pairs(self, split: str) -> list[Pair] | None:
        """Return None: preferences are sampled from fine-tuned models and labelled by the gold reward."""
        return None

    def suite(self, name: str, count: int) -> list[Prompt]:
        """Return the first `count` prompts of a suite, the same for all replicates; all of them if it has fewer.

        Raises:
            ValueError: when there is no such suite, or `count` is negative.
        """
        if name not in self.suites:
            raise ValueError(f"suite {name!r} is unknown; the zoo has {', '.join(self.suites)}")
        if count < 0:
            raise ValueError(f"suite {name!r} has no {count} prompts; ask for 0 or more")
        return list(self._suites.prompts[name][:count])

    def heldout_demonstrations(self, count: int) -> list[tuple[Conversation, str]]:
        """Return the first `count` questions of the validation suite (all, if it has fewer), answered by authors."""
        rng = generator(self.seed, 0, "zoo held-out demonstrations")
        asked = [(question_of(prompt), prompt.cluster) for prompt in self.suite("validation", count)]
        return [(self._exchange(rng, self._author(rng), question), cluster) for question, cluster in asked]

    def recall_probes(self) -> list[tuple[str, str]]:
        """Return the beginning and the right next word of a sentence for each of the 64 facts."""
        return recall_probes(self.world)

    def gold(self, prompt: Prompt, replies: tuple[str, ...], ended: tuple[bool, ...]) -> float | None:
        """Return the gold reward, the mean over the turns; None for a prompt that is not of the zoo (no query)."""
        if prompt.query is None:
            return None
        parts = self.gold_parts(prompt, replies, ended)
        return sum(turn.value for turn in parts) / len(parts)

    def gold_parts(self, prompt: Prompt, replies: Sequence[str], ended: Sequence[bool]) -> tuple[GoldParts, ...]:
        """Return what the gold reward of each turn is made of, for diagnosis.

        Raises:
            ValueError: when the prompt has no query, or there is not one reply and one end flag for each question.
        """
        if prompt.query is None:
            raise ValueError(f"prompt {prompt.id!r} has no query; the gold reward judges prompts of the zoo only")
        return gold_turns(self.world, prompt.query, replies, ended)

    def display(self, text: str) -> str:
        """Return a text as plain English: "the fox is red ." becomes "The fox is red."."""
        return display(text)
