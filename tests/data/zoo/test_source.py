import os
import subprocess
import sys
from collections.abc import Iterable
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salsa.data.conversation import Conversation, Prompt
from salsa.data.source import Source
from salsa.data.zoo.language import WORDS
from salsa.data.zoo.questions import question_of
from salsa.data.zoo.source import ZooSource
from salsa.data.zoo.world import UNSEEN_ANIMALS

ZOO = ZooSource()


def spoken(conversations: Iterable[Conversation]) -> set[str]:
    return {word for messages in conversations for message in messages for word in message.content.split()}


def python(code: str, **variables: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **variables}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return done.stdout


def perfect(source: ZooSource, needs: list[list[str]]) -> str:
    verbs = {"colour": "is", "food": "eats", "home": "lives in", "skill": "can"}
    return " ".join(f"the {a} {verbs[b]} {source.world.facts[a, b]} ." for a, b in needs)


def test_it_is_a_source_named_zoo() -> None:
    source: Source = ZOO
    assert source.chat == "zoo"
    assert source.words == WORDS
    assert source.suites == ("single", "two_turn", "hard", "unseen", "validation")
    assert source.pairs("train") is None


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 2**31))
def test_every_text_is_made_of_known_words(seed: int, stream: int) -> None:
    source, rng = ZooSource(seed), np.random.default_rng(stream)
    texts = (
        source.corpus(rng, 2000)
        + source.heldout_text(100)
        + [text for probe in source.recall_probes() for text in probe]
    )
    words = {word for text in texts for word in text.split()}
    words |= spoken(source.demonstrations(rng, 200))
    prompts = source.prompts(rng, 200) + [prompt for name in source.suites for prompt in source.suite(name, 100)]
    words |= spoken(prompt.conversation() for prompt in prompts)
    words |= {word for prompt in prompts for question in prompt.questions for word in question.split()}
    assert words <= set(WORDS)


def test_equal_generators_give_equal_data_and_others_other_data() -> None:
    def everything(source: ZooSource, stream: int) -> list[object]:
        rng = np.random.default_rng(stream)
        return [source.corpus(rng, 500), source.demonstrations(rng, 20), source.prompts(rng, 20)]

    assert everything(ZOO, 1) == everything(ZooSource(0), 1)
    assert everything(ZOO, 1) != everything(ZOO, 2)
    assert ZOO.heldout_text(10) == ZooSource(0).heldout_text(10)
    assert ZooSource(1).heldout_text(10) != ZOO.heldout_text(10)
    assert ZOO.suite("single", 5) == ZooSource(0, (1.0, 0.0, 0.0, 0.0)).suite("single", 50)[:5]


def test_data_do_not_depend_on_the_process() -> None:
    code = (
        "import numpy as np; from salsa.data.zoo.source import ZooSource\n"
        "z, r = ZooSource(), np.random.default_rng(0)\n"
        "print([z.suite('hard', 3), z.demonstrations(r, 3), z.corpus(r, 50), z.heldout_text(2)])"
    )
    rng = np.random.default_rng(0)
    here = str([ZOO.suite("hard", 3), ZOO.demonstrations(rng, 3), ZOO.corpus(rng, 50), ZOO.heldout_text(2)])
    for hash_seed in ("1", "2"):
        assert python(code, PYTHONHASHSEED=hash_seed).strip() == here


def test_importing_the_zoo_needs_no_torch() -> None:
    code = "import sys, salsa.data.zoo.source; assert not {'torch', 'transformers'} & set(sys.modules)"
    python(code)


def test_unseen_animals_are_only_in_pre_training_text_and_their_suite() -> None:
    rng = np.random.default_rng(0)
    unseen = set(UNSEEN_ANIMALS)
    assert not spoken(ZOO.demonstrations(rng, 2000)) & unseen
    assert not spoken(prompt.conversation() for prompt in ZOO.prompts(rng, 2000)) & unseen
    for name in ("single", "two_turn", "hard", "validation"):
        words = {word for p in ZOO.suite(name, 480) for question in p.questions for word in question.split()}
        assert not words & unseen
    assert all(set(prompt.questions[0].split()) & unseen for prompt in ZOO.suite("unseen", 480))
    assert unseen <= {word for text in ZOO.corpus(rng, 20_000) for word in text.split()}


def test_training_conversations_are_in_no_suite() -> None:
    rng = np.random.default_rng(1)
    suites = {prompt.questions[:n] for name in ZOO.suites for prompt in ZOO.suite(name, 480) for n in (1, 2)}
    conversations = ZOO.demonstrations(rng, 3000) + [prompt.conversation() for prompt in ZOO.prompts(rng, 3000)]
    for messages in conversations:
        said = tuple(message.content for message in messages if message.role == "user")
        assert suites.isdisjoint(said[:n] for n in range(1, len(said) + 1))


def test_conversations_alternate_and_end_as_stated() -> None:
    rng = np.random.default_rng(2)
    for messages in ZOO.demonstrations(rng, 200):
        assert [m.role for m in messages] == ["user", "assistant"] * (len(messages) // 2)
    prompts = ZOO.prompts(rng, 2000)
    assert len({prompt.id for prompt in prompts}) == 2000
    assert {len(prompt.context) for prompt in prompts} == {0, 2}
    follow_ups = sum(len(prompt.context) == 2 for prompt in prompts)
    assert abs(follow_ups - 500) < 4.5 * np.sqrt(2000 * 0.1875)
    for prompt in prompts:
        assert len(prompt.questions) == 1
        assert [m.role for m in prompt.conversation()] == ["user", "assistant", "user"][-len(prompt.context) - 1 :]


def test_one_author_answers_both_turns_and_the_mix_sets_who() -> None:
    rng = np.random.default_rng(3)
    careful = ZooSource(0, (1.0, 0.0, 0.0, 0.0)).demonstrations(rng, 400)
    terse = ZooSource(0, (0.0, 1.0, 0.0, 0.0)).demonstrations(rng, 400)
    greetings = ("hello friend .", "welcome to", "what a good", "i am happy")

    def greeted(messages: Conversation) -> list[bool]:
        plain = zip(messages[::2], messages[1::2], strict=True)
        return [reply.content.startswith(greetings) for asked, reply in plain if "be brief" not in asked.content]

    assert np.mean(list(chain.from_iterable(map(greeted, careful)))) > 0.7
    assert np.mean(list(chain.from_iterable(map(greeted, terse)))) < 0.2
    # With half careful and half terse people, the two turns of a conversation agree more often than chance has it.
    mixed = [greeted(c) for c in ZooSource(0, (0.5, 0.5, 0.0, 0.0)).demonstrations(rng, 6000)]
    both = np.array([turns for turns in mixed if len(turns) == 2], dtype=float)
    assert np.corrcoef(both.T)[0, 1] == pytest.approx(0.35**2 / (0.45 * 0.55), abs=0.15)


def test_suites_give_their_first_prompts_or_all_they_have() -> None:
    assert ZOO.suite("hard", 7) == ZOO.suite("hard", 400)[:7]
    assert ZOO.suite("hard", 0) == []
    assert ZOO.suite("hard", 600) == ZOO.suite("hard", 480)
    assert len(ZOO.suite("hard", 600)) == 480
    with pytest.raises(ValueError, match="ask for 0 or more"):
        ZOO.suite("hard", -1)
    with pytest.raises(ValueError, match=r"'easy' is unknown; the zoo has single, two_turn"):
        ZOO.suite("easy", 1)


def test_gold_is_the_mean_over_the_turns() -> None:
    for name in ZOO.suites:
        for prompt in ZOO.suite(name, 40):
            assert prompt.query is not None
            turns = prompt.query["turns"]
            replies = tuple(perfect(ZOO, turn["needs"]) for turn in turns)
            best = np.mean([2.6 if turn["brief"] else 2.0 for turn in turns])
            assert ZOO.gold(prompt, replies, (True,) * len(turns)) == pytest.approx(best)
            unended = (True,) * (len(turns) - 1) + (False,)
            assert ZOO.gold(prompt, replies, unended) == pytest.approx(best - 1 / len(turns))
            assert all(part.covered == part.needed for part in ZOO.gold_parts(prompt, replies, unended))


def test_gold_judges_the_question_of_a_training_prompt_not_its_context() -> None:
    prompt = next(p for p in ZOO.prompts(np.random.default_rng(0), 100) if p.context and p.query)
    assert prompt.query is not None
    assert len(prompt.query["turns"]) == 1
    assert ZOO.gold(prompt, (perfect(ZOO, prompt.query["turns"][0]["needs"]),), (True,)) in (2.0, 2.6)


def test_gold_of_foreign_prompts_and_of_missing_replies() -> None:
    foreign = Prompt(id="x", questions=("why ?",))
    assert ZOO.gold(foreign, ("so .",), (True,)) is None
    with pytest.raises(ValueError, match="'x' has no query"):
        ZOO.gold_parts(foreign, ("so .",), (True,))
    with pytest.raises(ValueError, match="2 turns need"):
        ZOO.gold(ZOO.suite("two_turn", 1)[0], ("so .",), (True,))


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="seed -1"):
        ZooSource(-1)
    with pytest.raises(ValueError, match="sum to 1"):
        ZooSource(0, (0.1, 0.1, 0.1, 0.1))


def test_heldout_demonstrations_are_fixed_and_answer_what_training_never_asks() -> None:
    held = ZOO.heldout_demonstrations(50)
    assert held == ZooSource().heldout_demonstrations(50)
    assert held[:10] == ZOO.heldout_demonstrations(10)
    suite = ZOO.suite("validation", 50)
    assert [conversation[0].content for conversation, _ in held] == [prompt.questions[0] for prompt in suite]
    assert [cluster for _, cluster in held] == [prompt.cluster for prompt in suite]
    trained = {turns[0].content for turns in ZOO.demonstrations(np.random.default_rng(0), 3000)}
    assert trained.isdisjoint(conversation[0].content for conversation, _ in held)
    assert all(conversation[-1].role == "assistant" for conversation, _ in held)
    assert spoken(conversation for conversation, _ in held) <= set(WORDS)


def test_a_question_is_read_back_from_its_prompt() -> None:
    """With the facts in the order in which they are asked for: that is the order of an author's answer."""
    for prompt in ZOO.suite("validation", 480):
        question = question_of(prompt)
        assert question.text == prompt.questions[0]
        assert prompt.query == {"turns": [question.query()]}
