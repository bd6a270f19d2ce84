from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from salsa.report import samples
from tests.report import factory


def test_twenty_prompts_are_shared_out_evenly_over_suites_and_spaced_within() -> None:
    chosen = factory.experiment()["samples"]
    assert [sample["suite"] for sample in chosen] == [suite for suite in factory.SUITES for _ in range(5)]
    assert [sample["prompt_id"] for sample in chosen[:5]] == [f"single-{number:03d}" for number in (6, 18, 30, 42, 54)]
    assert all(list(sample["replies"]) == [model[0] for model in factory.MODELS] for sample in chosen)


def test_the_choice_does_not_look_at_replies_or_scores() -> None:
    scores = factory.evidence().scores
    other = {
        name: {
            suite: [replace(reply, judge=-1.0, replies=("x",)) for reply in given] for suite, given in suites.items()
        }
        for name, suites in scores.items()
    }
    names = list(scores)
    first, second = (samples.choose(names, factory.SUITES, given) for given in (scores, other))
    assert [sample["prompt_id"] for sample in first] == [sample["prompt_id"] for sample in second]


@given(st.lists(st.integers(0, 12), min_size=1, max_size=4), st.integers(1, 20))
def test_no_prompt_comes_twice_and_no_more_come_than_there_are(sizes: list[int], count: int) -> None:
    suites = factory.SUITES[: len(sizes)]
    scores = {"SFT1": {suite: factory.replies("SFT1", suite, size) for suite, size in zip(suites, sizes, strict=True)}}
    chosen = [sample["prompt_id"] for sample in samples.choose(["SFT1"], suites, scores, count)]
    assert len(chosen) == len(set(chosen)) <= min(count, sum(sizes))
    if min(sizes) >= count:
        assert len(chosen) == count


def test_markdown_shows_every_reply_beside_its_score() -> None:
    experiment = factory.experiment()
    sample = experiment["samples"][0]
    sample["question"] = "is a | b ?\n<i>"
    sample["replies"]["SFT1"] = {"text": "*loud* | <b>", "judge": 0.5, "ended": False}
    sample["replies"]["SFT2"] = {"text": " ", "judge": None, "ended": True}
    del sample["replies"]["PPO"]
    text = samples.markdown(experiment)
    assert "> is a \\| b ?<br>\n> &lt;i&gt;\n" in text
    assert "| SFT1 | 0.50 | \\*loud\\* \\| &lt;b&gt; ✂ |" in text
    assert "| SFT2 | missing | (empty) |" in text
    assert "| PPO | missing | missing |" in text
    assert text.count("\n## ") == 20
    two_turns = experiment["samples"][5]["replies"]["SFT1"]["text"]
    assert two_turns.startswith("turn 1: ")
    assert "\nturn 2: " in two_turns
    assert two_turns.replace("\n", "<br>") in text


def test_long_and_nonsensical_texts_are_cut_and_made_visible() -> None:
    experiment = factory.experiment()
    sample = experiment["samples"][0]
    sample["question"] = "\n".join(["begin", "- a | b", *["word " * 20] * 50, "1. end ?"])
    sample["replies"]["SFT1"] = {"text": "\x1b[31mred\x00 \u202e \ufffd" + "x" * 2000, "judge": 0.5, "ended": True}
    text = samples.markdown(experiment)
    question = text[text.index("> begin") :].split("\n\n")[0]
    assert "> \\- a \\| b<br>" in question
    assert "characters left out…" in question
    assert question.endswith("> &#49;. end ?")
    assert len(question) < 1500
    reply = next(line for line in text.splitlines() if line.startswith("| SFT1 "))
    assert "\\\\x1b\\[31mred\\\\x00 \\\\u202e \ufffdxxx" in reply
    assert "characters left out…" in reply
    assert len(reply) < 1000


def test_the_flat_table_has_a_reply_and_a_score_for_each_model() -> None:
    experiment = factory.experiment()
    del experiment["samples"][0]["replies"]["PPO"]
    header, lines = samples.columns(experiment)
    assert header[:4] == ["suite", "question", "SFT1", "SFT1 score"]
    assert all(len(line) == len(header) for line in lines)
    assert len(lines) == 20
    at = header.index("PPO")
    assert lines[0][at : at + 2] == [None, None]
    assert lines[1][at + 1] == experiment["samples"][1]["replies"]["PPO"]["judge"]
