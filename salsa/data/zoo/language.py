"""The English of the zoo: its fixed sentences, the phrasings of its questions, and the closed vocabulary they use.

Every text is made of words and the marks "." and "?", all separated by single spaces.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import combinations, permutations

from salsa.data.zoo.world import ALL_ANIMALS, ATTRIBUTES, VALUES, VERBS

GREETINGS = ("hello friend .", "welcome to the zoo .", "what a good question .", "i am happy to help .")
OFFERS = ("ask me more .", "do you want to know more ?", "i can tell you more .", "you can ask me again .")
FILLERS = ("let me think .", "i love the zoo .", "every animal is special .", "the zoo is full of life .")
OPENERS = ("hello guide .", "please help me .", "i have a question .", "i am at the zoo .")
"""Sentences that a visitor may say before a question."""
BRIEF = "be brief ."

# The topic is "the food of the fox", "the food and home of the fox", "the food of the fox and the owl", ...
_LEADS = (
    "tell me {topic} .",
    "please tell me {topic} .",
    "can you tell me {topic} ?",
    "do you know {topic} ?",
    "i want to know {topic} .",
    "please name {topic} .",
    "can you name {topic} ?",
    "tell me about {topic} .",
    "what do you know about {topic} ?",
)
# Questions that name no attribute but use its verb. {who} is "the fox" or "it".
_CLAUSES = {
    "colour": "what colour is {who}",
    "food": "what does {who} eat",
    "home": "where does {who} live",
    "skill": "what can {who} do",
}
_SECOND_CLAUSES = {
    "colour": "which colour does {who} have",
    "food": "which food does {who} eat",
    "home": "where is the home of {who}",
    "skill": "which skill does {who} have",
}
_PLURAL_CLAUSES = {
    "colour": "what colour are {who}",
    "food": "what do {who} eat",
    "home": "where do {who} live",
    "skill": "what can {who} do",
}
_MORE_ATTRIBUTES = ("and {clause} ?", "and its {noun} ?", "what about its {noun} ?", "and what is its {noun} ?")
_MORE_ANIMALS = ("and the {animal} ?", "what about the {animal} ?", "and what about the {animal} ?")


def fact_sentence(animal: str | None, attribute: str, value: str) -> str:
    """Return the sentence that states a fact; without an animal its subject is "it"."""
    subject = "it" if animal is None else f"the {animal}"
    return f"{subject} {VERBS[attribute]} {value} ."


def fact_sentences(statements: Iterable[tuple[str, str, str]]) -> list[str]:
    """Return sentences for (animal, attribute, value) statements, with "it" while the animal stays the same."""
    sentences = []
    named = None
    for animal, attribute, value in statements:
        sentences.append(fact_sentence(None if animal == named else animal, attribute, value))
        named = animal
    return sentences


@cache
def phrasings(animals: tuple[str, ...], attributes: tuple[str, ...]) -> tuple[str, ...]:
    """Return every way to ask for these attributes of each of these animals, in the order given."""
    who = " and ".join(f"the {animal}" for animal in animals)
    topic = f"the {' and '.join(attributes)} of {who}"
    asked = [lead.format(topic=topic) for lead in _LEADS]
    asked.append(f"what {'is' if len(attributes) == 1 else 'are'} {topic} ?")
    first = attributes[0]
    if len(animals) == 1:
        clauses = [_CLAUSES[first].format(who=who), *(_CLAUSES[name].format(who="it") for name in attributes[1:])]
        asked.append(" and ".join(clauses) + " ?")
        if len(attributes) == 1:
            asked.append(_SECOND_CLAUSES[first].format(who=who) + " ?")
    elif len(attributes) == 1:
        asked.append(_PLURAL_CLAUSES[first].format(who=who) + " ?")
    return tuple(asked)


@cache
def attribute_follow_ups(attribute: str) -> tuple[str, ...]:
    """Return the ways to ask next for another attribute of the animal just spoken of."""
    clause = _CLAUSES[attribute].format(who="it")
    return tuple(form.format(clause=clause, noun=attribute) for form in _MORE_ATTRIBUTES)


@cache
def animal_follow_ups(animal: str) -> tuple[str, ...]:
    """Return the ways to ask next for the same attributes of another animal."""
    return tuple(form.format(animal=animal) for form in _MORE_ANIMALS)


def _every_form() -> Iterator[str]:
    yield from (*GREETINGS, *OFFERS, *FILLERS, *OPENERS, BRIEF)
    for attribute, values in VALUES.items():
        yield from (fact_sentence(subject, attribute, value) for subject in (None, *ALL_ANIMALS) for value in values)
        yield from attribute_follow_ups(attribute)
    for count in (1, 2, 3):
        for attributes in permutations(ATTRIBUTES, count):
            yield from phrasings(ALL_ANIMALS[:1], attributes)
    for attributes in (*combinations(ATTRIBUTES, 1), *combinations(ATTRIBUTES, 2)):
        yield from phrasings(ALL_ANIMALS[:2], attributes)
    for animal in ALL_ANIMALS:
        yield from animal_follow_ups(animal)


WORDS = tuple(sorted({word for text in _every_form() for word in text.split()}))
"""The closed vocabulary, the marks included; the same for every seed."""


def display(text: str) -> str:
    """Return a text of the zoo as people write it: "the fox is red . it can dig ." -> "The fox is red. It can dig."."""
    shown: list[str] = []
    begins = True
    for word in text.split():
        if word in (".", "?"):
            if shown:
                shown[-1] += word
            else:
                shown.append(word)
            begins = True
            continue
        shown.append(word.capitalize() if begins or word == "i" else word)
        begins = False
    return " ".join(shown)
