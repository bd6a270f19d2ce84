"""Models that are adapters over one base: each computes as the model that its adapter is merged into would."""

import copy
import json

import pytest
import torch
from peft import PeftModel
from torch import nn

from salsa.models.adapters import SharedBase
from salsa.models.families import load_causal, load_scalar, save
from salsa.models.heads import TrunkCritic, ValueHead, head_weight
from salsa.models.lora import LINEAR_LAYERS, LoraSettings
from salsa.models.scoring import reply_logps, reply_values, sequence_scores
from salsa.models.sequences import pack
from salsa.models.source import UnavailableModelError, base_of
from salsa.rl.rollout import generate
from tests.models import tiny
from tests.models.adapted import adapted, adapter_folder, randomise, settings
from tests.rl.tiny import EOS, FAMILIES, PAD, causal, replies, texts


@pytest.fixture(params=FAMILIES)
def base(request):
    return causal(request.param)


def merged(base, view):
    """Return the full model, by adding scaled products into the weights by hand."""
    model = copy.deepcopy(base)
    with torch.no_grad():
        for name, factors in view.adapter().layers.items():
            weight = model.get_submodule(name).weight
            weight += (factors.alpha / factors.rank) * factors.up @ factors.down
    return model


def sequences():
    return pack(texts(1, 6), replies(2, 6), PAD)


def logps(model):
    with torch.inference_mode():
        return reply_logps(model, sequences())[0]


def close(one, other):
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_a_view_says_what_the_merged_model_says(base):
    shared = SharedBase(copy.deepcopy(base))
    views = [adapted(shared, f"model {seed}", seed, rank=seed) for seed in (1, 2, 5)]
    full = [merged(base, view) for view in views]
    for _ in range(2):
        for view, model in zip(views, full, strict=True):
            close(logps(view), logps(model))
        close(logps(shared.bare()), logps(base))
    assert (logps(views[0]) - logps(base)).abs().max() > 0.01


def test_a_view_replies_as_the_merged_model_does(base):
    shared = SharedBase(copy.deepcopy(base))
    view, other = adapted(shared, "one", 1), adapted(shared, "other", 2)
    options = {"eos": EOS, "pad": PAD, "max_new": 8, "temperature": 1.0, "noise": torch.rand(5, 8)}
    expected = generate(merged(base, view), texts(3, 5), **options)
    logps(other)
    found = generate(view, texts(3, 5), **options)
    assert torch.equal(found.sequences.ids, expected.sequences.ids)
    close(found.logps, expected.logps)


def test_a_new_adapter_changes_nothing_and_depends_on_its_seed_alone():
    base = causal()
    state = torch.get_rng_state()
    shared = SharedBase(copy.deepcopy(base))
    one, same, other = (shared.new(name, settings(), seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(logps(one), logps(shared.bare()))
    assert all(torch.equal(x, y) for x, y in zip(one.parameters(), same.parameters(), strict=True))
    assert not all(torch.equal(x, y) for x, y in zip(one.parameters(), other.parameters(), strict=True))
    down = one.adapter().layers["model.layers.0.mlp.down_proj"].down
    assert down.abs().max() <= 48**-0.5
    assert down.std().item() == pytest.approx((48 * 3) ** -0.5, rel=0.3)


def test_parameters_and_state_are_those_of_the_adapter():
    shared = SharedBase(causal())
    one = adapted(shared, "one", 1, targets=["q_proj", "down_proj"])
    other = adapted(shared, "other", 2).give_head(head_weight(32, 1))
    names = [name for name, _ in one.named_parameters()]
    assert len(names) == 2 * 2 * 2
    assert set(one.state_dict()) == set(names)
    assert set(other.state_dict()) == {name for name, _ in other.named_parameters()}
    assert "score.weight" in other.state_dict()
    own = {id(parameter) for view in (one, other) for parameter in view.parameters()}
    learning = {id(parameter) for parameter in shared.model.parameters() if parameter.requires_grad}
    assert learning == own - {id(other.score.weight)}


def test_an_earlier_pass_keeps_its_gradient_whatever_is_active_later():
    base = causal()
    shared = SharedBase(copy.deepcopy(base))
    one, other = adapted(shared, "one", 1), adapted(shared, "other", 2)

    def gradients(*between):
        one.zero_grad()
        loss = reply_logps(one, sequences())[0].sum()
        for view in between:
            reply_logps(view, sequences())[0].sum().backward()
        loss.backward()
        return [parameter.grad.clone() for parameter in one.parameters()]

    alone = gradients()
    assert all(torch.equal(x, y) for x, y in zip(alone, gradients(other), strict=True))
    logps(shared.bare())
    assert all(torch.equal(x, y) for x, y in zip(alone, gradients(), strict=True))
    assert not any(
        parameter.grad is not None for name, parameter in shared.model.named_parameters() if "lora" not in name
    )


def test_gradients_are_those_of_the_merged_model():
    """By the chain rule: of A s B^T G, of B s G A^T, with G the gradient of the full weight."""
    base = causal()
    view = adapted(SharedBase(copy.deepcopy(base)), "one", 1, rank=2, alpha=5.0)
    model = merged(base, view)
    reply_logps(view, sequences())[0].sum().backward()
    reply_logps(model, sequences())[0].sum().backward()
    for name, factors in view.adapter().layers.items():
        gradient = model.get_submodule(name).weight.grad
        scale = gradient.abs().max().item()
        torch.testing.assert_close(factors.down.grad, 2.5 * factors.up.T @ gradient, atol=1e-5 * scale, rtol=1e-4)
        torch.testing.assert_close(factors.up.grad, 2.5 * gradient @ factors.down.T, atol=1e-5 * scale, rtol=1e-4)


def test_a_copy_starts_equal_and_learns_by_itself():
    shared = SharedBase(causal())
    one = adapted(shared, "one", 1).give_head(head_weight(32, 3)).requires_grad_(False)
    copied = one.copy("copy")
    before = logps(one)
    assert torch.equal(logps(copied), before)
    assert torch.equal(copied.score.weight, one.score.weight)
    assert not any(parameter.requires_grad for parameter in one.parameters())
    assert all(parameter.requires_grad for parameter in copied.parameters())
    randomise(copied, 9)
    assert torch.equal(logps(one), before)
    assert not torch.equal(logps(copied), before)


def test_names_are_taken_once_and_the_base_is_never_copied():
    shared = SharedBase(causal())
    view = adapted(shared, "one", 1)
    with pytest.raises(ValueError, match="an adapter one on this base already"):
        shared.new("one", settings(), 1)
    with pytest.raises(TypeError, match=r"use AdaptedModel\.copy"):
        copy.deepcopy(view)
    with pytest.raises(ValueError, match="no adapter that could be copied"):
        shared.bare().copy("other")


def test_gradient_checkpointing_is_refused():
    model = causal()
    model.model.gradient_checkpointing = True
    with pytest.raises(ValueError, match="cannot use gradient checkpointing"):
        SharedBase(model)


def test_a_base_in_half_precision_gets_precise_adapters():
    shared = SharedBase(causal().to(torch.bfloat16))
    view = adapted(shared, "one", 1).give_head(head_weight(32, 3))
    assert shared.model.dtype == torch.bfloat16
    assert {parameter.dtype for parameter in view.parameters()} == {torch.float32}
    scores = sequence_scores(view, sequences())
    assert scores.dtype == torch.float32
    scores.sum().backward()
    assert all(parameter.grad is not None for parameter in view.parameters())
    head = ValueHead(view)
    assert head.score.weight.dtype == torch.float32
    assert reply_values(TrunkCritic(view, head), sequences()).eq(0).all()


def test_moving_a_view_moves_the_base_and_keeps_its_parameters():
    shared = SharedBase(causal())
    view = adapted(shared, "one", 1)
    before = list(view.parameters())
    assert view.to(torch.float64) is view
    assert shared.model.dtype == view.dtype == torch.float64
    assert all(one is other for one, other in zip(before, view.parameters(), strict=True))
    assert view.train() is view
    assert shared.model.training
    assert view.eval() is view
    assert not shared.model.training


class TestFolders:
    @pytest.fixture
    def base(self, tmp_path):
        save(tiny.causal(), tiny.tokenizer(), tmp_path / "base")
        return tmp_path / "base"

    def test_an_adapter_loads_as_the_full_model(self, base, tmp_path):
        shared = SharedBase(load_causal(base))
        view = adapted(shared, "one", 1, targets=["q_proj", "up_proj"])
        save(view, tiny.tokenizer(), tmp_path / "one", base="../base")
        assert base_of(tmp_path / "one") == base
        model = load_causal(tmp_path / "one")
        ids = torch.tensor([[1, 5, 7, 3]])
        close(model(ids).logits, view(input_ids=ids).logits)
        assert not any("lora" in name for name, _ in model.named_modules())
        again = SharedBase(load_causal(base)).load("again", tmp_path / "one")
        assert all(torch.equal(x, y) for x, y in zip(again.parameters(), view.parameters(), strict=True))
        assert load_causal(tmp_path / "one", torch.bfloat16).dtype == torch.bfloat16

    def test_a_folder_is_in_the_format_of_peft(self, base, tmp_path):
        folder = adapter_folder(tmp_path / "one", base, load_causal(base), 1, targets=["q_proj", "up_proj"])
        model = PeftModel.from_pretrained(load_causal(base), str(folder))
        ids = torch.tensor([[1, 5, 7, 3]])
        close(model(input_ids=ids).logits, load_causal(folder)(ids).logits)
        written = json.loads((folder / "adapter_config.json").read_text())
        assert written["base_model_name_or_path"] == "../base"
        assert (written["r"], written["lora_alpha"], written["target_modules"]) == (3, 6, ["q_proj", "up_proj"])

    def test_what_peft_writes_is_read(self, base, tmp_path):
        from peft import LoraConfig

        config = LoraConfig(r=4, lora_alpha=8, use_rslora=True, target_modules=["q_proj", "v_proj"])
        config.rank_pattern, config.alpha_pattern = {"layers.1.self_attn.v_proj": 2}, {"q_proj": 3}
        made = PeftModel(load_causal(base), config)
        with torch.no_grad():
            for name, parameter in made.named_parameters():
                if "lora_B" in name:
                    parameter.normal_()
        made.save_pretrained(str(tmp_path / "one"))
        path = tmp_path / "one" / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": "../base"}))
        ids = torch.tensor([[1, 5, 7, 3]])
        close(load_causal(tmp_path / "one")(ids).logits, made(input_ids=ids).logits)

    def test_a_reward_model_keeps_its_head(self, base, tmp_path):
        view = adapted(SharedBase(load_causal(base)), "reward", 1).give_head(head_weight(16, 5))
        save(view, tiny.tokenizer(), tmp_path / "reward", base="../base")
        model = load_scalar(tmp_path / "reward")
        batch = pack([[1, 4], [1, 5, 6]], [[3, 2], [8, 2]], 0)
        with torch.inference_mode():
            close(sequence_scores(model, batch), sequence_scores(view, batch))
            close(reply_values(model, batch), reply_values(view, batch))
        again = SharedBase(load_causal(base)).load("again", tmp_path / "reward")
        assert torch.equal(again.score.weight, view.score.weight)
        with pytest.raises(UnavailableModelError, match="adapter of a language model"):
            load_scalar(adapter_folder(tmp_path / "one", base, load_causal(base), 1))

    def test_the_same_adapter_is_written_in_the_same_bytes(self, base, tmp_path):
        one, two = (adapter_folder(tmp_path / name, base, load_causal(base), 1) for name in ("one", "two"))
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            assert (one / name).read_bytes() == (two / name).read_bytes()

    def test_a_base_that_is_gone_is_named(self, base, tmp_path):
        folder = adapter_folder(tmp_path / "one", base, load_causal(base), 1)
        base.rename(tmp_path / "elsewhere")
        with pytest.raises(UnavailableModelError, match=r"there is no base model .*base"):
            load_causal(folder)

    def test_an_adapter_of_another_architecture_is_refused(self, base, tmp_path):
        folder = adapter_folder(tmp_path / "one", base, load_causal(base), 1)
        with pytest.raises(UnavailableModelError, match="they do not belong together"):
            SharedBase(tiny.causal(hidden=24, heads=6, kv_heads=6)).load("one", folder)
        with pytest.raises(UnavailableModelError, match="has no such layer"):
            SharedBase(tiny.causal(layers=1)).load("one", folder)

    def test_embeddings_that_were_trained_are_refused(self, base, tmp_path):
        from peft import LoraConfig

        config = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["embed_tokens"])
        PeftModel(load_causal(base), config).save_pretrained(str(tmp_path / "one"), save_embedding_layers=False)
        with pytest.raises(UnavailableModelError, match="only factors of linear layers"):
            SharedBase(load_causal(base)).load("one", tmp_path / "one")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rank": 0}, "rank must be at least 1, got 0"),
        ({"alpha": 0.0}, "alpha must be positive, got 0"),
        ({"targets": ()}, "targets must be some of q_proj"),
        ({"targets": ("lm_head",)}, "got lm_head"),
        ({"targets": ("q_proj", "q_proj")}, "each once"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        LoraSettings(**{"rank": 2, "alpha": 4.0, "targets": ("q_proj",)} | changes)


def test_the_linear_layers_are_those_of_a_block(base):
    linear = {name.rsplit(".", 1)[-1] for name, module in base.model.named_modules() if isinstance(module, nn.Linear)}
    assert linear == set(LINEAR_LAYERS)
