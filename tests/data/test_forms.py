"""The accepted forms of rows, and the reasons for which a row is malformed."""

from typing import Any

import pytest

from salsa.data import forms
from salsa.data.conversation import Message, Pair, Prompt
from tests.data.files import hh_row, messages

QUESTION = (Message("user", "Why?"),)
PAIR = ("Because.", "No idea.")


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Why?", "chosen": "Because.", "rejected": "No idea."},
        {"prompt": messages("Why?"), "chosen": " Because.\n", "rejected": "No idea."},
        {"prompt": "Why?", "chosen": messages("Why?", "Because."), "rejected": messages("Why?", "No idea.")},
        {"prompt": messages("Why?"), "chosen": messages("Why?", "Because."), "rejected": messages("Why?", "No idea.")},
        {
            "prompt": "Why?",
            "chosen": [{"role": "assistant", "content": "Because."}],
            "rejected": [{"role": "assistant", "content": "No idea."}],
        },
        {"chosen": messages("Why?", "Because."), "rejected": messages("Why?", "No idea.")},
        hh_row("Why?", *PAIR),
        {"prompt": "\n\nHuman: Why?\n\nAssistant:", "chosen": " Because.", "rejected": " No idea."},
    ],
)
def test_every_form_of_a_pair_gives_the_same_pair(row: dict[str, Any]) -> None:
    assert forms.preference(row) == Pair(QUESTION, *PAIR, cluster=forms.question_key(QUESTION))


def test_a_transcript_keeps_its_earlier_turns() -> None:
    start = "\n\nHuman: Why?\n\nAssistant: Because.\n\nHuman: Really?\n\nIn truth?\n\nAssistant:"
    pair = forms.preference({"chosen": start + " Yes.", "rejected": start + " No."})
    assert pair.conversation == (
        *QUESTION,
        Message("assistant", "Because."),
        Message("user", "Really?\n\nIn truth?"),
    )
    assert (pair.chosen, pair.rejected) == ("Yes.", "No.")


def test_a_system_message_stays_in_front() -> None:
    system = [{"role": "system", "content": "Be brief."}]
    chosen, rejected = (system + messages("Why?", reply) for reply in PAIR)
    pair = forms.preference({"prompt": "Why?", "chosen": chosen, "rejected": rejected})
    assert pair.conversation == (Message("system", "Be brief."), *QUESTION)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (hh_row("Why?", "Yes", " Yes  "), "chosen equals rejected"),
        ({"prompt": "Why?", "chosen": "Yes\n", "rejected": "Yes"}, "chosen equals rejected"),
        ({"chosen": hh_row("Why?")["chosen"], "rejected": hh_row("What?")["rejected"]}, "different conversations"),
        ({"chosen": "\n\nHuman: Why?", "rejected": "\n\nHuman: Why?"}, "does not end with an assistant turn"),
        ({"chosen": "\n\nHuman: Why?\n\nHuman: Why?\n\nAssistant: x", "rejected": "x"}, "do not take turns"),
        (hh_row("Why?", "Yes", ""), "an empty turn"),
        ({"chosen": "Yes", "rejected": "No"}, "must be transcripts"),
        ({"prompt": "Why?", "chosen": "Yes", "rejected": messages("Why?", "No")}, "different kinds"),
        ({"prompt": "What?", "chosen": messages("Why?", "a"), "rejected": messages("Why?", "b")}, "not a part"),
        ({"prompt": "Why?", "chosen": "Yes", "rejected": "\ud800"}, "not valid Unicode"),
        ({"prompt": messages("Why?", "a"), "chosen": "Yes", "rejected": "No"}, "does not end with a user turn"),
        ({"prompt": 3, "chosen": "Yes", "rejected": "No"}, "not a list of messages"),
    ],
)
def test_reasons_for_which_a_pair_is_malformed(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(forms.MalformedRowError, match=reason):
        forms.preference(row)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([], "not a list of messages"),
        ("Why?", "not a list of messages"),
        (messages("Why?"), "does not end with an assistant turn"),
        ([{"role": "user"}], "without role or content"),
        ([{"role": "robot", "content": "x"}], "a role other than"),
        ([{"role": "system", "content": "x"}], "a system message and nothing else"),
        ([{"role": "user", "content": None}, {"role": "assistant", "content": "x"}], "not text"),
        (messages("Why?", " "), "an empty turn"),
        (messages("Why?", "Because.")[::-1], "do not take turns"),
    ],
)
def test_reasons_for_which_a_demonstration_is_malformed(value: Any, reason: str) -> None:
    with pytest.raises(forms.MalformedRowError, match=reason):
        forms.demonstration({"messages": value})


def test_a_row_without_any_accepted_form_is_told_apart() -> None:
    for read in (forms.demonstration, forms.preference, forms.prompt, forms.document):
        with pytest.raises(forms.WrongColumnsError):
            read({"other": "x", "chosen": None})


def test_a_question_of_two_turns() -> None:
    row = {"question_id": 81, "category": "writing", "turns": ["Write.", "Rewrite."]}
    assert forms.prompt(row) == Prompt("81", ("Write.", "Rewrite."), cluster="81", category="writing")


@pytest.mark.parametrize(
    "row", [{"prompt": "Why?"}, {"instruction": "Why?"}, {"data": "Why?"}, {"messages": messages("Why?", "Because.")}]
)
def test_a_question_of_one_turn(row: dict[str, Any]) -> None:
    prompt = forms.prompt(row | {"class": " Odd ", "cluster": "puzzles"})
    assert prompt == Prompt(forms.conversation_key(QUESTION), ("Why?",), cluster="puzzles", category="Odd")


def test_earlier_turns_become_the_context_of_a_prompt() -> None:
    prompt = forms.prompt({"messages": messages("Why?", "Because.", "Really?"), "prompt": "Why?", "prompt_id": "p"})
    assert prompt == Prompt("p", ("Really?",), (*QUESTION, Message("assistant", "Because.")), cluster="p")


def test_questions_are_the_same_whatever_their_case_and_white_space_and_what_follows() -> None:
    longer = (Message("system", "x"), Message("user", " why?\n"), Message("assistant", "a"), Message("user", "b"))
    assert forms.question_key(longer) == forms.question_key(QUESTION)
    assert forms.conversation_key(longer) != forms.conversation_key(QUESTION)


def test_a_transcript_reads_as_text() -> None:
    assert forms.transcript((*QUESTION, Message("assistant", "Because."))) == "User: Why?\n\nAssistant: Because."
