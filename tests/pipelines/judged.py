"""A report's inputs where the judge reads replies: made-up replies to two suites and verdicts whose outcome is known.

Rows: SFT1, SFT2, soup, PPO (opponent), SALSA (policy) and "twin", a control that is the same model as PPO. The judge
was asked about PPO and SALSA.

mt_bench, eight questions of two turns. SALSA against PPO: wins all games of the first four questions, is split by
the order on two, loses one, and of the last no game parses. SALSA wins everything against SFT1, with which PPO ties.
Scores: SALSA 8 on first and 6 on second turns, of which the last does not parse; PPO 5.

arena_hard, four questions against "gpt-4-0314". SALSA wins one strongly in both orders, ties one, loses one, and of the
last question one game is won and the other does not parse. PPO loses every game. Among themselves, SALSA wins one
question strongly in both orders against PPO, loses one, and ties two.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.plan import Stage
from pipelines.tracking import TrackedRun
from pipelines.work import Work
from salsa.evaluation.scores import ScoredReply, write
from salsa.judging.verdict import FLIPPED, Verdict
from salsa.store.artifact import Artifact, Store
from tests.evaluation.judgments import verdict
from tests.pipelines.executions import execution

JUDGE, SNAPSHOT, BASELINE = "judge-1", "judge-1-2025-04-14", "gpt-4-0314"
MT_BENCH, ARENA = "mt_bench", "arena_hard"
QUESTIONS = {MT_BENCH: [str(81 + number) for number in range(8)], ARENA: [f"u{number}" for number in range(4)]}
TURNS = {MT_BENCH: 2, ARENA: 1}
MODELS = {name: f"{index:02d}" * 32 for index, name in enumerate(("SFT1", "SFT2", "soup", "PPO", "SALSA"))}
MODELS["twin"] = MODELS["PPO"]
ROLES = {"SFT1": "ingredient", "SFT2": "ingredient", "soup": "soup", "PPO": "opponent", "SALSA": "policy"}
KEYS = {name: str(index) for index, name in enumerate(MODELS)}
ANCHORS = ("sft_1", "sft_2", "soup")


def called(name: str) -> str:
    """Return what the stage `verdicts` calls a model."""
    return MODELS[name][:12] if name in MODELS else name


def games(suite: str, own: str, other: str, labels: Mapping[str, Iterable[str | None]]) -> list[Verdict]:
    """Return games in both orders: for each question the labels of each turn as for the compared model shown first."""
    found = []
    for question, said in labels.items():
        told = list(said)
        for place, label in enumerate(told):
            turn, order = divmod(place, 2)
            models = (called(own), called(other)) if order == 0 else (called(other), called(own))
            shown = None if label is None else (label if order == 0 else FLIPPED[label])
            found.append(_verdict(suite, question, turn + 1, models, order, label=shown))
    return found


def graded(own: str, scores: Mapping[str, Sequence[float | None]]) -> list[Verdict]:
    return [
        _verdict(MT_BENCH, question, turn, (called(own), None), 0, score=score)
        for question, said in scores.items()
        for turn, score in enumerate(said, start=1)
    ]


def _verdict(suite: str, question: str, turn: int, models: tuple[str, str | None], order: int, **says: Any) -> Verdict:
    label, score = says.get("label"), says.get("score")
    status = "unparsed" if label is None and score is None else "judged"
    values = {"suite": suite, "question": question, "cluster": question, "turn": turn, "order": order}
    values |= {"model_a": models[0], "model_b": models[1], "kind": "single" if models[1] is None else "pair"}
    values |= {"label": label, "score": score, "status": status, "completion": "" if status == "judged" else "hm"}
    key = json.dumps([suite, question, turn, order, models])
    return Verdict.from_json(verdict(key=key, judge=JUDGE, snapshot=SNAPSHOT, **values))


def asked() -> list[tuple[dict[str, Any], list[Verdict]]]:
    """Return each entry of the report's `verdicts` (without its input) with what the judge said."""
    ids, win, tie, loss = QUESTIONS[MT_BENCH], ["A>B"] * 4, ["A=B"] * 4, ["B>A"] * 4
    split = ["A>B", "B>A"] * 2
    ppo = dict(zip(ids, [win] * 4 + [split] * 2 + [loss, [None] * 4], strict=True))
    salsa: dict[str, list[float | None]] = {question: [8.0, 6.0] for question in ids}
    salsa[ids[-1]] = [8.0, None]
    hard = dict(zip(QUESTIONS[ARENA], (["A>>B"] * 2, ["A=B"] * 2, ["B>A"] * 2, ["A>B", None]), strict=True))
    lost = dict.fromkeys(QUESTIONS[ARENA], ["B>A"] * 2)
    among = dict(zip(QUESTIONS[ARENA], (["A>>B"] * 2, ["B>A"] * 2, ["A=B"] * 2, ["A=B"] * 2), strict=True))
    return [
        (entry(MT_BENCH, "single", "PPO"), graded("PPO", {question: [5.0, 5.0] for question in ids})),
        (entry(MT_BENCH, "single", "SALSA"), graded("SALSA", salsa)),
        (entry(MT_BENCH, "pair", "PPO", "SFT1"), games(MT_BENCH, "PPO", "SFT1", dict.fromkeys(ids, tie))),
        (entry(MT_BENCH, "pair", "SALSA", "PPO"), games(MT_BENCH, "SALSA", "PPO", ppo)),
        (entry(MT_BENCH, "pair", "SALSA", "SFT1"), games(MT_BENCH, "SALSA", "SFT1", dict.fromkeys(ids, win))),
        (entry(ARENA, "pair", "SALSA", "PPO"), games(ARENA, "SALSA", "PPO", among)),
        (entry(ARENA, "pair", "PPO", baseline="all"), games(ARENA, "PPO", BASELINE, lost)),
        (entry(ARENA, "pair", "SALSA", baseline="all"), games(ARENA, "SALSA", BASELINE, hard)),
    ]


def entry(suite: str, kind: str, row: str, opponent: str | None = None, baseline: str | None = None) -> dict[str, Any]:
    other = None if opponent is None else KEYS[opponent]
    return {"row": KEYS[row], "suite": suite, "kind": kind, "opponent": other, "baseline": baseline}


class Made:
    """A store with everything that a report reads, and the report's stage."""

    def __init__(self, folder: Path, price: float | None = 0.01, **metrics: Any) -> None:
        """Verdicts have a price each; `metrics` are of every artifact with verdicts."""
        self.folder, self.store = folder, Store(folder / "outputs")
        self.inputs: dict[str, Artifact] = {}
        self.suites = [MT_BENCH, ARENA]
        self.entries = []
        for number, (told, verdicts) in enumerate(asked()):
            role = f"verdicts_{number}"
            self.inputs[role] = self._verdicts(verdicts, price, metrics)
            self.entries.append(told | {"input": role})
        for name in MODELS:
            self._evaluated(name)
        bins = [{"predicted": 0.7, "observed": 0.75, "count": 4}]
        measured = {"margins": [0.5, -0.2, 0.3, 0.1], "clusters": list("abcd"), "brier": 0.2, "ece": 0.05}
        self._put("reward", "reward", {"reward.json": measured | _REWARD | {"reliability": bins}})

    def work(self, **changes: Any) -> Work:
        """Return the report's work; `changes` are keys of its configuration."""
        rows = [
            {"key": KEYS[name], "name": name, "role": ROLES.get(name, "control"), "fingerprint": fingerprint}
            | {"init": None, "reference": None, "kl_coef": None}
            for name, fingerprint in MODELS.items()
        ]
        config: dict[str, Any] = {"rows": rows, "suites": self.suites, "samples": 4, "judge": JUDGE}
        config |= {"tie_margin": None, "rounds": 200, "level": 0.95, "model": "llama2", "scale": "tiny"}
        config |= {"soup": "uniform", "seed": 0, "replicate": 0, "verdicts": self.entries} | changes
        out = self.folder / "out"
        out.mkdir(exist_ok=True)
        stage = Stage("report", "report", config, {}, {"settings": {"judge": {"name": "openai"}}}, "e" * 64)
        context = execution(self.folder)
        return Work(stage, self.inputs, out, self.folder / "unfinished", context, TrackedRun(), lambda *_: None)

    def _verdicts(self, found: Sequence[Verdict], price: float | None, more: Mapping[str, Any]) -> Artifact:
        text = "".join(json.dumps(each.as_json()) + "\n" for each in found)
        states = [each.status for each in found]
        metrics: dict[str, Any] = {"requests": len(found), "calls": len(found) + 1}
        metrics |= {state: states.count(state) for state in ("judged", "unparsed", "failed")}
        metrics |= {"tokens_in": 2000 * len(found), "tokens_out": 100 * len(found)}
        metrics["price"] = None if price is None else price * len(found)
        return self._publish("verdicts", {"verdicts.jsonl": text}, metrics | more, {})

    def _evaluated(self, name: str) -> None:
        key = KEYS[name]
        for suite in self.suites:
            folder = self.store.temporary("judge", self._next())
            write(folder / "scores.jsonl", replies(name, suite))
            responses = {"responses": f"{len(self.inputs):064x}"}
            manifest = {"metrics": {"prompts": len(QUESTIONS[suite]), "too_long": 0}, "inputs": responses}
            self.inputs[f"{key}:judge:{suite}"] = self.store.publish("judge", self._next(), folder, manifest)
        per_reply = {"k1": [0.1, 0.2, 0.3], "k3": [0.1, 0.2, 0.2]}
        final = {"clusters": list("abc"), "divergences": dict.fromkeys(ANCHORS, per_reply)}
        self._put(f"{key}:anchors", "anchors", {"anchors.json": {"final": final, "points": []}})
        self._put(f"{key}:tax", "tax", {"tax.json": {"recall": None, "perplexity": 9.0}})

    def _put(self, role: str, kind: str, files: Mapping[str, Any]) -> None:
        self.inputs[role] = self._publish(kind, {name: json.dumps(value) for name, value in files.items()}, {}, {})

    def _publish(
        self, kind: str, files: Mapping[str, str], metrics: Mapping[str, Any], inputs: Mapping[str, str]
    ) -> Artifact:
        fingerprint = self._next()
        folder = self.store.temporary(kind, fingerprint)
        for name, text in files.items():
            (folder / name).write_text(text)
        return self.store.publish(kind, fingerprint, folder, {"metrics": metrics, "inputs": inputs})

    def _next(self) -> str:
        return f"{0xA000 + len(self.inputs):064x}"


_REWARD = {"correlation": None, "normaliser_finished": True}


def replies(name: str, suite: str) -> list[ScoredReply]:
    """Return the replies of a model; SALSA's are the longest."""
    words = 12 if name == "SALSA" else 6
    return [
        ScoredReply(
            prompt_id=question,
            cluster=question,
            category="",
            suite=suite,
            question=f"what of {question}?",
            replies=tuple(f"{name} says {'word ' * words}to {turn}" for turn in range(TURNS[suite])),
            judge=None,
            reward=0.5,
            length=float(words),
            ended=True,
        )
        for question in QUESTIONS[suite]
    ]
