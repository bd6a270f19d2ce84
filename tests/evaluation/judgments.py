"""Rows as FastChat and Arena-Hard write them, and the copies of published files that tests may use."""

import gzip
import json
from pathlib import Path

import pytest

from salsa.judging.verdict import Verdict

PUBLISHED = Path(__file__).parents[3] / "shared" / "data"
"""Copies of published files beside the repository; they are other people's text and not part of it."""
needs_published = pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"published judgment files are not at {PUBLISHED}")


def write(path, rows):
    """Write rows as lines of JSON, gzipped if the name ends so; a row that is a text is written as it is."""
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def single(question=81, model="m", score=7, turn=1, text=None, judge=("gpt-4", "single-v1"), **more):
    """Return a row of `gpt-4_single.jsonl`; a score of None is a text without one."""
    text = ("No verdict." if score is None else f"Good. Rating: [[{score}]]") if text is None else text
    stored = -1 if score is None else score
    row = {"question_id": question, "model": model, "judge": list(judge), "judgment": text, "score": stored}
    return row | {"user_prompt": f"p{question}", "turn": turn, "tstamp": 1.7e9} | more


_SAYS = ({"1": "[[A]]", "2": "[[B]]", "=": "[[C]]"}, {"1": "[[B]]", "2": "[[A]]", "=": "[[C]]"})
_WON = {"1": "model_1", "2": "model_2", "=": "tie", "!": "error"}


def pair(question=81, games="11", models=("one", "two"), turn=1, replies=("a reply", "another"), **more):
    """Return a row of `gpt-4_pair.jsonl`: who wins each game ("1", "2", "=" or "!" for an error)."""
    row = {"question_id": question, "model_1": models[0], "model_2": models[1], "judge": ["gpt-4", "pair-v2"]}
    for index, won in enumerate(games):
        shown = replies if index == 0 else replies[::-1]
        row |= {
            f"g{index + 1}_winner": _WON[won],
            f"g{index + 1}_judgment": "$ERROR$" if won == "!" else f"So: {_SAYS[index][won]}",
            f"g{index + 1}_user_prompt": "[User Question]\nWhy?\n\n"
            f"[The Start of Assistant A's Answer]\n{shown[0]}\n[The End of Assistant A's Answer]\n\n"
            f"[The Start of Assistant B's Answer]\n{shown[1]}\n[The End of Assistant B's Answer]",
        }
    return row | {"turn": turn, "tstamp": 1.7e9} | more


def arena(question="q", labels=("A=B", "A=B"), model="m", **more):
    """Return a row in the layout of Arena-Hard's first release; a label of None is a text without one."""
    games = [{"user_prompt": "?", "judgment": f"Mine. Verdict: [[{label}]]", "score": label} for label in labels]
    for game in games:
        if game["score"] is None:
            game["judgment"] = "I cannot say."
    return {"question_id": question, "model": model, "judge": "gpt-4-1106-preview", "games": games} | more


def arena_two(question="q", labels=("A=B", "A=B"), model="m", baseline="o3-mini", category="hard_prompt", **more):
    """Return a row in the layout of the current release; a label of None is a game that was never played."""
    games = [
        label
        and {
            "score": label,
            "judgment": {"answer": f"It is [[{label}]]."},
            "prompt": [{"role": "user", "content": "?"}],
        }
        for label in labels
    ]
    row = {"uid": question, "category": category, "judge": "gpt-4.1", "model": model, "baseline": baseline}
    return row | {"games": games} | more


def battle(question="q", winner="model_a", models=("base", "m")):
    """Return a row of `arena_hard_battles.jsonl`."""
    return {"question_id": question, "model_a": models[0], "model_b": models[1], "winner": winner}


def verdict(**changes):
    """Return a line of our own verdicts."""
    values = {"key": "k", "suite": "s", "question": "q", "category": "", "cluster": "q", "turn": 1, "kind": "pair"}
    values |= {"model_a": "a", "model_b": "b", "order": 0, "judge": "j", "snapshot": "", "prompt": "", "error": ""}
    values |= {"prompt_name": "", "completion": "A>B", "label": "A>B", "score": None, "status": "judged"}
    values |= {"tokens_in": 1, "tokens_out": 1, "price": 0.1, "seconds": 1.0, "attempt": 1, "time": ""}
    return Verdict(**(values | changes)).as_json()
