import json

import pytest

from benchmarks.peers import workload
from salsa.models.families import load_causal, load_scalar, load_tokenizer
from tests.benchmarks.worlds import publish

SIZES = {"vocabulary": 30, "hidden": 16, "layers": 1, "heads": 2, "prompt": 4, "max_new": 6}
SHAPE = {"batch": 4, "updates": 3, "epochs": 2, "minibatches": 2}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    return publish(tmp_path_factory.mktemp("outputs"))


def read(folder, name):
    return json.loads((folder / name).read_text())


def test_no_model_can_say_the_end_of_the_full_length_task(tmp_path):
    workload.full_length(tmp_path, **SHAPE, sizes=SIZES)
    settings, prompts = read(tmp_path, "settings.json"), read(tmp_path, "prompts.json")
    policy = load_causal(tmp_path / "policy")
    assert policy.config.vocab_size == SIZES["vocabulary"] <= min(settings["eos"], settings["pad"])
    tokenizer = load_tokenizer(tmp_path / "policy")
    assert (settings["eos"], settings["pad"]) == (tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert {len(prompt) for prompt in prompts} == {SIZES["prompt"]}
    assert len(prompts) == SHAPE["batch"] * SHAPE["updates"]
    assert (settings["epochs"], settings["minibatches"], settings["max_new"]) == (2, 2, 6)


def test_policy_and_reference_begin_alike_and_the_critic_at_zero(tmp_path):
    workload.full_length(tmp_path, **SHAPE, sizes=SIZES)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("policy", "reference")]
    assert weights[0] == weights[1]
    assert not load_scalar(tmp_path / "critic").score.weight.any()
    assert load_scalar(tmp_path / "reward").score.weight.any()


def test_the_natural_task_is_made_of_the_stores_models_and_the_worlds_prompts(outputs, tmp_path):
    workload.natural(tmp_path, outputs, **SHAPE)
    settings, prompts = read(tmp_path, "settings.json"), read(tmp_path, "prompts.json")
    tokenizer = load_tokenizer(tmp_path / "policy")
    assert (settings["eos"], settings["pad"]) == (tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert len(prompts) == SHAPE["batch"] * SHAPE["updates"]
    assert len({len(prompt) for prompt in prompts}) > 1
    assert not any(settings["pad"] in prompt for prompt in prompts)


def test_outputs_without_models_are_refused_with_the_command_that_makes_them(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no sft model; run `python run\.py outputs\.dir="):
        workload.natural(tmp_path / "task", tmp_path, **SHAPE)


def test_demonstrations_are_learned_by_their_replies_and_texts_as_a_whole(outputs, tmp_path):
    workload.demonstrations(tmp_path, outputs, steps=2)
    rows, settings = read(tmp_path, "rows.json"), read(tmp_path, "settings.json")
    assert len(rows) == 2 * settings["batch"]
    assert all(len(ids) == len(learned) and not learned[0] for ids, learned in rows)
    asked, text = rows[0], rows[settings["batch"] - 1]
    assert 0 < sum(asked[1]) < len(asked[0]) - 1
    assert sum(text[1]) == len(text[0]) - 1
    assert settings["longest"] == max(len(ids) for ids, _ in rows)


def test_documents_spread_over_all_lengths(tmp_path):
    workload.spread(tmp_path, steps=30, batch=10, longest=20, sizes=SIZES)
    rows, settings = read(tmp_path, "rows.json"), read(tmp_path, "settings.json")
    lengths = [len(ids) for ids, _ in rows]
    assert (min(lengths), max(lengths), settings["longest"]) == (8, 20, 20)
    model = load_causal(tmp_path / "model")
    special = load_tokenizer(tmp_path / "model").pad_token_id
    assert special < model.config.vocab_size
    assert not any(special in ids for ids, _ in rows)
