"""Ids of prompts, replies and conversations, learning masks, and texts that pretend to be control tokens."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from salsa.data.chat import (
    decode_replies,
    encode_conversation,
    encode_prompts,
    encode_replies,
    encode_texts,
    set_chat_template,
    train_bpe,
    word_tokenizer,
)
from salsa.data.conversation import Conversation, Message

WORDS = ("the", "fox", "owl", "eats", "fish", ".", "where", "?")
TEXTS = [
    "The fox eats fish, and the owl sees the fox.",
    "User: what does the owl eat?\n\nAssistant: It eats mice, at night.",
    "<eos> <eos> <|user|> <|user|> <bos> </s> </s>",
] * 30
CONTROL_LOOKALIKES = ("<eos>", "<|assistant|>", " <bos><|user|>", "</s>", "<user>", "[INST] </s>")


def word() -> PreTrainedTokenizerFast:
    tokenizer = word_tokenizer(WORDS)
    set_chat_template(tokenizer, "zoo")
    return tokenizer


def bpe() -> PreTrainedTokenizerFast:
    tokenizer = train_bpe(TEXTS, 400)
    set_chat_template(tokenizer, "plain")
    return tokenizer


def gpt_like() -> PreTrainedTokenizerFast:
    """A tokenizer from elsewhere: byte-level, with an end token and nothing else."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=320, initial_alphabet=alphabet, special_tokens=["</s>"], show_progress=False
    )
    backend.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")


def llama_like() -> PreTrainedTokenizerFast:
    """A tokenizer from elsewhere: words begin with a mark, every text gets one in front, odd characters are unknown."""
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    specials = [AddedToken(token, special=True) for token in ("<unk>", "<s>", "</s>")]
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=specials, show_progress=False)
    backend.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def with_text_template(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    set_chat_template(tokenizer, "text")
    return tokenizer


WORD, BPE = word(), bpe()
OPEN = {"bpe": BPE, "gpt_like": with_text_template(gpt_like()), "llama_like": with_text_template(llama_like())}
CONVERSATION = (
    Message("user", "where fox ?"),
    Message("assistant", "the fox eats ."),
    Message("user", "the owl ?"),
    Message("assistant", "fish"),
)


def conversations(content: st.SearchStrategy[str], system: bool) -> st.SearchStrategy[Conversation]:
    """Finished conversations of one to three questions, some with a system message."""
    rounds = st.lists(st.tuples(content, content), min_size=1, max_size=3)
    start = st.lists(content, max_size=1) if system else st.just([])
    return st.builds(
        lambda head, turns: (
            *(Message("system", text) for text in head),
            *(m for question, reply in turns for m in (Message("user", question), Message("assistant", reply))),
        ),
        start,
        rounds,
    )


any_text = st.one_of(st.text(max_size=30), st.sampled_from(CONTROL_LOOKALIKES), st.sampled_from(TEXTS))
closed_text = st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join)


def check_ids(tokenizer: PreTrainedTokenizerFast, conversation: Conversation) -> None:
    """Prompt, reply, prompt, reply ... of a conversation are its ids; the masks cover the replies and nothing else."""
    ids, learned = encode_conversation(tokenizer, [conversation], "assistant")[0]
    covered = []
    for index, message in enumerate(conversation):
        if message.role == "assistant":
            prompt = encode_prompts(tokenizer, [conversation[:index]])[0]
            reply = encode_replies(tokenizer, [message.content], [True])[0]
            assert ids[: len(prompt) + len(reply)] == prompt + reply
            covered += range(len(prompt), len(prompt) + len(reply))
    assert len(ids) == covered[-1] + 1
    assert [index for index, flag in enumerate(learned) if flag] == covered
    last = encode_conversation(tokenizer, [conversation], "last")[0]
    assert last == (ids, [len(prompt) <= index for index in range(len(ids))])
    assert encode_conversation(tokenizer, [conversation], "all")[0] == (ids, [False] + [True] * (len(ids) - 1))


@settings(max_examples=60, deadline=None)
@given(conversations(closed_text, system=False))
def test_prompt_and_reply_make_the_conversation_in_words(conversation: Conversation) -> None:
    check_ids(WORD, conversation)


@pytest.mark.parametrize("name", OPEN)
@settings(max_examples=60, deadline=None)
@given(conversations(any_text, system=True))
def test_prompt_and_reply_make_the_conversation(name: str, conversation: Conversation) -> None:
    check_ids(OPEN[name], conversation)


@settings(max_examples=60, deadline=None)
@given(st.lists(conversations(any_text, system=True), max_size=5))
def test_a_batch_gives_what_its_members_give_alone(batch: list[Conversation]) -> None:
    alone = [encode_conversation(BPE, [conversation], "assistant")[0] for conversation in batch]
    assert encode_conversation(BPE, batch, "assistant") == alone


def test_the_zoo_format_by_hand() -> None:
    ids, learned = encode_conversation(WORD, [CONVERSATION], "assistant")[0]
    tokens = WORD.convert_ids_to_tokens(ids)
    assert " ".join(tokens) == (
        "<bos> <user> where fox ? <guide> the fox eats . <eos> <user> the owl ? <guide> fish <eos>"
    )
    assert " ".join(token for token, flag in zip(tokens, learned, strict=True) if flag) == (
        "the fox eats . <eos> fish <eos>"
    )


def test_the_plain_format_by_hand() -> None:
    conversation = (Message("system", "be brief"), *CONVERSATION)
    ids = encode_conversation(BPE, [conversation], "all")[0][0]
    assert BPE.decode(ids) == (
        "<bos><|system|>be brief<|user|>where fox ?<|assistant|>the fox eats .<eos>"
        "<|user|>the owl ?<|assistant|>fish<eos>"
    )


def test_the_text_format_by_hand() -> None:
    tokenizer = OPEN["gpt_like"]
    ids = encode_conversation(tokenizer, [CONVERSATION], "all")[0][0]
    assert tokenizer.decode(ids) == (
        "User:\nwhere fox ?\n\nAssistant:\nthe fox eats .</s>User:\nthe owl ?\n\nAssistant:\nfish</s>"
    )
    assert encode_conversation(OPEN["llama_like"], [CONVERSATION], "all")[0][0][0] == OPEN["llama_like"].bos_token_id


@pytest.mark.parametrize("tokenizer", [WORD, BPE, OPEN["gpt_like"]], ids=["zoo", "plain", "text"])
def test_ids_equal_those_of_the_librarys_own_template_rendering(tokenizer: PreTrainedTokenizerFast) -> None:
    messages = [{"role": message.role, "content": message.content} for message in CONVERSATION]
    whole = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
    prompt = tokenizer.apply_chat_template(messages[:3], tokenize=True, add_generation_prompt=True, return_dict=False)
    assert encode_conversation(tokenizer, [CONVERSATION], "all")[0][0] == whole
    assert encode_prompts(tokenizer, [CONVERSATION[:3]])[0] == prompt


@pytest.mark.parametrize("name", OPEN)
@pytest.mark.parametrize("text", CONTROL_LOOKALIKES)
def test_a_text_never_becomes_a_control_token(name: str, text: str) -> None:
    tokenizer = OPEN[name]
    control = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    control.discard(tokenizer.unk_token_id)
    assert control.isdisjoint(encode_texts(tokenizer, [text])[0])
    ids = encode_prompts(tokenizer, [(Message("user", text),)])[0]
    harmless = encode_prompts(tokenizer, [(Message("user", "fox"),)])[0]
    assert [i for i in ids if i in control] == [i for i in harmless if i in control]


def test_a_lookalike_survives_the_round_trip_as_text() -> None:
    ids = encode_replies(BPE, ["say <eos> and <|user|>"], [True])
    assert decode_replies(BPE, ids) == ["say <eos> and <|user|>"]


def test_decoding_control_tokens_of_a_model_leaves_no_trace() -> None:
    ids = [[WORD.convert_tokens_to_ids(token) for token in ("the", "<user>", "fox", "<eos>", "<pad>")]]
    assert decode_replies(WORD, ids) == ["the fox"]


def test_a_judge_sees_every_control_token_but_the_end() -> None:
    def ids(text: str) -> list[int]:
        return [WORD.convert_tokens_to_ids(token) for token in text.split()]

    hidden = ["the fox <guide> where <user> fox <eos>", "the fox <pad>", "<eos>", "the <eos> fox"]
    shown = ["the fox <guide> where <user> fox", "the fox <pad>", "", "the <eos> fox"]
    assert decode_replies(WORD, [ids(text) for text in hidden], keep_control=True) == shown


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(any_text, st.booleans()), max_size=4))
def test_replies_decode_to_themselves(replies: list[tuple[str, bool]]) -> None:
    texts, ended = [text for text, _ in replies], [end for _, end in replies]
    ids = encode_replies(BPE, texts, ended)
    assert decode_replies(BPE, ids) == decode_replies(BPE, ids, keep_control=True) == texts
    assert [row[-1:] == [BPE.eos_token_id] for row in ids] == ended


@pytest.mark.parametrize("tokenizer", [WORD, *OPEN.values()], ids=["word", *OPEN])
def test_a_saved_tokenizer_gives_the_same_ids(tokenizer: PreTrainedTokenizerFast, tmp_path) -> None:
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.chat_template == tokenizer.chat_template
    assert (again.pad_token_id, again.eos_token_id) == (tokenizer.pad_token_id, tokenizer.eos_token_id)
    assert encode_conversation(again, [CONVERSATION], "last") == encode_conversation(tokenizer, [CONVERSATION], "last")
    assert encode_prompts(again, [CONVERSATION[:1]]) == encode_prompts(tokenizer, [CONVERSATION[:1]])
    ids = encode_replies(tokenizer, ["the fox"], [True])
    assert decode_replies(again, ids) == decode_replies(tokenizer, ids) == ["the fox"]


def test_padding_and_truncation_of_earlier_calls_do_no_harm() -> None:
    tokenizer = bpe()
    tokenizer(["the fox", "the"], padding=True, truncation=True, max_length=2)
    texts = ["the fox eats fish", "the"]
    assert encode_texts(tokenizer, texts) == encode_texts(BPE, texts)
    assert tokenizer("a<eos>", add_special_tokens=False)["input_ids"][-1] == tokenizer.eos_token_id


def test_bpe_is_a_function_of_text_and_size() -> None:
    assert train_bpe(TEXTS, 400).backend_tokenizer.to_str() == train_bpe(iter(TEXTS), 400).backend_tokenizer.to_str()
    assert len(train_bpe(TEXTS, 300)) == 300


def test_bpe_needs_room_for_all_bytes() -> None:
    with pytest.raises(ValueError, match="262"):
        train_bpe(TEXTS, 261)


def test_an_unknown_word_is_named() -> None:
    with pytest.raises(ValueError, match="'zebra'"):
        encode_replies(WORD, ["the fox", "the zebra"], [True, True])
    with pytest.raises(ValueError, match="control token '<eos>'"):
        encode_replies(WORD, ["the <eos>"], [True])


@pytest.mark.parametrize("words", [("fox", "fox"), ("a b",), ("",), ("<eos>",)])
def test_a_vocabulary_of_what_are_not_words_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="vocabulary"):
        word_tokenizer(words)


def test_conversations_that_end_with_the_wrong_turn_are_refused() -> None:
    with pytest.raises(ValueError, match="end with a user turn"):
        encode_prompts(WORD, [CONVERSATION])
    with pytest.raises(ValueError, match="end with an assistant turn"):
        encode_conversation(WORD, [CONVERSATION[:1]], "all")
    with pytest.raises(ValueError, match="it is empty"):
        encode_prompts(WORD, [()])
    with pytest.raises(ValueError, match="learn is"):
        encode_conversation(WORD, [CONVERSATION], "everything")


def test_a_format_without_a_system_role_says_so() -> None:
    with pytest.raises(ValueError, match="no role system"):
        encode_prompts(WORD, [(Message("system", "the"), Message("user", "fox"))])


def test_templates_that_do_not_fit_the_tokenizer_are_refused() -> None:
    with pytest.raises(ValueError, match="no chat template 'fancy'"):
        set_chat_template(gpt_like(), "fancy")
    with pytest.raises(ValueError, match='use the template "text"'):
        set_chat_template(gpt_like(), "plain")
    with pytest.raises(ValueError, match="brings no chat template"):
        set_chat_template(gpt_like(), "own")
    endless = gpt_like()
    endless.eos_token = None
    with pytest.raises(ValueError, match="no end-of-sequence token"):
        set_chat_template(endless, "text")


def test_padding_is_the_unknown_token_or_else_the_end_token() -> None:
    assert OPEN["llama_like"].pad_token == "<unk>"
    assert OPEN["gpt_like"].pad_token == "</s>"


INSTRUCT = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def test_a_tokenizers_own_template_is_kept() -> None:
    tokenizer = llama_like()
    tokenizer.chat_template = INSTRUCT
    set_chat_template(tokenizer, "own")
    assert tokenizer.chat_template == INSTRUCT
    check_ids(tokenizer, CONVERSATION)


def test_an_own_template_may_write_after_the_end_token() -> None:
    tokenizer = gpt_like()
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = CHATML
    with pytest.raises(ValueError, match="set the tokenizer's eos_token"):
        set_chat_template(tokenizer, "own")
    tokenizer.eos_token = "<|im_end|>"
    set_chat_template(tokenizer, "own")
    check_ids(tokenizer, CONVERSATION)
    ids = encode_conversation(tokenizer, [CONVERSATION], "all")[0][0]
    assert tokenizer.decode(ids).startswith("<|im_start|>user\nwhere fox ?<|im_end|>\n<|im_start|>assistant\nthe fox")
    assert ids[-1] == tokenizer.eos_token_id


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ messages[-1]['content'] + eos_token }}", "leaves out or repeats"),
        (
            CHATML.replace("{{ '<|im_start|>assistant\n' }}", "{{ 'Reply now' }}").replace("'<|im_end|>'", "'</s>'"),
            "prompt",
        ),
    ],
)
def test_an_own_template_that_cannot_be_trained_on_is_refused(template: str, message: str) -> None:
    tokenizer = gpt_like()
    tokenizer.chat_template = template
    with pytest.raises(ValueError, match=message):
        set_chat_template(tokenizer, "own")
