"""Records come back as they were written."""

from pathlib import Path

from salsa.data.conversation import Message, Pair, Prompt
from salsa.data.records import (
    RecordFile,
    RecordWriter,
    from_conversation,
    from_pair,
    from_prompt,
    to_conversation,
    to_pair,
    to_prompt,
)

CONVERSATION = (Message("user", "Größe?\u2028 new\nline"), Message("assistant", "😀"))


def test_records_come_back_in_the_order_asked_for(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "deep" / "records.jsonl") as writer:
        for number in range(5):
            writer.write({"number": number, **from_conversation(CONVERSATION)})
    file = RecordFile(tmp_path / "deep" / "records.jsonl")
    assert (writer.count, len(file)) == (5, 5)
    assert [record["number"] for record in file.read([4, 0, 4])] == [4, 0, 4]
    assert to_conversation(file.read(range(1))[0]) == CONVERSATION


def test_pairs_and_prompts_survive(tmp_path: Path) -> None:
    pair = Pair(CONVERSATION[:1], "yes", "no", "cluster")
    prompt = Prompt("id", ("one?", "two?"), CONVERSATION, "cluster", "category", {"facts": [1, 2]})
    with RecordWriter(tmp_path / "records.jsonl") as writer:
        writer.write(from_pair(pair))
        writer.write(from_prompt(prompt))
    first, second = RecordFile(tmp_path / "records.jsonl").read([0, 1])
    assert to_pair(first) == pair
    assert to_prompt(second) == prompt


def test_an_empty_file_has_no_records(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "none.jsonl"):
        pass
    assert len(RecordFile(tmp_path / "none.jsonl")) == 0
