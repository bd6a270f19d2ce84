import json
import shutil

import pytest
import torch

from salsa.models.families import save
from salsa.soup.checkpoint import SoupError, opened
from salsa.soup.compatibility import check_forms, check_settings, check_weights
from tests.models.tiny import causal, tokenizer
from tests.soup.toys import toy


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("original") / "model"
    save(causal(), tokenizer(), folder)
    return folder


@pytest.fixture
def models(original, tmp_path):
    for name in ("1", "2"):
        shutil.copytree(original, tmp_path / name)
    return tmp_path / "1", tmp_path / "2"


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_copies_fit(models):
    check_settings(*models)


@pytest.mark.parametrize(
    "weights", [[0.5, 0.6], [1.0], [1.0, 0.0, 0.0], [float("nan"), 1.0], [float("inf"), float("-inf")], []]
)
def test_weights_that_make_no_average_are_refused(tmp_path, weights):
    with pytest.raises(SoupError, match=r"must sum to 1|must be finite|one weight for each model"):
        check_weights([tmp_path, tmp_path], weights)


def test_the_sum_of_the_weights_counts_up_to_rounding_unless_any_sum_will_do(tmp_path):
    check_weights([tmp_path] * 10, [0.1] * 10)
    check_weights([tmp_path] * 3, [1.5, -0.75, 0.25])
    check_weights([tmp_path] * 2, [1.0, 1.0], any_sum=True)
    for weights in ([0.0, 0.0], [float("nan"), 1.0]):
        with pytest.raises(SoupError, match="must be finite, and one of them not 0"):
            check_weights([tmp_path] * 2, weights, any_sum=True)


def test_other_architectures_are_refused(models):
    edit(models[1] / "config.json", lambda config: config.update(rms_norm_eps=1e-3))
    with pytest.raises(SoupError, match=r"architectures of .* differ \(config.json\): rms_norm_eps is 1e-05 and 0.001"):
        check_settings(*models)


def test_other_vocabularies_are_refused(models):
    edit(models[1] / "config.json", lambda config: config.update(vocab_size=16))
    with pytest.raises(SoupError, match="vocab_size is 15 and 16"):
        check_settings(*models)


def test_the_rope_base_is_part_of_the_architecture(models):
    edit(models[1] / "config.json", lambda config: config["rope_parameters"].update(rope_theta=5.0))
    with pytest.raises(SoupError, match=r"rope_parameters\.rope_theta is 10000\.0 and 5\.0"):
        check_settings(*models)


def test_a_setting_of_one_only_is_named(models):
    edit(models[1] / "config.json", lambda config: config.update(sliding_window=7))
    with pytest.raises(SoupError, match="sliding_window is only in the second"):
        check_settings(*models)


def test_where_a_model_came_from_does_not_matter(models):
    edit(models[1] / "config.json", lambda config: config.update(transformers_version="5.0", _name_or_path="x"))
    edit(models[1] / "tokenizer.json", lambda content: content.update(padding={"strategy": "BatchLongest"}))
    check_settings(*models)


def test_other_tokenizers_are_refused(models):
    def swap(content):
        words = content["model"]["vocab"]
        words["w1"], words["w2"] = words["w2"], words["w1"]

    edit(models[1] / "tokenizer.json", swap)
    with pytest.raises(SoupError, match=r"tokenizers of .* differ \(tokenizer.json\): model\.vocab\.w1 is 4 and 5"):
        check_settings(*models)
    (models[1] / "tokenizer.json").unlink()
    with pytest.raises(SoupError, match="only in the first"):
        check_settings(*models)


@pytest.mark.parametrize("name", ["tokenizer.model", "merges.txt", "vocab.txt"])
def test_a_tokenizer_of_another_kind_of_file_counts_as_well(models, name):
    (models[0] / name).write_bytes(b"\x00\x01")
    with pytest.raises(SoupError, match=f"the tokenizers differ: {name} of"):
        check_settings(*models)
    (models[1] / name).write_bytes(b"\x00\x01")
    check_settings(*models)


def test_other_chat_templates_are_refused(models):
    (models[1] / "chat_template.jinja").write_text("{{ bos_token }}")
    for templates in (True, False):
        with pytest.raises(SoupError, match="chat templates"):
            check_settings(*models, templates=templates)


def test_a_model_without_a_chat_template_differs_where_templates_count(models):
    (models[1] / "chat_template.jinja").unlink()
    with pytest.raises(SoupError, match="chat templates"):
        check_settings(*models)
    check_settings(*models, templates=False)
    check_settings(*models[::-1], templates=False)


def test_a_chat_template_may_be_in_the_tokenizers_settings(models):
    template = (models[0] / "chat_template.jinja").read_text()
    (models[1] / "chat_template.jinja").unlink()
    edit(models[1] / "tokenizer_config.json", lambda content: content.update(chat_template=template))
    check_settings(*models)


@pytest.mark.parametrize(("content", "message"), [("{", "is not valid JSON"), ("[]", "holds no object")])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_settings_that_are_damaged_are_named(models, name, content, message):
    (models[1] / name).write_text(content)
    with pytest.raises(SoupError, match=f"2/{name} {message}"):
        check_settings(*models)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"w": torch.zeros(2, 3)}, "v is a tensor of .*first only"),
        ({"w": torch.zeros(2, 3), "v": torch.zeros(2), "x": torch.zeros(1)}, "x is a tensor of .*other only"),
        ({"w": torch.zeros(3, 2), "v": torch.zeros(2)}, r"tensor w has shape \[2, 3\] in .* and \[3, 2\]"),
        ({"w": torch.zeros(2, 3), "v": torch.zeros(2).int()}, "tensor v has the number format F32 in .* and I32"),
        ({"w": torch.zeros(2, 3), "v": torch.zeros(2).half()}, "tensor v has the number format F32 in .* and F16"),
    ],
)
def test_the_first_difference_of_tensors_is_named(tmp_path, tensors, message):
    toy(tmp_path / "first", w=torch.zeros(2, 3), v=torch.zeros(2))
    toy(tmp_path / "other", **tensors)
    with opened(tmp_path / "first") as first, opened(tmp_path / "other") as other:
        with pytest.raises(SoupError, match=message):
            check_forms(first, other)
        check_forms(first, first)
        if "F16" in message:
            check_forms(first, other, formats=False)
        else:
            with pytest.raises(SoupError, match=message):
                check_forms(first, other, formats=False)
