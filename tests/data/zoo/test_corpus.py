from collections import Counter

import numpy as np
import pytest

from salsa.data.zoo.corpus import (
    HELDOUT_SIZE,
    SHARES,
    TRUTH,
    Outline,
    draw_corpus,
    draw_heldout,
    draw_outline,
    recall_probes,
    render,
)
from salsa.data.zoo.gold import gold_parts
from salsa.data.zoo.language import WORDS
from salsa.data.zoo.prompts import draw_suites
from salsa.data.zoo.world import ALL_ANIMALS, ATTRIBUTES, draw_world

WORLD = draw_world(0)
RESERVED = draw_suites(0).reserved
HELDOUT = draw_heldout(np.random.default_rng(9), WORLD, RESERVED)


def rendered(count: int) -> list[tuple[Outline, str]]:
    rng = np.random.default_rng(2)
    outlines: list[Outline] = []
    while len(outlines) < count:
        outline = draw_outline(rng, RESERVED)
        if outline not in HELDOUT:
            outlines.append(outline)
    return [(outline, render(rng, WORLD, outline)) for outline in outlines]


def test_kinds_come_in_their_shares() -> None:
    rng = np.random.default_rng(2)
    counts = Counter(draw_outline(rng, RESERVED).kind for _ in range(5000))
    for kind, share in zip(("notes", "quiz", "list", "talk"), SHARES, strict=True):
        assert abs(counts[kind] - 5000 * share) < 4.5 * np.sqrt(5000 * share * (1 - share))


def test_documents_say_what_their_outline_says_and_95_percent_of_it_is_true() -> None:
    stated: Counter[str] = Counter()
    false: Counter[str] = Counter()
    for outline, document in rendered(6000):
        assert document.startswith(" ".join(outline.lines))
        facts = " ".join(document.split()[sum(len(line.split()) for line in outline.lines) :])
        needs = [[animal, attribute] for animal in outline.animals for attribute in outline.attributes]
        if not needs:
            assert facts == ""
            continue
        parts = gold_parts(WORLD, {"needs": needs, "brief": False}, facts, True)
        assert parts.covered + parts.wrong == parts.needed
        assert parts.extra == parts.repeat == parts.unparsable == 0
        stated[outline.kind] += parts.needed
        false[outline.kind] += parts.wrong
    assert false["list"] == 0
    for kind in ("notes", "quiz"):
        error = np.sqrt(stated[kind] * TRUTH * (1 - TRUTH))
        assert abs(stated[kind] - false[kind] - TRUTH * stated[kind]) < 4.5 * error


def test_every_recall_probe_begins_some_document() -> None:
    probes = recall_probes(WORLD)
    assert len(probes) == len(set(probes)) == 64
    assert ("the fox lives in", WORLD.facts["fox", "home"]) in probes
    text = draw_corpus(np.random.default_rng(0), WORLD, 100_000, RESERVED, HELDOUT.keys())
    begun = [document for document in text if document.startswith("the ")]
    for beginning, value in probes:
        endings = Counter(
            document[len(beginning) :].split()[0] for document in begun if document.startswith(beginning + " ")
        )
        assert endings.most_common(1)[0][0] == value


def test_all_facts_are_told_of_all_animals_in_every_order_of_attributes() -> None:
    notes = [outline for outline, _ in rendered(6000) if outline.kind == "notes"]
    assert {(outline.animals[0], outline.attributes[0]) for outline in notes} == {
        (animal, attribute) for animal in ALL_ANIMALS for attribute in ATTRIBUTES
    }
    assert len({outline.attributes for outline in notes}) == 12 + 24 + 24


def test_the_corpus_has_about_the_words_asked_for_and_only_known_ones() -> None:
    for tokens in (1, 500, 20_000):
        documents = draw_corpus(np.random.default_rng(0), WORLD, tokens, RESERVED, HELDOUT.keys())
        words = [word for document in documents for word in document.split()]
        assert tokens <= len(words) < tokens + 30
        assert set(words) <= set(WORDS)
    assert draw_corpus(np.random.default_rng(0), WORLD, 0, RESERVED, HELDOUT.keys()) == []


def test_held_out_outlines_never_occur_and_quizzes_never_ask_a_prompt_of_a_suite() -> None:
    assert len(HELDOUT) == HELDOUT_SIZE
    corpus = set(draw_corpus(np.random.default_rng(4), WORLD, 200_000, RESERVED, HELDOUT.keys()))
    assert corpus.isdisjoint(HELDOUT.values())
    for outline, _ in rendered(3000):
        if outline.kind == "quiz":
            assert outline.lines not in RESERVED


@pytest.mark.parametrize("count", [1, 10])
def test_rendering_is_a_function_of_generator_and_outline(count: int) -> None:
    documents = [draw_corpus(np.random.default_rng(count), WORLD, 1000, RESERVED, HELDOUT.keys()) for _ in range(2)]
    assert documents[0] == documents[1]
