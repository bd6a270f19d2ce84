"""`salsa winrate`: what it prints, writes and refuses."""

import csv
import json

import pytest

from salsa.cli import main
from tests.evaluation.judgments import arena, battle, pair, single, verdict, write


@pytest.fixture
def say(capsys):
    """Return what runs `salsa winrate`: its exit code, and what it wrote to the two streams."""

    def run(*words):
        code = main(["winrate", "--rounds", "50", *map(str, words)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def singles(tmp_path):
    rows = [
        single(q, model, 1 + (q * len(model)) % 10, turn)
        for q in (81, 101, 160)
        for model in ("m", "nn")
        for turn in (1, 2)
    ]
    return write(tmp_path / "single.jsonl.gz", [*rows, single(81, "m", 10, 2), "{cut"])


@pytest.fixture
def pairs(tmp_path):
    rows = [pair(81 + index, games, turn=1 + index % 2) for index, games in enumerate(["11", "12", "1!", "2=", "=="])]
    return write(tmp_path / "pair.jsonl", rows)


@pytest.fixture
def arenas(tmp_path):
    rows = [arena(f"q{n}", ("B>>A", "A>B" if n else None), model) for n in range(4) for model in ("m", "n")]
    return write(tmp_path / "arena.jsonl", rows)


def test_a_person_is_told_what_was_left_out(say, singles):
    code, out, err = say("--format", "mt-bench-single", singles)
    assert (code, err) == (0, "")
    assert "14 rows: 12 used, 1 duplicates, 1 malformed" in out
    assert "Judged more than once: m (1)" in out
    assert f"Malformed: {singles}:14: not JSON" in out
    assert "Judgments: 12 sent, 12 judged, 0 unparsed, 0 failed." in out
    assert "By category" in out


def test_a_program_is_told_everything_and_nothing_else(say, pairs):
    code, out, err = say("--format", "mt-bench-pair", pairs, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["format"] == "mt-bench-pair"
    assert found["sections"][0]["counts"] == {"sent": 10, "judged": 9, "unparsed": 0, "failed": 1}
    assert found["settings"]["rounds"] == 50


def test_the_rules_and_the_intervals_are_named(say, pairs, arenas):
    out = say(pairs)[1]
    assert "disagreement, or a tie in the first game, is a tie" in out
    assert "half a vote" in out
    out = say(arenas, "--baseline", "gpt-4-0314")[1]
    assert "first release: strong verdicts count 3 times" in out
    assert "rounds over battles" in out
    assert "questions resampled by cluster" in out
    assert "Baseline: gpt-4-0314." in out


def test_the_format_may_be_left_to_the_first_file(say, singles, pairs, arenas):
    for path, form in ((singles, "mt-bench-single"), (pairs, "mt-bench-pair"), (arenas, "arena-hard")):
        assert json.loads(say(path, "--json")[1])["format"] == form


def test_several_files_are_one(say, tmp_path):
    for model in ("m", "n"):
        write(tmp_path / f"{model}.jsonl", [arena(f"q{n}", ("A=B", "A=B"), model) for n in range(3)])
    found = json.loads(say(tmp_path / "m.jsonl", tmp_path / "n.jsonl", "--json")[1])
    assert [row["model"] for row in found["sections"][0]["models"]] == ["m", "n"]


def test_it_is_written_to_a_folder(say, pairs, tmp_path):
    code, out, _ = say(pairs, "--out", tmp_path / "made" / "here")
    assert code == 0
    assert f"written to {tmp_path / 'made' / 'here'}" in out
    made = tmp_path / "made" / "here"
    assert "| phi" not in (made / "winrate.md").read_text()
    assert "## Adjusted win rates" in (made / "winrate.md").read_text()
    rows = list(csv.DictReader((made / "winrate.csv").open()))
    value = next(row["value"] for row in rows if (row["model"], row["metric"]) == ("one", "adjusted_fastchat"))
    found = json.loads((made / "winrate.json").read_text())
    assert float(value) == next(r["fastchat"]["value"] for r in found["sections"][0]["models"] if r["model"] == "one")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ["--format", "arena-hard", "{pairs}"],
            1,
            "looks like mt-bench-pair, not arena-hard; give --format mt-bench-pair",
        ),
        (["{pairs}", "{singles}"], 1, "looks like mt-bench-single, not mt-bench-pair"),
        (["nowhere.jsonl"], 1, "nowhere.jsonl: No such file or directory"),
        (["{pairs}", "--baseline", "gpt-4"], 2, "--baseline gpt-4 is not among the models: one, two"),
        (["{pairs}", "--replicates", "a"], 2, "--replicates a: expected NAME=MODEL,MODEL"),
        (["{pairs}", "--replicates", "a=one,three"], 2, "'three' of a is not among the models one, two"),
        (["{pairs}", "--answers", "{pairs}"], 1, "pair.jsonl:1 is no answer"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(say, pairs, singles, words, code, message):
    words = [word.format(pairs=pairs, singles=singles) for word in words]
    found, out, err = say(*words)
    assert (found, out) == (code, "")
    assert err.startswith("salsa winrate: ")
    assert err.count("\n") == 1
    assert message in err


@pytest.mark.parametrize("words", [["--rounds", "0"], ["--level", "95"], ["--weight", "x"], ["--format", "mt-bench"]])
def test_wrong_usage_is_code_2(say, pairs, words):
    with pytest.raises(SystemExit) as ending:
        say(pairs, *words)
    assert ending.value.code == 2


def test_invisible_characters_of_a_model_name_are_shown(say, tmp_path):
    path = write(tmp_path / "f", [battle(winner=w, models=("base", "\x1b[31mm")) for w in ("model_a", "model_b")])
    code, out, _ = say(path)
    assert code == 0
    assert "\x1b" not in out
    assert "\\x1b[31mm" in out


def test_what_was_asked_again_and_what_competes_is_told(say, tmp_path):
    failed = {"label": None, "status": "failed", "completion": "", "error": "429"}
    rows = [verdict(**failed), verdict(), verdict(key="l"), verdict(key="m", prompt="x" * 64, prompt_name="p")]
    single_reply = {"kind": "single", "model_b": None, "label": None, "score": 7.0}
    rows.append(verdict(key="n", suite="t", **single_reply))
    code, out, err = say(write(tmp_path / "f", rows))
    assert (code, err) == (0, "")
    assert "1 lines are of questions that were asked again" in out
    assert "1 of them are of other replies or settings" in out
    assert "s, judged by j, prompt p xxxxxxxx" in out
    assert "3 verdicts were not read again" in out
    assert "as stored" not in out.partition("Scores")[2]
    assert "all rows" in say(write(tmp_path / "g", [single()]))[1]


def test_markdown_holds_no_markup_of_others(say, tmp_path):
    say(write(tmp_path / "f", [pair(81, "11", ("<b>|", "two"))]), "--out", tmp_path)
    assert "<b>" not in (tmp_path / "winrate.md").read_text()
