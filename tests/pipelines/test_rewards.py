"""Rewards of a stage, and published reward models: what is measured of them, and how they read what policies write."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from pipelines import preflight
from pipelines.adapters import Models
from pipelines.experiment import build as plan
from pipelines.plan import Stage
from pipelines.replies import SampledReply
from pipelines.rewards import reward_sum
from pipelines.scoring import POLICY_TOKENIZER, Answers, TextReader, TokenReader, load_scorer, reads_text
from pipelines.stages import align, reward, rule
from pipelines.stages.preferences import HELDOUT
from pipelines.work import Work
from salsa.data.chat import decode_replies, encode_prompts, set_chat_template, train_bpe
from salsa.data.conversation import Prompt
from salsa.models import families
from salsa.models.architecture import Architecture
from salsa.models.heads import reward_from_causal
from salsa.models.sequences import pack
from salsa.models.source import UnavailableModelError
from salsa.rl.rewards import RewardSum
from salsa.rl.settings import PPOSettings
from salsa.rl.text_rewards import RewardModelError
from tests.pipelines.compose import config
from tests.pipelines.folders import at_paper_scale, sets, weights
from tests.pipelines.stage_work import language_model, planned, reward_model, work, zoo_tokenizer

SMALL = ("reward.normaliser_replies=8", "preferences.heldout=6", "base.context=64", "generation.max_new_tokens=8")
SIZES = Architecture("llama2", 16, 2, 4, 4, 4, 24, 128, None, True, 0.1)


def published(folder: Path, tokenizer: Any, context: int = 512, labels: int = 1) -> Path:
    """Write a reward model as others publish it."""
    model = reward_from_causal(families.build(SIZES, tokenizer, 7), 11)
    model.config.max_position_embeddings = context
    if labels != 1:
        model.config.num_labels = labels
        model = AutoModelForSequenceClassification.from_config(model.config)
    families.save(model, tokenizer, folder)
    return folder


def own_tokenizer() -> Any:
    tokenizer = train_bpe(["the fox eats a little at dusk"] * 3, 280)
    set_chat_template(tokenizer, "plain")
    return tokenizer


def stage(name: str, model: Path | str, *overrides: str) -> Stage:
    return planned(name, f"reward.name={model}", *SMALL, *overrides)


def measured(model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    """Run the stage of a published reward model, on pairs and replies that are made by hand."""
    tokenizer = zoo_tokenizer()
    normaliser = language_model(folder / "sft", 1)
    words = encode_replies(tokenizer)
    done = work(stage("reward", model), {"normaliser": normaliser}, folder)
    prompts = done.source.prompts(done.rng("held-out preference prompts"), 6)
    ids = encode_prompts(tokenizer, [prompt.conversation() for prompt in prompts])
    rows = [
        {"prompt": row, "chosen": words[i], "rejected": words[i + 1], "gold": [1.0 + i, 0.0], "cluster": "c"}
        for i, row in enumerate(ids[1:])
    ]
    (folder / "pairs").mkdir()
    (folder / "pairs" / HELDOUT).write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = work(done.stage, {"normaliser": normaliser, "preferences": folder / "pairs"}, folder)

    def sample(*given: Any) -> list[SampledReply]:
        texts = decode_replies(tokenizer, words)
        return [SampledReply(words[i % 5], texts[i % 5], texts[i % 5], i != 2) for i in range(len(given[3]))]

    monkeypatch.setattr(reward, "sample_replies", sample)
    says, metrics = reward.run(done)
    assert "published, not trained" in says
    assert metrics["normaliser_replies"] == 7
    return done


def encode_replies(tokenizer: Any) -> list[list[int]]:
    """Return some replies of the embedded world's words, with their ends."""
    vocabulary = sorted(tokenizer.get_vocab().values())[10:]
    return [[*vocabulary[3 * i : 4 * i + 2], tokenizer.eos_token_id] for i in range(8)]


def by_hand(model: Path, rows: list[list[int]]) -> list[float]:
    loaded = AutoModelForSequenceClassification.from_pretrained(model)
    with torch.no_grad():
        return [float(loaded(input_ids=torch.tensor([row])).logits[0, 0]) for row in rows]


def pairs_of(done: Work) -> list[dict[str, Any]]:
    return done.inputs["preferences"].lines(HELDOUT)


# --- published, with the policy's tokenizer ---------------------------------------------------------------------------


def test_a_published_model_with_the_policys_tokenizer_is_given_its_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = published(tmp_path / "model", zoo_tokenizer())
    done = measured(model, tmp_path, monkeypatch)
    kept = json.loads((done.folder / "reward.json").read_text())
    assert kept["reads"] == "tokens"
    assert {path.name for path in done.folder.iterdir()} == {"pointer.json", "reward.json"}
    pairs = pairs_of(done)
    sides = [by_hand(model, [pair["prompt"] + pair[side] for pair in pairs]) for side in ("chosen", "rejected")]
    assert kept["margins"] == pytest.approx([one - other for one, other in zip(*sides, strict=True)], abs=1e-4)
    assert kept["correlation"] is not None
    scorer = load_scorer(judging(done), "reward")
    assert isinstance(scorer.reader, TokenReader)


def judging(done: Work) -> Work:
    return work(planned("judge SALSA: single"), {"reward": done.folder}, done.folder.parent / "judge")


def test_a_context_that_is_too_short_for_the_policys_prompts_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = published(tmp_path / "model", zoo_tokenizer(), context=32)
    with pytest.raises(RewardModelError, match=r"reward\.name=.*reads at most 32 tokens; use base\.context=32"):
        measured(model, tmp_path, monkeypatch)


# --- published, with another tokenizer --------------------------------------------------------------------------------


@pytest.fixture
def through_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Work]:
    model = published(tmp_path / "model", own_tokenizer())
    return model, measured(model, tmp_path, monkeypatch)


def as_the_library_reads(model: Path, chats: list[list[dict[str, str]]]) -> list[float]:
    tokenizer = AutoTokenizer.from_pretrained(model)
    return by_hand(model, [tokenizer.apply_chat_template(chat, return_dict=True)["input_ids"] for chat in chats])


def test_a_published_model_with_another_tokenizer_reads_text(through_text: tuple[Path, Work]) -> None:
    model, done = through_text
    kept = json.loads((done.folder / "reward.json").read_text())
    assert kept["reads"] == "text"
    assert (done.folder / POLICY_TOKENIZER / "tokenizer.json").is_file()
    policy = zoo_tokenizer()
    asked = done.source.prompts(done.rng("held-out preference prompts"), 6)[1:]
    sides = []
    for side in ("chosen", "rejected"):
        replies = decode_replies(policy, [pair[side] for pair in pairs_of(done)])
        chats = [chat(prompt, reply) for prompt, reply in zip(asked, replies, strict=True)]
        sides.append(as_the_library_reads(model, chats))
    assert kept["margins"] == pytest.approx([one - other for one, other in zip(*sides, strict=True)], abs=1e-4)


def chat(prompt: Prompt, reply: str) -> list[dict[str, str]]:
    said = [{"role": message.role, "content": message.content} for message in prompt.conversation()]
    return [*said, {"role": "assistant", "content": reply}]


def test_answers_are_scored_as_text_turn_after_turn(through_text: tuple[Path, Work]) -> None:
    model, done = through_text
    scorer = load_scorer(judging(done), "reward")
    assert isinstance(scorer.reader, TextReader)
    policy, words = zoo_tokenizer(), encode_replies(zoo_tokenizer())
    first, second = decode_replies(policy, words[2:4])
    prompt = Prompt("1", ("what ?", "why ?"))
    conversations = [prompt.conversation(), prompt.conversation((first,))]
    ids = [[1, 5], [1, 5, 6]]
    answers = Answers([prompt], [(f"<user> {first}", second)], [(True, True)], ids, words[2:4])
    chats = [
        [{"role": said.role, "content": said.content} for said in conversation]
        + [{"role": "assistant", "content": reply}]
        for conversation, reply in zip(conversations, (f"<user> {first}", second), strict=True)
    ]
    raw = as_the_library_reads(model, chats)
    assert scorer.reader.raw(answers).tolist() == pytest.approx(raw, abs=1e-4)
    unit = json.loads((done.folder / "reward.json").read_text())
    expected = [(score - unit["mean"]) / unit["std"] for score in raw]
    assert scorer.scores(answers) == pytest.approx([sum(expected) / 2], abs=1e-3)


def test_a_training_is_rewarded_as_text_and_only_prompts_that_fit_are_accepted(
    through_text: tuple[Path, Work], tmp_path: Path
) -> None:
    model, done = through_text
    policy, words = zoo_tokenizer(), encode_replies(zoo_tokenizer())
    training = work(stage("align SALSA", model), {"reward": done.folder}, tmp_path / "align")
    prompts = done.source.prompts(done.rng("held-out preference prompts"), 6)[:2]
    ids = encode_prompts(policy, [prompt.conversation() for prompt in prompts])
    total = reward_sum(training, policy, prompts, ids)
    assert isinstance(total, RewardSum)
    rewards = total.rewards(pack(ids, words[1:3], policy.pad_token_id), torch.tensor([True, False])).tolist()
    unit = json.loads((done.folder / "reward.json").read_text())
    (raw,) = as_the_library_reads(model, [chat(prompts[0], decode_replies(policy, words[1:2])[0])])
    assert rewards == pytest.approx([(raw - unit["mean"]) / unit["std"], -1.0], abs=1e-3)
    long = [Prompt("long", ("what " * 600,))]
    with pytest.raises(
        RewardModelError, match=r"reward\.name: 1 of 1 prompts with 8 tokens a reply .* 512 tokens; lower"
    ):
        reward_sum(training, policy, long, [[1]])


def test_a_critic_cannot_start_from_a_model_with_another_tokenizer(through_text: tuple[Path, Work]) -> None:
    model, done = through_text
    training = work(stage("align SALSA", model), {"reward": done.folder}, done.folder.parent / "align")
    assert reads_text(training.inputs["reward"])
    with pytest.raises(RewardModelError, match=r"policy\.critic=reward: .* use policy\.critic=sft"):
        align._critic(training, PPOSettings(), Models(None, None))


def test_another_tokenizer_without_a_chat_template_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = own_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(
        RewardModelError, match=r"reward\.name=.*: the reward model's tokenizer is not .* no chat template"
    ):
        measured(published(tmp_path / "model", tokenizer), tmp_path, monkeypatch)


# --- refused before anything runs -------------------------------------------------------------------------------------


def test_a_classifier_of_several_classes_is_no_reward_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = published(tmp_path / "model", zoo_tokenizer(), labels=3)
    (found,) = preflight.problems(config(f"reward.name={model}"))
    assert f"reward.name: {model} holds a classifier of 3 classes" in found
    with pytest.raises(UnavailableModelError, match="a classifier of 3 classes, not a reward model"):
        measured(model, tmp_path, monkeypatch)


def test_a_language_model_is_no_reward_model(tmp_path: Path) -> None:
    (found,) = preflight.problems(config(f"reward.name={language_model(tmp_path / 'lm', 0)}"))
    assert "holds LlamaForCausalLM, not a sequence classifier with one label" in found
    two = published(tmp_path / "two", zoo_tokenizer(), labels=2)
    (found,) = preflight.problems(config(f"reward.name={two}"))
    assert "a classifier of 2 classes" in found
    assert preflight.problems(config(f"reward.name={published(tmp_path / 'model', zoo_tokenizer())}")) == []


def test_a_folder_that_is_not_there_is_named_with_its_key() -> None:
    with pytest.raises(FileNotFoundError, match=re.escape("reward.name: no folder ./nowhere")):
        plan(config("reward.name=./nowhere"), {})


# --- plan -------------------------------------------------------------------------------------------------------------


def test_a_published_model_is_known_by_its_files_and_is_not_trained(tmp_path: Path) -> None:
    model = published(tmp_path / "model", zoo_tokenizer())
    moved = Path(shutil.copytree(model, tmp_path / "moved"))
    trained, here, there = planned("reward"), stage("reward", model), stage("reward", moved)
    assert here.fingerprint == there.fingerprint != trained.fingerprint
    assert "start" not in here.inputs
    assert stage("reward", model, "reward.steps=7", "reward.batch=3").fingerprint == here.fingerprint
    (moved / "config.json").write_text((moved / "config.json").read_text() + "\n")
    assert stage("reward", moved).fingerprint != here.fingerprint
    assert stage("align SALSA", moved).fingerprint != stage("align SALSA", model).fingerprint


def test_the_judge_is_trained_all_the_same(tmp_path: Path) -> None:
    given = at_paper_scale(weights(tmp_path / "weights"), sets(tmp_path / "sets"), "reward.name=someone/model")
    stages = {each.name: each for each in plan(given, {}).plan}
    assert stages["reward"].config["published"]["name"] == "someone/model"
    assert "steps" in stages["reward_judge"].config
    assert "start" in stages["reward_judge"].inputs


# --- rules ------------------------------------------------------------------------------------------------------------

BRIEF = "policy.rewards.rules.brief={_target_: tests.rules.brief, weight: .5, normalise: true}"


def unit_of(target: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    texts = ["a b c", "a", "a b", "c"]
    made = [SampledReply([7, 2], text, f"<user> {text}", text != "c") for text in texts]
    monkeypatch.setattr(reward, "sample_replies", lambda *given: made[: len(given[3])])
    given = BRIEF.replace("tests.rules.brief", target)
    inputs = {"normaliser": language_model(folder / "sft", 0)}
    done = work(planned("rule brief", given, "reward.normaliser_replies=4"), inputs, folder)
    rule.run(done)
    found: dict[str, Any] = json.loads((done.folder / "rule.json").read_text())
    return found


def test_the_unit_of_a_rule_is_measured_on_sft1s_finished_replies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = unit_of("tests.rules.brief", tmp_path, monkeypatch)
    assert found == {"mean": -2.0, "std": 1.0, "normaliser_replies": 3, "normaliser_finished": True}


def test_a_rule_that_values_all_alike_cannot_be_normalised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    says = (
        "policy.rewards.rules.brief gives every reply of SFT1 the same value; use policy.rewards.rules.brief.normalise"
    )
    with pytest.raises(ValueError, match=re.escape(says)):
        unit_of("tests.rules.constant", tmp_path, monkeypatch)


def test_a_stages_rewards_are_its_weighted_terms(tmp_path: Path) -> None:
    given = ("policy.rewards.length=-.1", "policy.rewards.end=2", "policy.missing_end_score=null")
    (tmp_path / "unit").mkdir()
    (tmp_path / "unit" / "rule.json").write_text('{"mean": -2.0, "std": 4.0}')
    inputs = {"reward": reward_model(tmp_path / "reward", 3), "rule_brief": tmp_path / "unit"}
    done = work(planned("align SALSA", BRIEF, *given), inputs, tmp_path / "work")
    tokenizer = zoo_tokenizer()
    prompts = done.source.prompts(done.rng("any"), 2)
    ids = encode_prompts(tokenizer, [prompt.conversation() for prompt in prompts])
    words = encode_replies(tokenizer)[2:4]
    sequences, ended = pack(ids, words, tokenizer.pad_token_id), torch.tensor([True, False])
    total = reward_sum(done, tokenizer, prompts, ids)
    terms = total.terms(sequences, ended)
    assert list(terms) == ["model", "length", "end", "brief"]
    assert terms["length"].tolist() == pytest.approx([-0.1 * len(row) for row in words])
    assert terms["end"].tolist() == [2.0, 0.0]
    counts = [len(text.split()) for text in decode_replies(tokenizer, words)]
    assert terms["brief"].tolist() == pytest.approx([0.5 * (2 - count) / 4 for count in counts])
    assert terms["model"].tolist() == pytest.approx(
        by_hand(tmp_path / "reward", [prompt + reply for prompt, reply in zip(ids, words, strict=True)]), abs=1e-4
    )
    torch.testing.assert_close(total.rewards(sequences, ended), sum(terms.values()))
