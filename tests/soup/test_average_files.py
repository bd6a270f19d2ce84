"""What averaging reads and writes: files, formats, refusals, interruptions, memory."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from salsa.models.families import load_causal, load_tokenizer, save
from salsa.models.source import UnavailableModelError, resolve, write_pointer
from salsa.soup import average as module
from salsa.soup import mixture
from salsa.soup.average import SoupError, average
from tests.models.tiny import ARCHITECTURES, CHAT_TEMPLATE, causal, tokenizer
from tests.soup.models import content_of, random_tensors, toys, weights_bytes
from tests.soup.toys import toy, weights_of

ROOT = Path(__file__).parents[2]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


class TestFiles:
    @pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
    def test_swapping_models_and_weights_gives_the_same_bytes(self, models, tmp_path, alpha):
        average(models[:2], [1 - alpha, alpha], tmp_path / "one")
        average(models[1::-1], [alpha, 1 - alpha], tmp_path / "two")
        assert weights_bytes(tmp_path / "one") == weights_bytes(tmp_path / "two")

    @pytest.mark.parametrize("weights", [[0.5, 0.5], [0.25, 0.75]])
    def test_the_file_is_the_one_that_the_library_writes(self, tmp_path, out, weights):
        tensors = [
            {
                "z.w": torch.randn(3, 2, generator=torch.Generator().manual_seed(seed)),
                "a.half": torch.full((5,), 1.5 + seed).half(),
                "a.brain": torch.full((4,), 1.5 + seed).bfloat16(),
                "b": torch.tensor(2.0 + seed, dtype=torch.float64),
                "mask": torch.tensor([True, False, True]),
                "ids": torch.arange(3),
                "nothing": torch.zeros(0, 4),
            }
            for seed in range(2)
        ]
        folders = [toy(tmp_path / f"{index}", **one) for index, one in enumerate(tensors)]
        average(folders, weights, out)
        first, second = tensors
        expected = {
            name: (weights[0] * value.double() + weights[1] * second[name].double()).to(value.dtype)
            if value.is_floating_point()
            else value
            for name, value in first.items()
        }
        save_file(expected, tmp_path / "expected", metadata={"format": "pt"})
        assert weights_bytes(out) == (tmp_path / "expected").read_bytes()

    def test_a_one_hot_soup_is_a_copy_of_the_files(self, models, tmp_path, out):
        save_file(load_file(models[1] / "model.safetensors"), models[1] / "model.safetensors", {"made": "elsewhere"})
        average(models, [0.0, 1.0, 0.0], out)
        assert weights_bytes(out) == weights_bytes(models[1])
        assert (out / "config.json").read_bytes() == (models[0] / "config.json").read_bytes()

    def test_a_one_hot_soup_of_shards_is_a_copy_of_the_shards(self, models, out):
        shard(models[0])
        average(models[:2], [1.0, 0.0], out, shard_bytes=10**9)
        copied = content_of(out)
        assert len(copied) > 4
        assert copied == {name: content for name, content in content_of(models[0]).items() if name in copied}
        assert torch.equal(load_causal(out).lm_head.weight, causal(seed=0).lm_head.weight)

    def test_shards_are_read_and_written(self, models, tmp_path, out):
        average(models[:2], [0.5, 0.5], tmp_path / "whole")
        shard(models[0])
        assert len(list(models[0].glob("model-*.safetensors"))) > 1
        average(models[:2], [0.5, 0.5], tmp_path / "joined")
        average(models[:2], [0.5, 0.5], out, shard_bytes=3000)
        assert load_file(tmp_path / "joined" / "model.safetensors").keys() == weights_of(tmp_path / "whole").keys()
        files = sorted(path.name for path in out.glob("*.safetensors"))
        assert files == [f"model-{n:05d}-of-{len(files):05d}.safetensors" for n in range(1, len(files) + 1)]
        assert len(files) > 1
        folders = (tmp_path / "whole", tmp_path / "joined", out)
        whole, joined, parts = (load_causal(folder).state_dict() for folder in folders)
        assert all(torch.equal(whole[name], parts[name]) and torch.equal(whole[name], joined[name]) for name in whole)

    @pytest.mark.parametrize("family", list(ARCHITECTURES))
    def test_a_soup_loads_with_the_library_and_tied_weights_stay_tied(self, family, tmp_path, out):
        for seed in range(2):
            save(causal(family, seed=seed), tokenizer(), tmp_path / str(seed))
        average([tmp_path / "0", tmp_path / "1"], [0.5, 0.5], out)
        soup = AutoModelForCausalLM.from_pretrained(out)
        tied = ARCHITECTURES[family].tie_embeddings
        assert (soup.lm_head.weight.data_ptr() == soup.model.embed_tokens.weight.data_ptr()) is tied
        expected = (causal(family, seed=0).lm_head.weight + causal(family, seed=1).lm_head.weight) / 2
        torch.testing.assert_close(soup.lm_head.weight, expected)
        assert load_tokenizer(out).chat_template == CHAT_TEMPLATE
        assert (out / "generation_config.json").is_file()

    def test_whole_numbers_are_copied_and_must_agree(self, tmp_path, out):
        def model(name, whole, flag):
            return toy(tmp_path / name, w=torch.tensor([0.1]), n=torch.tensor([whole]), b=torch.tensor([flag]))

        first, same, other, unlike = (
            model(*given) for given in (("1", 3, True), ("2", 3, True), ("3", 4, True), ("4", 3, False))
        )
        average([first, same], [0.5, 0.5], out)
        mixed = weights_of(out)
        assert (mixed["n"].tolist(), mixed["b"].tolist()) == ([3], [True])
        for wrong, name in ((other, "n"), (unlike, "b")):
            with pytest.raises(SoupError, match=f"the integer tensor {name} differs between .*1 and .*{wrong.name}"):
                average([first, wrong], [0.5, 0.5], tmp_path / "wrong")
        average([first, other], [1.0, 0.0], tmp_path / "copy")
        assert weights_of(tmp_path / "copy")["n"].tolist() == [3]

    def test_a_pointer_is_an_ingredient_like_its_model(self, models, tmp_path, out):
        write_pointer(tmp_path / "pointer", str(models[0]))
        average([tmp_path / "pointer", models[1]], [0.5, 0.5], out)
        average(models[:2], [0.5, 0.5], tmp_path / "direct")
        assert content_of(out) == content_of(tmp_path / "direct")

    def test_progress_is_told_in_bytes_of_the_result(self, models, out, monkeypatch):
        monkeypatch.setattr(mixture, "PIECE", 48)
        told = []
        average(models, [0.2, 0.3, 0.5], out, progress=lambda done, whole: told.append((done, whole)))
        size = sum(tensor.nbytes for tensor in weights_of(out).values())
        assert {whole for _, whole in told} == {size}
        assert [done for done, _ in told] == sorted({done for done, _ in told})
        assert told[-1] == (size, size)
        assert len(told) > 10


def shard(folder):
    """Save a model of seed 0 anew, in many files."""
    (folder / "model.safetensors").unlink()
    causal(seed=0).save_pretrained(folder, max_shard_size="2KB")


class TestRefusals:
    @pytest.mark.parametrize("weights", [[0.5, 0.6], [1.0], [float("nan"), 1.0], []])
    def test_weights_that_make_no_average(self, models, out, weights):
        with pytest.raises(SoupError, match=r"must sum to 1|one weight for each model"):
            average(models[:2], weights, out)
        assert not out.exists()

    def test_models_that_do_not_fit(self, models, tmp_path, out):
        config = json.loads((models[1] / "config.json").read_text())
        (models[1] / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-3}))
        with pytest.raises(SoupError, match=r"architectures of .* differ \(config.json\): rms_norm_eps"):
            average(models[:2], [0.5, 0.5], out)
        first, second = toys(tmp_path / "toys", [torch.zeros(3), torch.zeros(4)])
        with pytest.raises(SoupError, match=r"w has shape \[3\] in .* and \[4\]"):
            average([first, second], [1.0, 0.0], out)
        assert not out.exists()

    @pytest.mark.parametrize("broken", [float("nan"), float("inf"), float("-inf")])
    @pytest.mark.parametrize("weights", [[0.5, 0.5], [0.0, 1.0], [0.2, 0.5, 0.3], [0.0, 0.5]])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_a_tensor_that_is_not_finite_is_named_and_nothing_is_left(self, tmp_path, out, broken, weights, dtype):
        sound, wrong = torch.zeros(2, dtype=dtype), torch.tensor([0.0, broken], dtype=dtype)
        models = [toy(tmp_path / f"{i}", a=torch.zeros(9), w=wrong if i == 1 else sound) for i in range(len(weights))]
        with pytest.raises(SoupError, match=r"the tensor w of .*1 holds NaN or infinity; train that model again"):
            average(models, weights, out, shard_bytes=8, any_sum=True)
        assert not out.exists()
        out.mkdir()
        (out / "mine").write_text("kept")
        with pytest.raises(SoupError, match="NaN or infinity"):
            average(models, weights, out, any_sum=True)
        assert content_of(out) == {"mine": b"kept"}

    def test_an_ingredient_of_weight_zero_may_be_broken(self, tmp_path, out):
        folders = toys(tmp_path, [torch.tensor([1.0]), torch.tensor([float("nan")]), torch.tensor([3.0])])
        average(folders, [0.5, 0.0, 0.5], out)
        assert weights_of(out)["w"].tolist() == [2.0]

    @pytest.mark.parametrize(("dtype", "fix"), [(torch.float16, "F16 .*BF16 or F32"), (torch.float32, "F32 .*F64")])
    def test_an_extrapolation_beyond_the_number_format_is_said(self, tmp_path, out, dtype, fix):
        largest = torch.finfo(dtype).max
        folders = toys(tmp_path, [torch.tensor([largest], dtype=dtype), torch.tensor([-largest], dtype=dtype)])
        with pytest.raises(SoupError, match=f"sum of the tensors w is beyond what {fix}"):
            average(folders, [2.0, -1.0], out)
        assert not out.exists()

    def test_a_format_that_has_no_average_is_named_but_can_be_copied(self, tmp_path, out):
        low = torch.ones(4).to(torch.float8_e4m3fn)
        folders = toys(tmp_path, [low, low.clone()])
        with pytest.raises(SoupError, match=r"the tensor w of .*0 has the number format F8_E4M3; only F64, F32"):
            average(folders, [0.5, 0.5], out)
        assert not out.exists()
        with pytest.raises(SoupError, match="F8_E4M3"):
            average(folders, [0.0, 0.5], out, any_sum=True)
        average(folders, [0.0, 1.0], out)
        assert weights_bytes(out) == weights_bytes(folders[1])

    @pytest.mark.parametrize("name", ["model.safetensors", "model.safetensors.index.json", "config.json"])
    def test_a_folder_that_holds_a_model_is_left_alone(self, models, out, name):
        out.mkdir()
        (out / name).write_text("{}")
        with pytest.raises(SoupError, match=rf"soup holds a model \({name}\); give another folder"):
            average(models, [0.2, 0.3, 0.5], out)
        assert content_of(out) == {name: b"{}"}
        before = content_of(models[0])
        with pytest.raises(SoupError, match="holds a model"):
            average(models, [0.2, 0.3, 0.5], models[0])
        assert content_of(models[0]) == before

    def test_a_folder_without_a_model(self, models, tmp_path, out):
        with pytest.raises(UnavailableModelError, match="there is no model folder"):
            average([models[0], tmp_path / "none"], [0.5, 0.5], out)


class TestInterruption:
    @pytest.mark.parametrize("weights", [[0.5, 0.5], [1.0, 0.0]])
    def test_an_interruption_leaves_nothing(self, models, out, weights, monkeypatch):
        monkeypatch.setattr(mixture, "PIECE", 20)

        def interrupt(done, whole):
            assert sorted(out.iterdir())
            assert all(path.name.startswith("unfinished-") for path in out.iterdir())
            if done > whole / 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            average(models[:2], weights, out, shard_bytes=3000, progress=interrupt)
        assert not out.exists()

    def test_an_error_while_settings_are_copied_leaves_nothing(self, models, out, monkeypatch):
        def full(source, target):
            if source.name == "config.json":
                raise OSError(28, "No space left on device")
            return copy(source, target)

        copy = shutil.copyfile
        monkeypatch.setattr(module.shutil, "copyfile", full)
        with pytest.raises(OSError, match="No space left"):
            average(models[:2], [0.5, 0.5], out)
        assert not out.exists()

    def test_a_killed_process_leaves_no_model_and_the_next_one_succeeds(self, models, out):
        command = [sys.executable, "-c", HANGING, str(out), *map(str, models[:2])]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
            assert process.stdout.read(1) == b"."
            process.kill()
        left = sorted(path.name for path in out.iterdir())
        assert left
        assert all(name.startswith("unfinished-") for name in left)
        with pytest.raises(UnavailableModelError):
            resolve(out)
        average(models[:2], [0.5, 0.5], out)
        assert not list(out.glob("unfinished-*"))
        load_causal(out)


HANGING = """
import sys, time
from pathlib import Path
from salsa.soup.average import average

def hang(done, whole):
    print(".", end="", flush=True)
    time.sleep(600)

out, *folders = sys.argv[1:]
average([Path(folder) for folder in folders], [0.5, 0.5], Path(out), shard_bytes=3000, progress=hang)
"""

MEMORY = """
import json, sys, threading, time
from pathlib import Path
from salsa.soup.average import average

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon:")).split()[1]) / 1024

peak, over = anonymous(), threading.Event()
before = peak

def watch():
    global peak
    while not over.wait(0.001):
        peak = max(peak, anonymous())

watcher = threading.Thread(target=watch)
watcher.start()
count, folders = int(sys.argv[1]), sys.argv[3:]
try:
    average([Path(folder) for folder in folders[:count]], [1 / count] * count, Path(sys.argv[2]), threads=2)
finally:
    over.set()
    watcher.join()
print(json.dumps([peak - before, "torch" in sys.modules]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads anonymous memory from /proc")
def test_memory_grows_neither_with_the_tensors_nor_with_the_number_of_models(tmp_path):
    def grown(folders):
        out = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, str(len(folders)), str(out), *map(str, folders)],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        )
        mebibytes, torch_loaded = json.loads(done.stdout)
        assert not torch_loaded
        return mebibytes

    small = toys(tmp_path / "small", random_tensors(0, 16, torch.float32, 500_000))
    large = toys(tmp_path / "large", random_tensors(0, 2, torch.float32, 10_000_000))
    two = grown(small[:2])
    assert two < 60
    assert grown(small) < two + 10, "sixteen models"
    assert grown(large) < two + 10, "a tensor of 38 MiB"
