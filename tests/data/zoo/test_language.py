from itertools import permutations

import pytest

from salsa.data.zoo.language import (
    FILLERS,
    GREETINGS,
    OFFERS,
    OPENERS,
    WORDS,
    animal_follow_ups,
    attribute_follow_ups,
    display,
    fact_sentence,
    fact_sentences,
    phrasings,
)
from salsa.data.zoo.world import ANIMALS, ATTRIBUTES


def test_the_vocabulary_is_small_and_holds_no_special_token() -> None:
    assert len(WORDS) == len(set(WORDS)) == 100
    assert all(word in (".", "?") or word.isalpha() for word in WORDS)
    assert all(word == word.lower() for word in WORDS)


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_facts_read_as_english(attribute: str) -> None:
    expected = {
        "colour": ("red", "the fox is red .", "it is red ."),
        "food": ("fish", "the fox eats fish .", "it eats fish ."),
        "home": ("caves", "the fox lives in caves .", "it lives in caves ."),
        "skill": ("dig", "the fox can dig .", "it can dig ."),
    }
    value, named, pronoun = expected[attribute]
    assert fact_sentence("fox", attribute, value) == named
    assert fact_sentence(None, attribute, value) == pronoun


def test_it_stands_for_the_animal_of_the_sentence_before() -> None:
    statements = [("fox", "colour", "red"), ("fox", "skill", "dig"), ("owl", "food", "fish"), ("fox", "home", "caves")]
    assert fact_sentences(statements) == [
        "the fox is red .",
        "it can dig .",
        "the owl eats fish .",
        "the fox lives in caves .",
    ]


def test_phrasings_are_many_and_different_and_end_with_a_mark() -> None:
    for count, least in ((1, 12), (2, 11), (3, 11)):
        for attributes in permutations(ATTRIBUTES, count):
            asked = phrasings(("fox",), attributes)
            assert len(set(asked)) == len(asked) >= least
            assert all(text.endswith((" .", " ?")) and "fox" in text for text in asked)


def test_phrasings_of_different_questions_never_coincide() -> None:
    asked = [
        text
        for animals in permutations(ANIMALS[:3], 2)
        for count in (1, 2)
        for attributes in permutations(ATTRIBUTES, count)
        for text in phrasings(animals, attributes)
    ]
    asked += [
        text
        for animal in ANIMALS
        for count in (1, 2, 3)
        for attributes in permutations(ATTRIBUTES, count)
        for text in phrasings((animal,), attributes)
    ]
    assert len(asked) == len(set(asked))


def test_some_phrasings_by_eye() -> None:
    assert "where does the fox live ?" in phrasings(("fox",), ("home",))
    assert "tell me the food and home of the fox ." in phrasings(("fox",), ("food", "home"))
    assert "what colour is the owl and what can it do ?" in phrasings(("owl",), ("colour", "skill"))
    assert "what do the fox and the owl eat ?" in phrasings(("fox", "owl"), ("food",))
    assert "and what does it eat ?" in attribute_follow_ups("food")
    assert "and the owl ?" in animal_follow_ups("owl")


def test_pleasantries_are_four_of_each_and_all_different() -> None:
    groups = (GREETINGS, OFFERS, FILLERS, OPENERS)
    assert [len(group) for group in groups] == [4, 4, 4, 4]
    assert len({sentence for group in groups for sentence in group}) == 16


def test_display_writes_as_people_do() -> None:
    assert display("the fox is red . it eats fish .") == "The fox is red. It eats fish."
    assert display("hello friend . can i help ? the fox can") == "Hello friend. Can I help? The fox can"
    assert display("") == ""
    assert display(". the fox") == ". The fox"
    assert display("the . .") == "The.."
