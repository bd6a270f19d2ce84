import json

import numpy as np
import pytest

from salsa.data.zoo.language import OPENERS
from salsa.data.zoo.questions import OPENER_SHARE, Question, ask, ask_more, cluster


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def test_a_question_asks_for_every_attribute_of_every_animal() -> None:
    question = Question("...", ("fox", "owl"), ("home", "food"), True)
    assert question.needs == (("fox", "home"), ("fox", "food"), ("owl", "home"), ("owl", "food"))
    assert question.query() == {
        "needs": [["fox", "home"], ["fox", "food"], ["owl", "home"], ["owl", "food"]],
        "brief": True,
    }
    assert json.loads(json.dumps(question.query())) == question.query()


def test_the_cluster_does_not_depend_on_the_order_of_asking() -> None:
    one = Question("...", ("fox",), ("home", "food"), False)
    other = Question("...", ("fox",), ("food", "home"), True)
    assert cluster([one]) == cluster([other]) == "fox:food+home"
    assert cluster([Question("...", ("owl", "fox"), ("food",), False)]) == "fox+owl:food"
    assert cluster([one, Question("...", ("bear",), ("home", "food"), False)]) == "bear+fox:food+home"
    assert cluster([one, Question("...", ("fox",), ("colour",), False)]) == "fox:colour+food+home"


def test_brief_questions_say_so_and_others_do_not(rng: np.random.Generator) -> None:
    for brief in (True, False):
        assert all(ask(rng, ("fox",), 1, brief).text.endswith(" be brief .") == brief for _ in range(50))
        first = ask(rng, ("fox",), 1, False)
        assert ask_more(rng, first, "owl", brief).text.endswith(" be brief .") == brief


def test_openers_come_as_often_as_stated(rng: np.random.Generator) -> None:
    opened = sum(ask(rng, ("fox",), 1, False).text.startswith(OPENERS) for _ in range(4000))
    assert abs(opened / 4000 - OPENER_SHARE) < 5 * np.sqrt(0.24 / 4000)


def test_follow_ups_ask_for_something_new(rng: np.random.Generator) -> None:
    for _ in range(100):
        first = ask(rng, ("fox",), 2, False)
        more = ask_more(rng, first, None, False)
        assert more.animals == ("fox",)
        assert len(more.attributes) == 1
        assert not set(more.attributes) & set(first.attributes)
        other = ask_more(rng, first, "owl", False)
        assert other.animals == ("owl",)
        assert other.attributes == first.attributes
