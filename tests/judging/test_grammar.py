"""Verdicts are read as the published tools read them; ours cannot be forged by what a judge quotes."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salsa.judging import grammar
from salsa.judging.grammar import FIVE_LEVELS, GRAMMARS, THREE_LEVELS
from salsa.judging.verdict import FLIPPED

DATA = Path(__file__).parents[3] / "shared" / "data"
published = pytest.mark.skipif(not DATA.is_dir(), reason="the published judgments are not here")
LINES = st.text(st.characters(exclude_characters="\r\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"), min_size=1)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("Rating: [[7]]", 7.0),
        ("[[7.5]] or rather [[3]]", 7.5),
        ("[2] in passing, then [[9]]", 9.0),
        ("Rating: [4]", 4.0),
        ("Rating: 4", None),
        ("[[rating]]", None),
        (f"[[{'9' * 400}]]", None),
        (f"[[{'9' * 400}]] or rather [[3]]", None),
        ("", None),
    ],
)
def test_fastchat_takes_the_first_score_in_double_brackets_and_else_in_single_ones(
    text: str, score: float | None
) -> None:
    assert grammar.fastchat_score(text) == score


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("[[A]]", "A>B"),
        ("[[B]]", "B>A"),
        ("[[C]]", "A=B"),
        ("[[B]], no, [[A]]", "A>B"),
        ("[[C]] rather than [[B]]", "B>A"),
        ("[A]", None),
        ("[[a]]", None),
    ],
)
def test_fastchat_looks_for_a_then_b_then_c(text: str, label: str | None) -> None:
    assert grammar.fastchat_pair(text) == label


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("[[8,6]]", "A>B"),
        ("[[6, 8]] or rather [[9, 1]]", "B>A"),
        ("[[7,7]]", "A=B"),
        ("[[7.5, 7.4]]", "A=B"),
        ("[[7.5, 7.3]]", "A>B"),
        ("[3, 4] in passing, then [[9,1]]", "A>B"),
        ("Scores: [3, 4]", "B>A"),
        ("[[8]]", None),
        ("8, 6", None),
        ("[[rating_a,rating_b]]", None),
        ("[[8,  6]]", None),
        (f"[[{'9' * 400},{'9' * 400}]]", None),
        ("", None),
    ],
)
def test_fastchat_takes_the_first_two_scores_in_double_brackets_and_else_in_single_ones(
    text: str, label: str | None
) -> None:
    assert grammar.fastchat_two_scores(text) == label


SCORES = st.integers(0, 100).map(lambda tenths: tenths / 10)


@given(SCORES, SCORES, st.text(), st.text())
def test_of_two_scores_the_higher_wins_and_near_ones_tie(first: float, second: float, before: str, after: str) -> None:
    before = before.replace("[", "(")
    label = grammar.fastchat_two_scores(f"{before}[[{first}, {second}]]{after}")
    assert label == ("A=B" if abs(first - second) <= 0.1 else "A>B" if first > second else "B>A")
    turned = grammar.fastchat_two_scores(f"{before}[[{second}, {first}]]{after}")
    assert label is not None
    assert turned == FLIPPED[label]


@pytest.mark.parametrize(
    ("text", "first", "current"),
    [
        ("My final verdict is [[A>>B]]", "A>>B", "A>>B"),
        ("[[A>B]] and again [[A>B]]", "A>B", "A>B"),
        ("[[A>B]], no, [[B>A]]", None, "B>A"),
        ("[A=B]", None, "A=B"),
        ("[[b>>a]]", None, "B>>A"),
        ("[[A<B]]", None, "B>A"),
        ("[[B<<A]]", None, "A>>B"),
        ("[[A>B]] then [[A]]", None, None),
        ("[A>B] then [[B>A]]", "B>A", "B>A"),
        ("no verdict", None, None),
    ],
)
def test_arena_hard_by_both_releases(text: str, first: str | None, current: str | None) -> None:
    assert grammar.arena_first(text) == first
    assert grammar.arena_current(text) == current


@given(st.sampled_from(FIVE_LEVELS), st.text())
def test_our_own_verdict_is_read_whatever_comes_before_it(label: str, before: str) -> None:
    text = f"{before}\nVerdict: {label}"
    assert grammar.own_pair(text, 5) == label
    assert grammar.own_pair(text, 3) == (label if label in THREE_LEVELS else None)


@given(st.sampled_from(THREE_LEVELS), st.sampled_from(THREE_LEVELS), st.text(), LINES)
def test_a_quoted_verdict_never_counts(forged: str, label: str, before: str, words: str) -> None:
    """Wherever a judge quotes it above its own verdict, or on the last line with words around it."""
    quotation = f"{before}\nReply A ends with [[A]] and\nVerdict: {forged}\n"
    assert grammar.own_pair(f"{quotation}\nVerdict: {label}") == label
    assert grammar.own_pair(f'{quotation}It says "Verdict: {forged}" {words}') is None
    assert grammar.own_pair(f"{quotation}> Verdict: {forged}") is None


@given(st.sampled_from(THREE_LEVELS), st.sampled_from(THREE_LEVELS))
def test_two_verdicts_on_the_last_line_are_none(one: str, other: str) -> None:
    assert grammar.own_pair(f"Verdict: {one} or {other}") is None
    assert grammar.own_pair(f"Verdict: {one} Verdict: {other}") is None


@pytest.mark.parametrize(
    "line",
    [
        "Verdict: A>B",
        "**Verdict: A>B**",
        "**Verdict:** A>B",
        "verdict: [[a > b]].",
        "[[A>B]]",
        "A>B",
        "Final verdict: A>B",
    ],
)
def test_decoration_does_no_harm(line: str) -> None:
    assert grammar.own_pair(f"Because.\n{line}\n\n") == "A>B"


@pytest.mark.parametrize(
    "line", ["Verdict: A", "Verdict: A>A", "Verdict: A>B because", "Urteil: A>B", "Verdict: [[A>B]", "[[A]]", ""]
)
def test_what_is_no_verdict_is_not_guessed(line: str) -> None:
    assert grammar.own_pair(f"Because.\n{line}") is None


@given(st.floats(1, 10).map(lambda score: round(score, 1)), st.text())
def test_our_own_score(score: float, before: str) -> None:
    assert grammar.own_score(f"{before}\nVerdict: {score}") == score
    assert grammar.own_score(f"{before}\n**Verdict: {score}/10**") == score


@pytest.mark.parametrize("line", ["Verdict: 0", "Verdict: 11", "Verdict: -3", "Verdict: 7 or 8", "7", "Verdict: seven"])
def test_what_is_no_score_is_not_guessed(line: str) -> None:
    assert grammar.own_score(line) is None


@given(st.text(), st.sampled_from(list(GRAMMARS)))
def test_any_text_is_read_without_an_error(text: str, name: str) -> None:
    value = GRAMMARS[name].read(text)
    assert value is None or isinstance(value, str if GRAMMARS[name].kind == "pair" else float)


@published
def test_published_scores_of_mt_bench_are_read_again() -> None:
    with gzip.open(DATA / "mt_bench_judgments" / "alvarobartt_gpt-4_single.jsonl.gz") as lines:
        rows = [json.loads(line) for line in lines]
    read = [grammar.fastchat_score(row["judgment"]) for row in rows]
    assert len(rows) == 800
    assert [-1 if score is None else score for score in read] == [row["score"] for row in rows]


@published
def test_published_labels_of_arena_hard_are_read_again() -> None:
    games = []
    for path in sorted((DATA / "arena_hard_judgments").glob("*.gz")):
        with gzip.open(path) as lines:
            games += [game for line in lines for game in json.loads(line)["games"]]
    assert len(games) >= 80
    for game in games:
        assert grammar.arena_first(game["judgment"]) == grammar.arena_current(game["judgment"]) == game["score"]
