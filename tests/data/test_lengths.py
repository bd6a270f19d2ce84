"""What does not fit is left out, counted and said."""

import pytest

from salsa.data.chat import encode_conversation, encode_prompts, set_chat_template, word_tokenizer
from salsa.data.conversation import Message, Pair, Prompt
from salsa.data.lengths import fit_conversations, fit_pairs, fit_prompts
from salsa.data.rows import DataError

TOKENIZER = word_tokenizer(("a", "b"))
set_chat_template(TOKENIZER, "zoo")


def words(count: int) -> str:
    return " ".join(["a"] * count)


def test_prompts_leave_room_for_the_reply() -> None:
    prompts = [Prompt(str(n), (words(n),)) for n in (5, 7, 6)]
    # <bos> <user> ... <guide> makes three tokens more, and the reply four.
    fitting = fit_prompts(TOKENIZER, prompts, context=13, max_new=4)
    assert [prompt.id for prompt in fitting.kept] == ["5", "6"]
    assert (fitting.indices, fitting.too_long, fitting.total, fitting.longest) == ((0, 2), 1, 3, 14)
    assert fitting.message("prompts") == (
        "1 of 3 prompts are longer than the context of 13 tokens (longest 14) and are left out"
    )


def test_every_turn_of_a_prompt_needs_room() -> None:
    prompt = Prompt("x", (words(2), words(3)))
    worst = prompt.conversation((words(4),))
    needed = len(encode_prompts(TOKENIZER, [worst])[0]) + 4
    assert len(fit_prompts(TOKENIZER, [prompt], needed, 4).kept) == 1
    with pytest.raises(DataError, match="none of 1 prompts"):
        fit_prompts(TOKENIZER, [prompt], needed - 1, 4)


def test_pairs_fit_with_their_longer_reply() -> None:
    question = (Message("user", "a"),)
    pairs = [Pair(question, words(1), words(5)), Pair(question, words(6), words(1)), Pair(question, "a", "b")]
    assert fit_pairs(TOKENIZER, pairs, 10).indices == (0, 2)


def test_conversations_fit_by_their_ids() -> None:
    conversation = (Message("user", "a"), Message("assistant", "b"))
    length = len(encode_conversation(TOKENIZER, [conversation], "all")[0][0])
    fitting = fit_conversations(TOKENIZER, [conversation], length)
    assert fitting.kept == (conversation,)
    assert (
        fitting.message("demonstrations")
        == f"all 1 demonstrations fit into the context of {length} tokens (longest {length})"
    )
    with pytest.raises(DataError, match=f"the shortest has {length}"):
        fit_conversations(TOKENIZER, [conversation], length - 1)
    assert fit_conversations(TOKENIZER, [], 1).kept == ()
