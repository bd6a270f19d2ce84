"""Single rows of FastChat's and Arena-Hard's files: what they become, and what is said of those that lack something."""

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salsa.evaluation.published import arena_hard, mt_bench
from salsa.evaluation.published.lines import RowError
from salsa.evaluation.published.rows import shown_replies
from tests.evaluation.judgments import arena, arena_two, battle, pair, single

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def verdicts(row):
    return [each.verdict for each in row.judged]


def labels(row):
    return [each.verdict.label for each in row.judged]


@given(st.floats(0, 10, allow_nan=False).map(lambda value: round(value, 2)), st.text())
def test_a_score_is_read_from_the_text(score, words):
    words = words.replace("[", "(")
    [verdict] = verdicts(mt_bench.single(single(text=f"{words} Rating: [[{score:.2f}]]", score=3), "f:1"))
    assert verdict.score == score
    assert (verdict.status, verdict.kind, verdict.category) == ("judged", "single", "writing")


def test_what_is_stored_is_compared_with_the_text():
    assert not mt_bench.single(single(score=7), "f:1").judged[0].differs
    assert mt_bench.single(single(text="[[8]]", score=7), "f:1").judged[0].differs
    assert mt_bench.single(single(text="none", score=7), "f:1").judged[0].differs
    assert not mt_bench.single(single(score=None), "f:1").judged[0].differs


def scored(first, second, name="pair-v1", **more):
    """Return a row whose judge gave each game two scores."""
    texts = {"g1_judgment": f"So: [[{first[0]}, {first[1]}]]", "g2_judgment": f"So: [[{second[0]},{second[1]}]]"}
    return pair(judge=["gpt-4", name], **(texts | more))


SCORE = st.integers(1, 10)


@given(st.tuples(SCORE, SCORE), st.tuples(SCORE, SCORE), st.sampled_from(["pair-v1", "pair-v1-multi-turn"]))
def test_older_prompts_asked_for_two_scores(first, second, name):
    def label(scores):
        return "A>B" if scores[0] > scores[1] else "B>A" if scores[0] < scores[1] else "A=B"

    row = mt_bench.pair(scored(first, second, name), "f:1")
    assert labels(row) == [label(first), label(second)]
    assert {each.verdict.grammar for each in row.judged} == {"fastchat_two_scores"}
    assert {each.verdict.grammar for each in mt_bench.pair(scored(first, second, "pair-v2"), "f:1").judged} == {
        "fastchat_pair"
    }


def test_two_scores_are_compared_with_what_is_stored():
    told = scored((8, 6), (3, 9), g1_winner="model_1", g2_winner="model_1")
    assert [each.differs for each in mt_bench.pair(told, "f:1").judged] == [False, False]
    assert mt_bench.pair(told | {"g1_winner": "tie"}, "f:1").judged[0].differs
    nothing = mt_bench.pair(scored((8, 6), (3, 9), g2_judgment="No idea.", g2_winner="error"), "f:1")
    assert [each.verdict.status for each in nothing.judged] == ["judged", "unparsed"]


def test_letters_count_where_an_older_prompt_got_letters():
    assert labels(mt_bench.pair(pair(judge=["gpt-4", "pair-v1"], games="12"), "f:1")) == ["A>B", "A>B"]


def test_what_is_stored_counts_where_there_is_no_text_or_it_is_asked_for():
    row = single(score=7)
    del row["judgment"]
    assert verdicts(mt_bench.single(row, "f:1"))[0].score == 7
    assert verdicts(mt_bench.single(single(text="[[8]]", score=7), "f:1", True))[0].score == 7


@pytest.mark.parametrize(("text", "status"), [("$ERROR$", "failed"), ("", "failed"), ("fine reply", "unparsed")])
def test_an_error_of_the_endpoint_is_no_judgment(text, status):
    [verdict] = verdicts(mt_bench.single(single(text=text, score=-1), "f:1"))
    assert (verdict.status, verdict.score) == (status, None)


@pytest.mark.parametrize(
    ("games", "expected"),
    [("11", ["A>B", "B>A"]), ("22", ["B>A", "A>B"]), ("==", ["A=B", "A=B"]), ("1!", ["A>B", None])],
)
def test_a_pair_is_two_games_with_the_replies_swapped(games, expected):
    row = mt_bench.pair(pair(games=games), "f:1")
    assert labels(row) == expected
    assert [(each.model_a, each.model_b, each.order) for each in verdicts(row)] == [
        ("one", "two", 0),
        ("two", "one", 1),
    ]
    assert not any(each.differs for each in row.judged)
    assert row.judged[1].replies == {"one": "a reply", "two": "another"}


def test_whole_numbers_may_be_written_with_a_point():
    [verdict] = verdicts(mt_bench.single(single(question=81.0, turn=2.0), "f:1"))
    assert (verdict.question, verdict.turn) == ("81", 2)


def test_numbers_may_be_written_as_texts():
    [verdict] = verdicts(mt_bench.single(single(question="81", turn="2", score="7.5", text=""), "f:1"))
    assert (verdict.question, verdict.turn, verdict.score) == ("81", 2, 7.5)


@pytest.mark.parametrize("score", ["seven", [7], 10**400, True])
def test_a_stored_score_that_cannot_be_read_costs_no_row_whose_text_can(score):
    [judged] = mt_bench.single(single(score=score, text="[[7]]"), "f:1").judged
    assert (judged.verdict.score, judged.stored, judged.differs) == (7, None, True)
    with pytest.raises(RowError, match="score is"):
        mt_bench.single(single(score=score, text="[[7]]"), "f:1", stored_counts=True)
    assert labels(mt_bench.pair(pair(g2_winner=score), "f:1")) == ["A>B", "B>A"]
    games = [{"judgment": "[[A>B]]", "score": [score]}, None]
    assert labels(arena_hard.judgment(arena(games=games), "f:1", None, None)) == ["A>B", None]


def test_a_row_and_its_swapped_twin_are_the_same_comparison():
    assert mt_bench.pair(pair(), "f:1").identity == mt_bench.pair(pair(models=("two", "one")), "f:2").identity


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (single(model=""), "model is ''"),
        (single(question=None), "question_id is missing"),
        (single(question=True), "question_id is True"),
        (single(question=81.5), "question_id is 81.5"),
        (single(turn="one"), "turn is 'one'"),
        (single(score="seven", text="No verdict."), "score is 'seven'"),
        (single(score=10**400, text=""), "score is 1000"),
        (single(judge=[]), "judge is []"),
        (single(text=5), "judgment is 5"),
        ({"question_id": 1, "model": "m"}, "neither judgment nor score"),
    ],
)
def test_what_a_row_lacks_is_named(row, words):
    with pytest.raises(RowError, match=words.replace("[", r"\[")):
        mt_bench.single(row, "f:1")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (pair(models=("one", "one")), "compared with itself"),
        (pair(g1_winner="one", g1_judgment="No verdict."), "g1_winner is 'one'"),
        (pair(g2_judgment=3), "g2_judgment is 3"),
        ({"question_id": 1, "model_1": "a", "model_2": "b", "winner": "model_1"}, "neither g1_judgment"),
    ],
)
def test_what_a_pair_lacks_is_named(row, words):
    with pytest.raises(RowError, match=words):
        mt_bench.pair(row, "f:1")


def test_in_game_1_the_baseline_is_shown_first():
    row = arena_hard.judgment(arena(labels=("B>>A", "A>B")), "f:1", "base", None)
    assert [(each.model_a, each.model_b, each.order) for each in verdicts(row)] == [("base", "m", 1), ("m", "base", 0)]
    assert labels(row) == ["B>>A", "A>B"]


def test_each_release_reads_its_own_layout():
    text = "First [[A>B]], but no: [[B>A]]"
    first = arena(games=[{"judgment": text, "score": None}, {"judgment": "[[A=B]]", "score": "A=B"}])
    assert labels(arena_hard.judgment(first, "f:1", None, None)) == [None, "A=B"]
    assert labels(arena_hard.judgment(first, "f:1", None, "current")) == ["B>A", "A=B"]
    second = arena_two(games=[{"judgment": {"answer": text}, "score": "B>A"}, None])
    row = arena_hard.judgment(second, "f:1", "other", None)
    assert labels(row) == ["B>A", None]
    assert [each.verdict.status for each in row.judged] == ["judged", "failed"]
    assert verdicts(row)[0].model_a == "o3-mini"


def test_a_stored_label_may_be_turned_round():
    games = [{"score": "A<<B"}, {"score": "B=A"}]
    assert labels(arena_hard.judgment(arena(games=games), "f:1", None, "current")) == ["B>>A", "A=B"]
    # The first release knows five labels and no others.
    assert labels(arena_hard.judgment(arena(games=games), "f:1", None, None)) == [None, None]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (arena(games=[]), "0 games"),
        (arena(games="two"), "no list of games"),
        (arena(games=[{}]), "game 1 has neither"),
        (arena(games=[7]), "game 1 is int"),
        (arena(games=[{"judgment": "No verdict.", "score": 1}]), "score of game 1 is 1"),
        (arena(games=[{"judgment": 4}]), "judgment of game 1 is int"),
        (arena(model=None), "model is missing"),
    ],
)
def test_what_a_judgment_lacks_is_named(row, words):
    with pytest.raises(RowError, match=words):
        arena_hard.judgment(row, "f:1", None, None)


@pytest.mark.parametrize(("winner", "outcome"), [("model_a", 1), ("model_b", 0), ("tie", 0.5), ("tie (bothbad)", 0.5)])
def test_a_battle(winner, outcome):
    found = arena_hard.battle(battle(winner=winner))
    assert (found.first, found.second, found.outcome, found.weight) == ("base", "m", outcome, 1)


def test_a_battle_without_a_winner_is_named():
    with pytest.raises(RowError, match="winner is 'base'"):
        arena_hard.battle(battle(winner="base"))


@given(st.dictionaries(st.sampled_from([*single(), *pair(), *arena(), *arena_two(), *battle()]), JSON))
def test_no_row_breaks_a_reader(row):
    for read in (mt_bench.single, mt_bench.pair, lambda row, place: arena_hard.judgment(row, place, None, None)):
        with contextlib.suppress(RowError):
            found = read(row, "f:1")
            assert all(each.verdict.score is None or math.isfinite(each.verdict.score) for each in found.judged)
    with contextlib.suppress(RowError):
        assert arena_hard.battle(row).outcome in (0, 0.5, 1)


@pytest.mark.parametrize(
    ("question", "category"),
    [
        *[("80", ""), ("81", "writing"), ("91", "roleplay"), ("101", "reasoning"), ("111", "math"), ("121", "coding")],
        *[("131", "extraction"), ("141", "stem"), ("160", "humanities"), ("161", ""), ("x", "")],
        *[("9" * 5000, ""), ("²", "")],
    ],
)
def test_the_categories_of_mt_bench(question, category):
    assert mt_bench.category(question) == category


def conversation(side, *replies):
    turns = "\n\n".join(f"### User:\nWhy?\n\n### Assistant {side}:\n{reply}" for reply in replies)
    whose = f"of Assistant {side}'s Conversation with User|>"
    return f"<|The Start {whose}\n\n{turns}\n\n<|The End {whose}\n\n"


def test_of_two_turns_the_reply_to_the_second_is_the_judged_one():
    shown = conversation("A", "A long first reply.", "short") + conversation("B", "brief", "second\n\nof two")
    assert shown_replies(shown, "one", "two") == {"one": "short", "two": "second\n\nof two"}


@pytest.mark.parametrize("replies", [("only one",), ("one", "### Assistant A:\ntwo"), ("one", "two", "three")])
def test_replies_of_a_conversation_that_is_not_clear_are_not_guessed(replies):
    assert shown_replies(conversation("A", *replies) + conversation("B", "one", "two"), "one", "two") == {}


def test_replies_that_hold_the_markers_are_not_guessed():
    marked = pair(replies=("[The Start of Assistant A's Answer]\nme", "b"))["g1_user_prompt"]
    assert shown_replies(marked, "one", "two") == {}
    assert shown_replies(None, "one", "two") == {}
    assert shown_replies(pair()["g1_user_prompt"], "one", "one") == {}
