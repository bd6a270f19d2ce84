"""`salsa soup` of LoRA adapters, and by the loss on held-out rows (greedy)."""

import json

import numpy as np
import pytest
import torch
from peft import PeftModel

from salsa.cli import main
from salsa.data.chat import encode_conversation
from salsa.data.conversation import Message
from salsa.models.factors import read_adapter
from salsa.models.families import load_causal, load_tokenizer
from salsa.soup.adapters import average_adapters
from tests.cli.runs import files_of, model
from tests.hub_cache import put_into_cache, without_network
from tests.models.adapted import adapter_folder

ROWS = [
    {"text": "w1 w2 w3 w4"},
    {"text": "w5 w5"},
    {"messages": [{"role": "user", "content": "w1 w7"}, {"role": "assistant", "content": "w2 w8 w9"}]},
]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    place = tmp_path_factory.mktemp("models")
    return [model(place / f"model {seed}", seed) for seed in range(3)]


@pytest.fixture(scope="module")
def adapters(tmp_path_factory):
    """Three adapters beside their base, which is the last one."""
    place = tmp_path_factory.mktemp("adapters")
    base = model(place / "base", 0)
    return [*(adapter_folder(place / f"lora {seed}", base, load_causal(base), seed) for seed in range(3)), base]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "soup"


@pytest.fixture
def heldout(tmp_path):
    path = tmp_path / "heldout.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.fixture
def run(capsys):
    def ask(*words):
        code = main(["soup", *map(str, words)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return ask


def logits(folder):
    with torch.no_grad():
        return load_causal(folder)(input_ids=torch.tensor([[1, 5, 7, 3, 9]])).logits


def rebased(folder, target, base):
    """Copy an adapter and let it call its base something else."""
    target.mkdir()
    for name, content in files_of(folder).items():
        (target / name).write_bytes(content)
    path = target / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | base))
    return target


def test_a_soup_of_adapters_is_the_exact_adapter(adapters, run, tmp_path, out):
    average_adapters(adapters[:2], [0.25, 0.75], tmp_path / "expected", str(adapters[3]))
    code, printed, errors = run(*adapters[:2], "--weights", ".25,.75", "--out", out)
    assert (code, errors) == (0, "")
    assert f"wrote {out}: weighted of 2 models, 28 tensors" in printed
    weights = "adapter_model.safetensors"
    assert (out / weights).read_bytes() == (tmp_path / "expected" / weights).read_bytes()
    torch.testing.assert_close(logits(out), logits(tmp_path / "expected"))
    assert not any(path.is_symlink() for path in out.iterdir())


def test_it_names_its_base_by_the_way_from_its_place(adapters, run, out, monkeypatch):
    monkeypatch.chdir(out.parent)
    assert run(*adapters[:2], "--out", "soup", "--quiet") == (0, "", "")
    named = json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert not named.startswith("/")
    assert (out / named).resolve() == adapters[3].resolve()
    assert logits(out).shape == (1, 5, 15)
    again = PeftModel.from_pretrained(load_causal(adapters[3]), str(out))
    with torch.no_grad():
        found = again(input_ids=torch.tensor([[1, 5, 7, 3, 9]])).logits
    torch.testing.assert_close(found, logits(out))


@pytest.mark.parametrize(
    ("options", "scales"),
    [
        (["--recipe", "task_arithmetic", "--scales", ".6", "-.2"], (0.6, -0.2)),
        (["--recipe", "liti", "--merge", "uniform", "--eta", ".5"], (0.25, 0.25)),
        (["--recipe", "line", "--alpha", "1"], (0.0, 1.0)),
        (["--recipe", "slerp", "--share", "0"], (1.0, 0.0)),
    ],
)
def test_recipes_scale_what_adapters_change(adapters, run, out, options, scales):
    assert run(*adapters[:2], *options, "--out", out, "--quiet") == (0, "", "")
    one, two, made = (read_adapter(folder).layers for folder in (*adapters[:2], out))
    for name, factors in made.items():
        expected = scales[0] * one[name].change() + scales[1] * two[name].change()
        torch.testing.assert_close(factors.change(), expected, rtol=1e-5, atol=1e-6)


def test_the_arc_between_adapters_is_turned_by_layer(adapters, run, out):
    assert run(*adapters[:2], "--recipe", "slerp", "--out", out, "--quiet") == (0, "", "")
    one, two, made = (read_adapter(folder).layers for folder in (*adapters[:2], out))
    for name, factors in made.items():
        first, second = one[name].change(), two[name].change()
        angle = torch.arccos((first * second).sum() / (first.norm() * second.norm()))
        expected = torch.sin(angle / 2) / torch.sin(angle) * (first + second)
        torch.testing.assert_close(factors.change(), expected, rtol=1e-4, atol=1e-6)


def test_a_base_on_the_hub_is_named_as_the_adapters_named_it(adapters, run, tmp_path, out, monkeypatch):
    without_network(monkeypatch, tmp_path / "home")
    base = {"base_model_name_or_path": "owner/base", "revision": "v1"}
    folders = [rebased(adapters[index], tmp_path / f"theirs {index}", base) for index in range(2)]
    for name, extra in (("without", []), ("with", ["--recipe", "slerp", "--geometry"])):
        assert run(*folders, "--out", tmp_path / name, *extra, "--quiet") == (0, "", "")
        written = json.loads((tmp_path / name / "adapter_config.json").read_text())
        assert (written["base_model_name_or_path"], written["revision"]) == ("owner/base", "v1")
        put_into_cache(tmp_path / "home", "model", "owner/base", adapters[3], reference="v1") if not extra else None
    expected, made = tmp_path / "expected", tmp_path / "without"
    average_adapters(adapters[:2], [0.5, 0.5], expected, str(adapters[3]))
    weights = "adapter_model.safetensors"
    assert (made / weights).read_bytes() == (expected / weights).read_bytes()
    other = rebased(adapters[2], tmp_path / "other", base | {"base_model_name_or_path": "owner/another"})
    code, _, errors = run(folders[0], other, "--out", out)
    assert code == 1
    assert "name different bases, owner/base at revision v1 and owner/another at revision v1" in errors


def test_a_base_seen_from_here_is_found(adapters, run, tmp_path, out, monkeypatch):
    monkeypatch.chdir(adapters[3].parent)
    folders = [
        rebased(adapters[index], tmp_path / f"theirs {index}", {"base_model_name_or_path": "./base"})
        for index in (0, 1)
    ]
    assert run(*folders, "--out", out, "--quiet") == (0, "", "")
    monkeypatch.chdir(tmp_path)
    assert logits(out).shape == (1, 5, 15)
    lost = rebased(adapters[0], tmp_path / "lost", {"base_model_name_or_path": "./nowhere"})
    code, _, errors = run(lost, folders[0], "--out", tmp_path / "no")
    assert code == 1
    assert "there is no base model ./nowhere" in errors


def test_what_does_not_go_with_adapters_is_refused(adapters, models, run, out):
    refusals = [
        ([adapters[0], models[0]], 1, "is a LoRA adapter and"),
        ([*adapters[:2], "--recipe", "slerp", "--base", adapters[3]], 2, "adapters name their base themselves"),
        ([*adapters[:2], "--weights", "1", "1", "--any-sum"], 2, "only weights that sum to 1 make an adapter"),
        ([*models[:2], "--recipe", "slerp", "--base", adapters[0]], 1, "is a LoRA adapter; give the full model"),
    ]
    for words, expected, text in refusals:
        code, printed, errors = run(*words, "--out", out)
        assert (code, printed) == (expected, "")
        assert text in errors
    assert list(out.parent.iterdir()) == []


def loss(folder, words):
    """Return the loss of a model on `ROWS`, by plain cross-entropy; `words` is a folder with the tokenizer."""
    tokens, network = load_tokenizer(words), load_causal(folder)
    rows = [([1, *tokens(row["text"])["input_ids"], 2], None) for row in ROWS if "text" in row]
    rows = [(ids, [False] + [True] * (len(ids) - 1)) for ids, _ in rows]
    talk = tuple(Message(**message) for message in ROWS[2]["messages"])
    rows += encode_conversation(tokens, [talk], "assistant")
    nats = count = 0
    for ids, learned in rows:
        with torch.no_grad():
            scores = network(input_ids=torch.tensor([ids])).logits[0, :-1].double().log_softmax(-1)
        picked = -scores[range(len(ids) - 1), ids[1:]]
        marks = torch.tensor(learned[1:])
        nats, count = nats + float(picked[marks].sum()), count + int(marks.sum())
    return nats / count


def chosen(folders, words, place):
    """Return order, weights and loss of a greedy soup by its definition, with every mean made and measured in full."""
    alone = [loss(folder, words) for folder in folders]
    order = sorted(range(len(folders)), key=lambda index: alone[index])
    taken, best = [order[0]], alone[order[0]]
    for index in order[1:]:
        trial = place / f"trial {index}"
        assert main(["soup", *(str(folders[one]) for one in (*taken, index)), "--out", str(trial), "--quiet"]) == 0
        found = loss(trial, words)
        if found < best:
            taken, best = [*taken, index], found
    return order, [1 / len(taken) if index in taken else 0.0 for index in range(len(folders))], best


@pytest.mark.parametrize("kind", ["models", "adapters"])
def test_greedy_takes_what_lowers_the_loss(request, run, tmp_path, out, heldout, kind):
    folders = request.getfixturevalue(kind)
    folders, words = folders[:3], folders[-1]
    order, weights, best = chosen(folders, words, tmp_path)
    code, printed, errors = run(*folders, "--recipe", "greedy", "--validation", heldout, "--out", out, "--json")
    assert (code, errors) == (0, "")
    found = json.loads(printed)
    assert found["greedy"]["order"] == order
    assert [entry["weight"] for entry in found["models"]] == pytest.approx(weights)
    assert found["greedy"]["score"] == pytest.approx(best, rel=1e-5)
    np.testing.assert_allclose(found["greedy"]["alone"], [loss(folder, words) for folder in folders], rtol=1e-5)
    assert loss(out, words) == pytest.approx(best, rel=1e-5)
    assert json.loads((out / "soup.json").read_text())["greedy"] == found["greedy"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_greedy_tells_each_trial_and_each_decision(models, run, out, heldout):
    code, printed, errors = run(*models[:2], "--recipe", "greedy", "--validation", heldout, "--out", out)
    assert (code, errors) == (0, "")
    lines = printed.splitlines()
    assert lines[0].startswith(f"trial 1: {models[0]}: ")
    assert lines[2].startswith("trial 3: ")
    assert lines[3].startswith("best alone: ")
    assert lines[4].startswith(("taken: ", "left out: "))
    assert lines[5].startswith(f"wrote {out}: greedy of 2 models")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "is empty"),
        ('{"text": "w1"}\n{"text": 5}\n', "heldout.jsonl:2: a content that is not text; correct the row"),
        ('{"prompt": "w1"}\n', "has the columns prompt; each row has"),
        ('{"messages": [{"role": "user", "content": "w1"}]}\n', "does not end with an assistant turn"),
        (json.dumps({"text": "w1 " * 40}) + "\n", "none of the 1 rows"),
    ],
)
def test_held_out_rows_that_cannot_be_used_are_named(models, run, tmp_path, out, heldout, content, text):
    heldout.write_text(content)
    code, printed, errors = run(*models[:2], "--recipe", "greedy", "--validation", heldout, "--out", out)
    assert (code, printed) == (1, "")
    assert text in errors
    assert list(tmp_path.iterdir()) == [heldout]


def test_conversations_need_a_chat_template(models, run, tmp_path, out, heldout):
    folders = [model(tmp_path / f"mute {seed}", seed) for seed in range(2)]
    for folder in folders:
        (folder / "chat_template.jinja").unlink()
    code, _, errors = run(*folders, "--recipe", "greedy", "--validation", heldout, "--out", out)
    assert code == 1
    assert 'has no chat template to write them in; give rows of plain text ({"text": ...})' in errors


def test_greedy_is_for_language_models_whose_base_is_here(adapters, run, tmp_path, out, heldout, monkeypatch):
    without_network(monkeypatch, tmp_path / "home")
    far = {"base_model_name_or_path": "owner/base"}
    folders = [rebased(adapters[index], tmp_path / f"theirs {index}", far) for index in range(2)]
    code, _, errors = run(*folders, "--recipe", "greedy", "--validation", heldout, "--out", out, "--dry-run")
    assert code == 1
    assert "owner/base, is not on this machine; get it with `hf download owner/base`" in errors
