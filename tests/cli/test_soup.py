"""`salsa soup`: what it makes by each recipe, what it says, what it refuses. Interruptions are in `test_soup_place`."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from salsa.cli import main
from salsa.hub import Answer
from salsa.models import source
from salsa.models.families import load_causal, save
from salsa.models.heads import reward_from_causal
from salsa.soup.average import average
from salsa.soup.request import UsageError, parsed_size
from tests.cli.runs import files_of, model, salsa, weights_of
from tests.hub_cache import put_into_cache, without_network
from tests.models.tiny import causal, tokenizer


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Three fine-tuned models and, last, their base."""
    place = tmp_path_factory.mktemp("models")
    return [model(place / name, seed) for seed, name in enumerate(("one", "two", "three", "base"))]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "soup"


@pytest.fixture
def say(capsys):
    """Return what runs `salsa soup`: its exit code, and what it wrote to the two streams."""

    def run(*words):
        code = main(["soup", *map(str, words)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def ask(say):
    """Return what runs `salsa soup --json`, which succeeds: the object, which is all that it may print."""

    def run(*words):
        code, printed, errors = say(*words, "--json")
        assert (code, errors) == (0, "")
        return json.loads(printed)

    return run


@pytest.fixture
def refused(say, tmp_path):
    """Return what runs `salsa soup` and expects a refusal: exit code, one line of error, and not a file changed."""

    def run(*words, code):
        before = files_of(tmp_path)
        found, printed, errors = say(*words)
        assert (found, printed) == (code, "")
        assert errors.startswith("salsa soup: ")
        assert files_of(tmp_path) == before
        return errors.removeprefix("salsa soup: ").strip()

    return run


def test_the_bytes_are_those_of_average(models, say, out, tmp_path):
    average(models[:3], [0.5, 0.3, 0.2], tmp_path / "expected")
    code, printed, errors = say(*models[:3], "--weights", ".5", ".3", ".2", "--out", out)
    assert (code, errors) == (0, "")
    assert re.fullmatch(
        rf"wrote {re.escape(str(out))}: weighted of 3 models, 20 tensors, .* kB in 1 file, in .* s\n", printed
    )
    made = files_of(out)
    assert json.loads(made.pop("soup.json"))["recipe"] == "weighted"
    assert made == files_of(tmp_path / "expected")
    assert not (set(tmp_path.iterdir()) - {out, tmp_path / "expected"})


def test_the_result_loads(models, say, out):
    assert say(*models[:2], "--out", out)[0] == 0
    found = AutoModelForCausalLM.from_pretrained(out).state_dict()
    one, two = (load_causal(folder).state_dict() for folder in models[:2])
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, (one[name] + two[name]) / 2)


def sines(first, second, share):
    """Return the spherical interpolation of two task vectors, or the line where it is not defined."""
    size = np.linalg.norm(first) * np.linalg.norm(second)
    angle = np.arccos(np.clip(np.sum(first * second) / size, -1, 1)) if size else 0.0
    if np.sin(angle) < 1e-6:
        return (1 - share) * first + share * second
    return (np.sin((1 - share) * angle) * first + np.sin(share * angle) * second) / np.sin(angle)


CLOSED_FORMS = {
    "uniform": ([], lambda one, two, base: (one + two) / 2),
    "weighted": (["--weights", ".25,.75"], lambda one, two, base: 0.25 * one + 0.75 * two),
    "beyond": (["--weights=-.5,1.5"], lambda one, two, base: -0.5 * one + 1.5 * two),
    "any sum": (["--weights", "1", "1", "--any-sum"], lambda one, two, base: one + two),
    "line": (["--recipe", "line", "--alpha", ".3"], lambda one, two, base: 0.7 * one + 0.3 * two),
    "middle": (["--recipe", "line"], lambda one, two, base: (one + two) / 2),
    "arithmetic": (
        ["--recipe", "task_arithmetic", "--scales", ".6", "-.2"],
        lambda one, two, base: base + 0.6 * (one - base) - 0.2 * (two - base),
    ),
    "slerp": (["--recipe", "slerp", "--share", ".4"], lambda one, two, base: base + sines(one - base, two - base, 0.4)),
    "liti": (["--recipe", "liti"], lambda one, two, base: base + 0.3 * sines(one - base, two - base, 0.5)),
    "liti of the mean": (
        ["--recipe", "liti", "--merge", "uniform", "--eta", "2"],
        lambda one, two, base: base + 2 * ((one + two) / 2 - base),
    ),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_recipes_have_closed_forms(models, ask, out, name):
    options, expected = CLOSED_FORMS[name]
    base = ["--base", models[3]] if options and options[-1] != ".3" and options[0] == "--recipe" else []
    base = [] if name == "middle" else base
    found = ask(*models[:2], *options, *base, "--out", out)
    one, two, origin = (weights_of(models[index]) for index in (0, 1, 3))
    for tensor, value in weights_of(out).items():
        wanted = expected(*(model[tensor].astype(np.float64) for model in (one, two, origin)))
        np.testing.assert_allclose(value, wanted, rtol=2e-6, atol=1e-7)
    weights = [entry["weight"] for entry in found["models"]]
    if "weight" in found.get("base", {}) and weights[0] is not None:
        assert sum(weights) + found["base"]["weight"] == pytest.approx(1)


def test_one_model_is_enough_between_it_and_its_base(models, say, out):
    assert say(models[0], "--recipe", "liti", "--eta", ".5", "--base", models[3], "--out", out)[0] == 0
    one, base = weights_of(models[0]), weights_of(models[3])
    for name, value in weights_of(out).items():
        np.testing.assert_allclose(value, (one[name] + base[name]) / 2, rtol=1e-6, atol=1e-8)


def test_programs_are_told_everything(models, ask, out):
    found = ask(*models[:2], "--recipe", "line", "--alpha", ".25", "--out", out)
    size = sum(file.stat().st_size for file in out.glob("*.safetensors"))
    assert found.pop("seconds") > 0
    record = {
        "recipe": "line",
        "alpha": 0.25,
        "models": [{"name": str(models[0]), "weight": 0.75}, {"name": str(models[1]), "weight": 0.25}],
        "salsa": found["salsa"],
    }
    assert found == record | {"dry_run": False, "out": str(out), "tensors": 20, "bytes": size, "files": 1}
    assert json.loads((out / "soup.json").read_text()) == record


def test_names_are_kept_as_they_were_given(models, ask, monkeypatch):
    monkeypatch.chdir(models[0].parent)
    ask("one", "./two", "--out", "made here")
    assert [entry["name"] for entry in json.loads(Path("made here/soup.json").read_text())["models"]] == [
        "one",
        "./two",
    ]
    assert str(models[0].parent) not in Path("made here/soup.json").read_text()


@pytest.mark.parametrize(("size", "files"), [("8kB", 3), ("1GB", 1)])
def test_a_dry_run_tells_the_plan_and_writes_nothing(models, ask, say, tmp_path, out, size, files):
    words = [*models[:2], "--weights", ".5,.5", "--out", out, "--shard-size", size]
    before = files_of(tmp_path)
    code, printed, errors = say(*words, "--dry-run")
    assert (code, errors) == (0, "")
    assert f"0.5      {models[0]}\n0.5      {models[1]}\nrecipe weighted\nwould write {out}: 20 tensors" in printed
    planned = ask(*words, "--dry-run")
    assert (files_of(tmp_path), list(tmp_path.iterdir())) == (before, [])
    made = ask(*words)
    assert made["files"] == files
    for found in (planned, made):
        found.pop("seconds")
    assert planned == made | {"dry_run": True}


def test_a_dry_run_reads_no_weights(models, ask, out, tmp_path):
    holey = model(tmp_path / "holey", 0)
    file = holey / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-4:] = np.float32(np.nan).tobytes()
    file.write_bytes(content)
    assert ask(models[0], holey, "--out", out, "--dry-run")["tensors"] == 20


def test_quiet_prints_nothing(models, say, out):
    assert say(*models[:2], "--out", out, "--quiet") == (0, "", "")


def test_geometry_is_that_of_the_weights(models, ask, say, tmp_path):
    one, two, base = (weights_of(models[index]) for index in (0, 1, 3))
    steps = [np.concatenate([(m[name] - base[name].astype(np.float64)).ravel() for name in base]) for m in (one, two)]
    norms = [np.linalg.norm(step) for step in steps]
    found = ask(*models[:2], "--geometry", "--base", models[3])["geometry"]
    assert list(found) == ["embed_tokens", "layers.0", "layers.1", "norm", "total"]
    np.testing.assert_allclose(found["total"]["norms"], norms, rtol=1e-6)
    np.testing.assert_allclose(found["total"]["cosines"][0][1], steps[0] @ steps[1] / np.prod(norms), rtol=1e-6)
    np.testing.assert_allclose(found["total"]["distances"][0][1], np.linalg.norm(steps[0] - steps[1]), rtol=1e-6)
    without = ask(*models[:2], "--geometry")["geometry"]
    assert without["total"] == {"distances": found["total"]["distances"]}
    code, printed, _ = say(*models[:2], "--geometry", "--base", models[3])
    assert (code, list(tmp_path.iterdir())) == (0, [])
    assert printed.splitlines()[2].split() == ["norm", "1", "norm", "2", "cos", "1,2", "dist", "1,2"]
    assert printed.splitlines()[-1].split()[:3] == ["total", f"{norms[0]:.4g}", f"{norms[1]:.4g}"]


def test_geometry_comes_with_a_soup(models, ask, out):
    found = ask(*models[:2], "--geometry", "--base", models[3], "--out", out)
    assert found["bytes"] > 0
    assert len(found["geometry"]["total"]["norms"]) == 2


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--weights", ".5"], "--weights has 1 numbers, and 2 models are given"),
        (["--weights", ".5", ".6"], "--weights sum to 1.1, not to 1; correct them, or give --any-sum"),
        (["--weights", "0", "0", "--any-sum"], "--weights are all 0"),
        (["--weights", "half", "half"], "--weights: 'half' is not a number"),
        (["--weights", "nan", "1"], "--weights nan: must be finite"),
        (["--recipe", "weighted"], "--weights is missing"),
        (["--alpha", ".5"], "--alpha is not read by the recipe uniform; it belongs to --recipe line"),
        (["--any-sum"], "--any-sum is not read by the recipe uniform; it belongs to --recipe weighted"),
        (["--base", "x"], "--recipe slerp or --recipe liti or --recipe task_arithmetic or --geometry"),
        (["--recipe", "line", "--alpha", "x"], "--alpha: 'x' is not a number"),
        (["--recipe", "slerp"], "--base is missing"),
        (["--recipe", "slerp", "--base", "x", "--share", "2"], "--share 2: must be from 0"),
        (
            ["--recipe", "liti", "--base", "x", "--merge", "uniform", "--share", ".5"],
            "--share is not read with --merge uniform",
        ),
        (["--recipe", "task_arithmetic", "--base", "x"], "--scales is missing"),
        (["--recipe", "task_arithmetic", "--base", "x", "--scales", "1"], "--scales has 1 numbers"),
        (["--recipe", "greedy"], "--validation is missing"),
        (["--threads", "0"], "--threads 0: must be at least 1"),
        (["--shard-size", "much"], "--shard-size much: write a number"),
    ],
)
def test_what_cannot_be_asked_for_is_code_2(models, refused, out, words, named):
    assert named in refused(*models[:2], *words, "--out", out, code=2)


def test_so_are_too_few_models_and_no_place(models, refused, out):
    assert "one model is given; a soup by the recipe uniform needs at least 2" in refused(
        models[0], "--out", out, code=2
    )
    assert "--recipe line is between two models" in refused(*models[:3], "--recipe", "line", "--out", out, code=2)
    assert "--out is missing" in refused(*models[:2], code=2)
    assert "--geometry compares models" in refused(models[0], "--geometry", code=2)
    assert "--weights belongs to a soup, and none is made without --out" in refused(
        *models[:2], "--geometry", "--weights", ".5,.5", code=2
    )


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GB", 4 * 10**9),
        ("4GiB", 2**32),
        ("1.5 kB", 1500),
        ("10mib", 10 * 2**20),
        ("7", 7),
        ("7B", 7),
        ("2TB", 2 * 10**12),
    ],
)
def test_sizes_are_written_as_transformers_writes_them(text, size):
    assert parsed_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "4 gigabytes", "-1GB", "0", "0.4B", "4iB"])
def test_other_sizes_are_refused(text):
    with pytest.raises(UsageError, match="--shard-size"):
        parsed_size(text)


def test_models_that_do_not_fit_are_refused_before_anything_is_written(models, refused, tmp_path, out):
    wide = model(tmp_path / "wide", 0, intermediate=28)
    for extra in ([], ["--dry-run"]):
        errors = refused(models[0], wide, "--out", out, *extra, code=1)
        assert str(wide) in errors
        assert "config.json" in errors


def test_a_broken_number_is_named_and_nothing_is_left(models, refused, tmp_path, out):
    broken = model(tmp_path / "broken", 0)
    file = broken / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-4:] = np.float32(np.nan).tobytes()
    file.write_bytes(content)
    errors = refused(models[0], broken, "--out", out, code=1)
    assert "NaN or infinity" in errors
    assert str(broken) in errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken"]


def test_what_is_missing_is_named_with_the_way_to_get_it(models, refused, tmp_path, out, monkeypatch):
    without_network(monkeypatch, tmp_path / "home")
    assert "there is no model folder" in refused(models[0], tmp_path / "none", "--out", out, code=1)
    errors = refused(models[0], "owner/model@v2", "--out", out, code=1)
    assert "there is no folder owner/model@v2 here, and the model owner/model at revision v2 is not on this" in errors
    assert "hf download owner/model" in errors
    (tmp_path / "empty").mkdir()
    assert "holds no config.json" in refused(models[0], tmp_path / "empty", "--out", out, code=1)


def test_models_of_the_hub_are_known_by_name_and_revision(models, ask, out, tmp_path, monkeypatch):
    without_network(monkeypatch, tmp_path)
    put_into_cache(tmp_path, "model", "owner/one", models[0])
    put_into_cache(tmp_path, "model", "owner/two", models[1], reference="v2")
    found = ask("owner/one", "owner/two@v2", "--out", out)
    assert [entry["name"] for entry in found["models"]] == ["owner/one", "owner/two@v2"]
    one, two = weights_of(models[0]), weights_of(models[1])
    for name, value in weights_of(out).items():
        np.testing.assert_allclose(value, (one[name] + two[name]) / 2, rtol=1e-6, atol=1e-8)


def test_a_dry_run_downloads_nothing_and_the_work_does(models, ask, refused, out, tmp_path, monkeypatch):
    without_network(monkeypatch, tmp_path)
    monkeypatch.setattr(source, "obstacle", lambda: "")
    monkeypatch.setattr(source, "ask", lambda _: Answer("0" * 40, ("config.json", "model.safetensors")))
    monkeypatch.setattr(source, "_download", lambda repository: {"owner/one": models[0]}[repository.name])
    errors = refused("owner/one@v1", models[1], "--out", out, "--dry-run", code=1)
    assert "--dry-run downloads nothing; get it with `hf download owner/one --revision v1`" in errors
    ask("owner/one@v1", models[1], "--weights", "1,0", "--out", out)
    assert (out / "model.safetensors").read_bytes() == (models[0] / "model.safetensors").read_bytes()


def test_reward_models_are_averaged_head_and_all(say, tmp_path, out):
    folders = []
    for seed in range(2):
        folders.append(tmp_path / f"reward {seed}")
        save(reward_from_causal(causal(seed=0), head_seed=seed), tokenizer(), folders[-1])
    assert say(*folders, "--out", out)[0] == 0
    one, two = (weights_of(folder)["score.weight"] for folder in folders)
    assert np.abs(one - two).max() > 0
    np.testing.assert_allclose(weights_of(out)["score.weight"], (one + two) / 2, rtol=1e-6)


def test_it_starts_without_torch(models, tmp_path):
    script = (
        "import sys; from salsa.cli import main; code = main(sys.argv[1:]);"
        "print([name for name in ('torch', 'transformers', 'lightning', 'peft') if name in sys.modules], code)"
    )
    for words in ([], ["--recipe", "slerp", "--base", models[3]], ["--geometry"]):
        command = [
            sys.executable,
            "-c",
            script,
            "soup",
            *models[:2],
            *words,
            "--out",
            tmp_path / str(len(words)),
            "--quiet",
        ]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout == "[] 0\n"


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit) as ending:
        main(["soup", "--help"])
    assert ending.value.code == 0
    printed = capsys.readouterr().out
    assert "salsa soup sft_1 sft_2 sft_3 --out soup" in printed
    assert printed.count("salsa soup ") >= 5


def test_the_script_answers_in_a_process_of_its_own(models, out):
    done = salsa(*models[:2], "--out", out, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["tensors"] == 20
