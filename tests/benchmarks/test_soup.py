import json
import sys
from math import prod
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from benchmarks import soup
from benchmarks.peers import plain_copy, salsa_soup
from benchmarks.peers.checkpoints import Shape, make
from benchmarks.peers.difference import difference
from benchmarks.peers.environment import PeerError
from benchmarks.peers.process import cost

PEER = """#!{python}
import json, sys
from pathlib import Path
from safetensors.numpy import load_file, save_file

recipe, out = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
total = {{}}
for model in recipe["models"]:
    for name, tensor in load_file(Path(model["model"]) / "model.safetensors").items():
        total[name] = total.get(name, 0) + tensor.dtype.type(model["parameters"]["weight"]) * tensor
out.mkdir()
(out / "config.json").write_text("{{}}")
save_file(total, out / "model.safetensors")
"""


@pytest.mark.parametrize("size", [1e6, 60e6, 500e6, 5e9])
def test_a_shape_takes_the_bytes_that_are_wanted(size):
    shape = Shape.of_size(int(size))
    taken = sum(4 * prod(sizes) for _, _, sizes in shape.forms())
    assert size <= taken < 1.25 * size
    assert shape.hidden % 64 == 0


def test_a_checkpoint_has_the_tensors_of_its_shape(tmp_path):
    make(tmp_path / "model", 1_000_000, 0, 2**40)
    found = load_file(tmp_path / "model" / "model.safetensors")
    assert {(name, tensor.shape) for name, tensor in found.items()} == {
        (name, sizes) for name, _, sizes in Shape.of_size(1_000_000).forms()
    }
    embeddings = found["model.embed_tokens.weight"]
    assert embeddings.std() == pytest.approx(0.02, rel=0.05)
    make(tmp_path / "empty", 1_000_000, 0, 400_000, empty=True)
    files = sorted((tmp_path / "empty").glob("*.safetensors"))
    assert len(files) > 1
    assert not any(tensor.any() for file in files for tensor in load_file(file).values())


def test_copying_reads_both_and_writes_as_much_as_one(tmp_path):
    models = [make(tmp_path / f"{seed}", 1_000_000, seed, 400_000) for seed in range(2)]
    assert plain_copy.main(*models, tmp_path / "out")["seconds"] > 0
    expected = b"".join(path.read_bytes() for path in sorted(models[0].glob("*.safetensors")))
    assert (tmp_path / "out" / "copy").read_bytes() == expected
    assert salsa_soup.main(*models, tmp_path / "soup")["seconds"] > 0
    assert (tmp_path / "soup" / "config.json").is_file()


def test_memory_is_that_of_the_command_and_a_failure_says_why():
    code = "import time; block = bytearray(64 * 2**20); block[::4096] = b'x' * len(block[::4096]); time.sleep(0.3)"
    found = cost([sys.executable, "-c", code], watched=True)
    assert found.seconds > 0.3
    if Path("/proc/self/status").exists():
        assert 64 < found.anonymous_mib < 120
    with pytest.raises(PeerError, match=r"(?s)ended with code 1.*this is why"):
        cost([sys.executable, "-c", "raise SystemExit('this is why')"])


def test_differences_are_counted_in_last_places_of_what_was_summed(tmp_path):
    one = np.array([1.0, 1.0, 1.0], np.float32)
    near = np.array([1.0, 1.0 + 2.0**-23, 1.0 - 2.0**-24], np.float32)
    for name, values in (("first", one), ("second", one), ("ours", one), ("theirs", near)):
        (tmp_path / name).mkdir()
        save_file({"w": values, "v": one}, tmp_path / name / "model.safetensors")
    models = (tmp_path / "first", tmp_path / "second")
    found = difference(tmp_path / "ours", tmp_path / "theirs", models, (0.5, 0.5))
    assert (found.tensors, found.equal, found.units) == (2, 1, 1.0)
    assert difference(tmp_path / "ours", tmp_path / "ours", models, (0.5, 0.5)).equal == 2


def test_programs_take_turns_and_the_first_round_does_not_count(tmp_path):
    calls = []

    def program(name):
        def run(out):
            assert not out.exists()
            out.mkdir()
            calls.append(name)
            return float(len(calls))

        return run

    found = soup.turns({"a": program("a"), "b": program("b")}, tmp_path, rounds=2)
    assert calls == ["b", "a", "a", "b", "b", "a"]
    assert found == {"a": [3.0, 6.0], "b": [4.0, 5.0]}


def test_the_table_says_what_holds():
    lines = [
        soup.Line("speed", 0.5, 5.0, "s", "at least 3", True, (9.0, 10.0, 12.0)),
        soup.Line("memory", 500.4, None, "MiB", "below 494", False),
    ]
    assert soup.table(lines).splitlines()[2:] == [
        "| speed, s | 0.5 | 5 | **10.00** (9.00 to 12.00) | at least 3 | holds |",
        "| memory, MiB | 500.4 |  |  | below 494 | does not hold |",
    ]


def test_too_small_a_disk_is_said_before_anything_is_written(tmp_path):
    options = soup.parse(["--large", "1e17"])
    with pytest.raises(PeerError, match=r"GB of room, .* are needed"):
        soup.measure(tmp_path, None, options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_everything_is_measured_beside_a_peer(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(soup, "_SMALL_BYTES", 1e6)
    monkeypatch.setattr(soup, "_MANY", 3)
    peer = tmp_path / "bin"
    peer.mkdir()
    (peer / "mergekit-yaml").write_text(PEER.format(python=sys.executable))
    (peer / "mergekit-yaml").chmod(0o755)
    given = ["--size", "1e6", "--large", "2e6", "--rounds", "1", "--mergekit", str(peer / "python")]
    assert soup.main(soup.parse([*given, "--folder", str(tmp_path), "--json", str(tmp_path / "figures.json")])) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert len(capsys.readouterr().out.splitlines()) == 2 + len(figures)
    whole, start, alone, same, near, *memory = figures
    for line in (whole, start, alone):
        assert line["ours"] > 0
        assert line["unit"] == "s"
        assert len(line["ratios"]) == 1
    assert same["ours"] == same["other"] > 10
    assert same["holds"]
    assert near["ours"] <= 4
    assert [line["unit"] for line in memory] == ["MiB"] * 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "figures.json"]
