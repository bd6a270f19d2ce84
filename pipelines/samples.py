"""What a policy says in the course of its training: a page to read while it learns, and a table in the tracker."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.work import Work
from salsa.data.chat import decode_replies
from salsa.data.conversation import Prompt
from salsa.rl.trace import TracedReplies, read_trace

SHOWN = 8
"""Prompts whose replies are shown: as many as a person reads."""


class SampleBook:
    """Keeps `path` (Markdown) up to date with the replies of the traces in its folder, with their rewards.

    The page is made anew from the stored replies each time, so that a training that was killed and goes on leaves the
    page of one that was not.
    """

    def __init__(self, work: Work, tokenizer: Any, prompts: Sequence[Prompt], path: Path, folder: Path) -> None:
        self._work = work
        self._tokenizer = tokenizer
        self._prompts = list(prompts[:SHOWN])
        self._path = path
        self._folder = folder

    def add(self, step: int, replies: TracedReplies) -> None:
        """Take in the replies of the policy that has finished `step` iterations; they are in the folder already."""
        rows = [[step, *row] for row in self._rows(replies)]
        self._work.tracked.table("samples", ["step", "prompt", "reply", "reward", "ended"], rows)
        files = {int(path.stem.removeprefix("step_")): path for path in self._folder.glob("step_*.safetensors")}
        steps = [each for each in sorted(files) if each <= step]
        sections = [(each, replies if each == step else read_trace(files[each])) for each in steps]
        text = self._page([(each, self._rows(traced)) for each, traced in sections])
        unfinished = self._path.with_name(self._path.name + ".new")
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(self._path)

    def _rows(self, replies: TracedReplies) -> list[list[Any]]:
        """Return (prompt, reply, reward, ended) of the prompts that are shown."""
        ids, begins, counts = (field[: len(self._prompts)].tolist() for field in replies.sequences)
        said = [row[begin : begin + count] for row, begin, count in zip(ids, begins, counts, strict=True)]
        texts = decode_replies(self._tokenizer, said, keep_control=True)
        scores, ended = replies.scores.tolist(), replies.ended.tolist()
        asked = [prompt.conversation()[-1].content for prompt in self._prompts]
        return [list(row) for row in zip(asked, texts, scores, ended, strict=False)]

    def _page(self, sections: list[tuple[int, list[list[Any]]]]) -> str:
        """Return the replies prompt by prompt, so that the eye follows one of them through the training."""
        lines = ["# What the policy says to fixed prompts, at temperature 1, always with the same noise", ""]
        for number, prompt in enumerate(self._prompts):
            lines += [f"## {_one_line(prompt.conversation()[-1].content)}", ""]
            lines += ["| after step | reward | reply |", "|---:|---:|---|"]
            for step, rows in sections:
                _, reply, score, ended = rows[number]
                cut = "" if ended else " *(cut)*"
                lines.append(f"| {step} | {score:.2f} | {_one_line(reply)}{cut} |")
            lines.append("")
        return "\n".join(lines)


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
