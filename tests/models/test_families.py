import stat
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from salsa.models.families import build, load_causal, load_scalar, load_tokenizer, save
from salsa.models.heads import reward_from_causal
from salsa.models.source import UnavailableModelError, write_pointer
from tests.models.tiny import ARCHITECTURES, CHAT_TEMPLATE, causal, tokenizer

FAMILIES = list(ARCHITECTURES)


def same(first, second):
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_seed_decides_the_weights_and_no_global_noise_is_used(family):
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = causal(family, seed=5)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert same(first, causal(family, seed=5))
    assert not same(first, causal(family, seed=6))


@pytest.mark.parametrize("family", FAMILIES)
def test_matrices_have_the_asked_spread_and_norms_are_identities(family):
    model = causal(family, hidden=64, heads=4, head_dim=16, intermediate=128, init_std=0.06)
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            assert parameter.std().item() == pytest.approx(0.06, rel=0.15), name
            assert abs(parameter.mean().item()) < 0.01, name
    norm = model.model.norm
    hidden = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(norm(hidden).square().mean(-1), torch.ones(3), rtol=1e-3, atol=1e-3)
    assert not model.get_input_embeddings().weight[0].any()


def test_configurations_are_those_of_the_families():
    llama, mistral, gemma = (causal(family).config for family in FAMILIES)
    assert (llama.model_type, llama.num_key_value_heads, llama.hidden_act) == ("llama", 4, "silu")
    assert (mistral.model_type, mistral.num_key_value_heads, mistral.sliding_window) == ("mistral", 2, 6)
    assert (gemma.model_type, gemma.head_dim, gemma.hidden_act) == ("gemma", 8, "gelu_pytorch_tanh")
    for config in (llama, mistral, gemma):
        assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == (0, 1, 2)
        assert (config.max_position_embeddings, config.vocab_size) == (32, 15)
    assert (llama.tie_word_embeddings, mistral.tie_word_embeddings) == (True, False)


def test_the_sliding_window_of_mistral_hides_old_tokens():
    model = causal("mistral", layers=1, sliding_window=3).eval()
    ids = torch.tensor([[1, 4, 5, 6, 7, 8]])
    changed = ids.clone()
    changed[0, 1] = 9
    with torch.no_grad():
        difference = (model(ids).logits - model(changed).logits).abs().amax(-1)[0]
    assert (difference > 1e-6).tolist() == [False, True, True, True, False, False]


def test_a_tokenizer_without_an_end_token_is_refused():
    without = tokenizer()
    without.eos_token = None
    with pytest.raises(ValueError, match="has no eos_token"):
        build(ARCHITECTURES["llama2"], without, seed=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_saved_loads_with_the_library_and_with_us(family, tmp_path, capfd):
    model = causal(family)
    save(model, tokenizer(), tmp_path / "model")
    assert same(AutoModelForCausalLM.from_pretrained(tmp_path / "model"), model)
    theirs = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert theirs.chat_template == CHAT_TEMPLATE
    capfd.readouterr()
    loaded = load_causal(tmp_path / "model")
    assert same(loaded, model)
    assert not loaded.training
    assert loaded.dtype == torch.float32
    made = load_tokenizer(tmp_path / "model")
    assert made.chat_template == CHAT_TEMPLATE
    assert made("w1 w3").input_ids == [4, 6]
    assert capfd.readouterr() == ("", "")


def test_saved_weights_are_as_readable_as_the_rest(tmp_path):
    save(causal(), tokenizer(), tmp_path)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_the_number_format_of_the_files_is_kept_unless_another_is_asked_for(tmp_path):
    save(causal().bfloat16(), tokenizer(), tmp_path)
    assert load_causal(tmp_path).dtype == torch.bfloat16
    assert load_causal(tmp_path, dtype=torch.float32).dtype == torch.float32


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pointer_stands_for_its_model(family, tmp_path):
    save(causal(family), tokenizer(), tmp_path / "model")
    write_pointer(tmp_path / "pointer", str(tmp_path / "model"))
    assert same(load_causal(tmp_path / "pointer"), causal(family))
    assert load_tokenizer(tmp_path / "pointer").chat_template == CHAT_TEMPLATE


def test_a_tokenizer_beside_a_pointer_comes_first(tmp_path):
    save(causal(), tokenizer(), tmp_path / "model")
    write_pointer(tmp_path / "pointer", str(tmp_path / "model"))
    own = tokenizer()
    own.chat_template = "{{ bos_token }}"
    own.save_pretrained(tmp_path / "pointer")
    assert load_tokenizer(tmp_path / "pointer").chat_template == "{{ bos_token }}"


def test_a_tokenizer_without_padding_gets_some(tmp_path):
    made = tokenizer()
    made.pad_token = None
    made.save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path).pad_token_id == made.unk_token_id


def test_missing_pieces_are_named(tmp_path):
    with pytest.raises(UnavailableModelError, match="there is no model folder"):
        load_causal(tmp_path / "nowhere")
    with pytest.raises(UnavailableModelError, match="there is no model folder"):
        load_tokenizer(tmp_path / "nowhere")
    causal().save_pretrained(tmp_path)
    with pytest.raises(UnavailableModelError, match="a model without a tokenizer"):
        load_tokenizer(tmp_path)


def test_kinds_of_models_are_not_mistaken_for_each_other(tmp_path):
    model = causal()
    save(model, tokenizer(), tmp_path / "causal")
    save(reward_from_causal(model, 0), tokenizer(), tmp_path / "reward")
    with pytest.raises(UnavailableModelError, match="LlamaForSequenceClassification, not a causal language model"):
        load_causal(tmp_path / "reward")
    with pytest.raises(UnavailableModelError, match="LlamaForCausalLM, not a reward model"):
        load_scalar(tmp_path / "causal")


def test_weights_that_lack_a_tensor_are_refused(tmp_path):
    save(causal(), tokenizer(), tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UnavailableModelError, match=r"lack model\.norm\.weight"):
        load_causal(tmp_path)


def test_code_in_a_model_folder_is_not_run(tmp_path):
    save(causal(), tokenizer(), tmp_path)
    text = (tmp_path / "config.json").read_text().replace('"llama"', '"not-a-known-kind"', 1)
    text = text.replace("{", '{"auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"},', 1)
    (tmp_path / "config.json").write_text(text)
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ValueError):
        load_causal(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_tied_embeddings_are_tied_and_stay_so(tmp_path):
    untied = build(replace(ARCHITECTURES["llama2"], tie_embeddings=False), tokenizer(), 0)
    tied = causal()
    assert tied.lm_head.weight is tied.model.embed_tokens.weight
    assert untied.lm_head.weight is not untied.model.embed_tokens.weight
    save(tied, tokenizer(), tmp_path)
    loaded = load_causal(tmp_path)
    assert loaded.lm_head.weight.data_ptr() == loaded.model.embed_tokens.weight.data_ptr()
