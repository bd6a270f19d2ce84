"""`salsa store list`, `show`, `verify` and `export`."""

import time
from pathlib import Path

import pytest

from salsa.cli import main
from salsa.store.artifact import Store
from salsa.store.lock import StageLock
from tests.cli.conftest import MODEL, Ask, Say
from tests.store.artifacts import numbered


def damage(store: Store, kind: str, number: int, name: str) -> None:
    path = store.root / "store" / kind / numbered(number) / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_list_has_a_line_for_each_artifact(say: Say) -> None:
    code, out, err = say("list")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0].split() == ["kind", "name", "model", "age", "size", "work", "fingerprint"]
    assert lines[1].split() == ["base", "base", "gemma", "6", "w", "1.0", "kB", "2.0", "s", numbered(0x100)[:16]]
    assert [line.split()[0] for line in lines[1:6]] == ["base", "report", "sft", "sft", "tax"]
    assert lines[6] == "5 artifacts, 3.0 kB, 10 s of work"


def test_list_gives_programs_everything(ask: Ask, store: Store) -> None:
    code, found = ask("list", "--kind", "tax")
    assert code == 0
    (row,) = found["artifacts"]
    published = row.pop("published")
    assert abs(published - (time.time() - 58)) < 3600
    assert row == {
        "kind": "tax",
        "name": "tax SFT1",
        "model": "gemma",
        "fingerprint": numbered(0x300),
        "bytes": 1,
        "seconds": 2.0,
        "path": str(store.root / "store" / "tax" / numbered(0x300)),
        "readable": True,
    }
    assert (found["bytes"], found["seconds"]) == (1, 2.0)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--kind", "sft"], ["sft_1", "sft_2"]),
        (["--kind", "soup"], []),
        (["--model", "gemma"], ["base", "report", "sft_1", "sft_2", "tax SFT1"]),
        (["--model", "llama2"], []),
        (["--older-than", "30d"], ["base"]),
        (["--older-than", "2d", "--kind", "sft"], ["sft_1"]),
        (["--sort", "age"], ["base", "sft_1", "sft_2", "tax SFT1", "report"]),
        (["--sort", "size"], ["sft_1", "sft_2", "base", "tax SFT1", "report"]),
    ],
)
def test_list_filters_and_sorts(ask: Ask, options: list[str], names: list[str]) -> None:
    assert [row["name"] for row in ask("list", *options)[1]["artifacts"]] == names


def test_list_shows_what_has_a_broken_manifest(say: Say, ask: Ask, store: Store) -> None:
    (store.root / "store" / "sft" / numbered(0x201) / "manifest.json").write_text("{")
    code, out, _ = say("list")
    assert code == 0
    (line,) = [line for line in out.splitlines() if "unreadable" in line]
    assert line.split() == ["sft", "(its", "manifest", "is", "unreadable)", numbered(0x201)[:16]]
    row = next(row for row in ask("list")[1]["artifacts"] if not row["readable"])
    assert (row["kind"], row["name"], row["bytes"], row["fingerprint"]) == ("sft", None, None, numbered(0x201))


def test_an_empty_store_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for action in ("list", "verify", "gc"):
        assert main(["store", action, "--outputs", str(tmp_path)]) == 0
    assert "0 artifacts" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_and_a_newer_store_are_refused(
    say: Say, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["store", "list", "--outputs", "nowhere"]) == 2
    assert "--outputs nowhere: there is no such folder" in capsys.readouterr().err
    (store.root / "format.json").write_text('{"format": 99}')
    code, out, err = say("list")
    assert (code, out) == (1, "")
    assert "written by a newer version of salsa" in err


def test_show_tells_the_manifest_and_both_sides_of_the_lineage(say: Say) -> None:
    code, out, _ = say("show", "3")
    assert code == 0
    assert out.startswith(f"tax SFT1 {numbered(0x300)}")
    assert " documents  7" in out
    lineage = out[out.index("made from\n") :].splitlines()
    assert lineage == [
        "made from",
        f"tax SFT1 {numbered(0x300)[:16]}",
        f"└── model: sft_1 {numbered(0x200)[:16]}",
        f"    └── base: base {numbered(0x100)[:16]}",
        "made from it",
        f"  report {numbered(0x400)[:16]}",
    ]


def test_show_names_inputs_that_are_gone_and_unfolds_each_once(say: Say) -> None:
    _, out, _ = say("show", "4")
    assert f"gone: {numbered(0x500)[:16]} is not in the store" in out
    assert "nothing was made from it" in out


def test_show_gives_programs_the_graph(ask: Ask) -> None:
    code, found = ask("show", "200")
    assert code == 0
    assert found["manifest"]["fingerprint"] == numbered(0x200)
    assert found["lineage"] == {
        numbered(0x100): {"kind": "base", "name": "base", "inputs": {}},
        numbered(0x200): {"kind": "sft", "name": "sft_1", "inputs": {"base": numbered(0x100)}},
    }
    assert found["dependents"] == [numbered(0x300)]


def test_a_broken_manifest_cannot_be_shown(say: Say, store: Store) -> None:
    path = store.root / "store" / "sft" / numbered(0x201) / "manifest.json"
    path.write_text("{")
    code, out, err = say("show", "201")
    assert (code, out) == (1, "")
    assert f"{path} is not valid JSON" in err


@pytest.mark.parametrize("action", ["show", "verify", "remove"])
def test_a_beginning_that_names_not_one_artifact_is_wrong_usage(say: Say, action: str) -> None:
    code, out, err = say(action, "2")
    assert (code, out) == (2, "")
    assert f"sft_1 {numbered(0x200)[:16]}" in err
    assert f"sft_2 {numbered(0x201)[:16]}" in err
    assert say(action, "fff")[0] == 2


def test_verify_finds_nothing_where_all_is_whole(say: Say, ask: Ask) -> None:
    assert say("verify") == (0, "5 artifacts whole, 0 damaged, 3.0 kB\n", "")
    assert ask("verify", "100", "200") == (0, {"verified": 2, "bytes": 2010, "findings": []})


def test_verify_names_damage_and_leaves_it(say: Say, ask: Ask, store: Store) -> None:
    damage(store, "sft", 0x200, "model.safetensors")
    (store.root / "store" / "tax" / numbered(0x300) / "manifest.json").unlink()
    code, out, _ = say("verify")
    assert code == 1
    assert f"damaged sft_1 {numbered(0x200)[:16]}: model.safetensors" in out
    assert f"damaged tax (its manifest is unreadable) {numbered(0x300)[:16]}: manifest.json" in out
    assert "3 artifacts whole, 2 damaged" in out
    assert "verify --set-aside" in out
    assert store.find("sft", numbered(0x200)) is not None
    assert say("verify", "100")[0] == 0
    code, found = ask("verify", "200")
    assert code == 1
    assert found["findings"] == [
        {
            "kind": "sft",
            "fingerprint": numbered(0x200),
            "damaged": ["model.safetensors"],
            "extra": [],
            "unknown": None,
            "set_aside": None,
        }
    ]


def test_verify_sets_damage_aside_if_asked(ask: Ask, say: Say, store: Store) -> None:
    damage(store, "sft", 0x200, "model.safetensors")
    (store.root / "store" / "tax" / numbered(0x300) / "manifest.json").unlink()
    code, found = ask("verify", "--set-aside")
    places = [
        store.root / "broken" / f"{kind}-{numbered(number)}-1" for kind, number in (("sft", 0x200), ("tax", 0x300))
    ]
    assert code == 1
    assert [finding["set_aside"] for finding in found["findings"]] == [str(place) for place in places]
    assert all(place.is_dir() for place in places)
    assert store.find("sft", numbered(0x200)) is None
    assert say("verify")[0] == 0


def test_verify_leaves_what_is_being_worked_on(ask: Ask, store: Store) -> None:
    damage(store, "sft", 0x200, "model.safetensors")
    with StageLock(store.lock_path("sft", numbered(0x200))):
        code, found = ask("verify", "--set-aside")
    assert code == 1
    assert "is being worked on" in found["findings"][0]["set_aside"]
    assert store.find("sft", numbered(0x200)) is not None


def test_verify_tells_of_files_that_were_added(say: Say, store: Store) -> None:
    (store.root / "store" / "sft" / numbered(0x200) / "notes.txt").write_text("mine")
    code, out, _ = say("verify")
    assert code == 0
    assert f"more than was published in sft_1 {numbered(0x200)[:16]}: notes.txt" in out


def test_export_copies_the_model_alone(say: Say, ask: Ask, tmp_path: Path) -> None:
    code, out, _ = say("export", "200", str(tmp_path / "model"))
    assert code == 0
    assert f"sft_1 {numbered(0x200)[:16]}: 3 files, 1.0 kB in {tmp_path / 'model'}" in out
    assert {path.name: path.read_text() for path in (tmp_path / "model").iterdir()} == MODEL
    code, found = ask("export", "100", str(tmp_path / "base"), "--with-manifest")
    assert code == 0
    assert found == {
        "fingerprint": numbered(0x100),
        "folder": str(tmp_path / "base"),
        "files": ["model.safetensors", "tokenizer.json", "config.json"],
        "bytes": 1004,
    }
    assert (tmp_path / "base" / "manifest.json").is_file()


def test_export_refuses_in_a_sentence(say: Say, store: Store, tmp_path: Path) -> None:
    code, out, err = say("export", "300", str(tmp_path / "model"))
    assert (code, out) == (1, "")
    assert "there is no model in tax SFT1" in err
    assert "artifacts of these kinds have one: base, sft" in err
    code, out, err = say("export", "200", str(store.root))
    assert (code, out) == (1, "")
    assert "is not an empty folder" in err
    damage(store, "sft", 0x200, "model.safetensors")
    code, out, err = say("export", "200", str(tmp_path / "model"))
    assert (code, out) == (1, "")
    assert "model.safetensors is damaged" in err
    assert not (tmp_path / "model").exists()
