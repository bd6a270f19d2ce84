"""Stage `judge`: scores a model's replies to a suite with the judge and with the optimised reward model."""

from typing import Any

from pipelines.scoring import Answers, load_judge, load_scorer
from pipelines.stages.respond import RESPONSES
from pipelines.work import Work
from salsa.data.conversation import Message, Prompt
from salsa.data.source import Source
from salsa.evaluation.scores import ScoredReply, write
from salsa.report.samples import in_turns

SCORES = "scores.jsonl"


def run(work: Work) -> tuple[str, dict[str, Any]]:
    """Leave `scores.jsonl`, one `ScoredReply` a prompt; means over the turns."""
    rows = work.inputs["responses"].lines(RESPONSES)
    answers = Answers(
        prompts=[_prompt(row["prompt"]) for row in rows],
        texts=[tuple(row["replies"]) for row in rows],
        ends=[tuple(row["ended"]) for row in rows],
        prompt_ids=[ids for row in rows for ids in row["prompt_ids"]],
        reply_ids=[ids for row in rows for ids in row["reply_ids"]],
    )
    reward = load_scorer(work, "reward").scores(answers)
    judge = load_judge(work)
    judged = judge.scores(answers) if judge else []
    length = answers.mean_over_turns([float(len(ids)) for ids in answers.reply_ids])
    scored = [
        ScoredReply(
            prompt_id=prompt.id,
            cluster=prompt.cluster or prompt.id,
            category=prompt.category,
            suite=work.config["suite"],
            question=_shown(work.source, prompt),
            replies=tuple(work.source.display(text) for text in answers.texts[index]),
            judge=judged[index] if judged else None,
            reward=reward[index],
            length=length[index],
            ended=all(answers.ends[index]),
        )
        for index, prompt in enumerate(answers.prompts)
    ]
    write(work.folder / SCORES, scored)
    about = work.inputs["responses"].metrics
    metrics = {
        "prompts": len(scored),
        **{key: about[key] for key in ("too_long", "cut", "contaminated") if about.get(key) is not None},
        "reward": sum(reward) / len(reward),
        "length": sum(length) / len(length),
        "unfinished": 1 - sum(reply.ended for reply in scored) / len(scored),
    }
    says = f"{len(scored)} prompts, reward {metrics['reward']:.2f}"
    if judged:
        metrics["judge"] = sum(judged) / len(judged)
        says = f"{len(scored)} prompts, mean judge score {metrics['judge']:.2f}, reward {metrics['reward']:.2f}"
    return says, metrics


def _prompt(row: dict[str, Any]) -> Prompt:
    context = tuple(Message(**message) for message in row["context"])
    return Prompt(**(row | {"context": context, "questions": tuple(row["questions"])}))


def _shown(source: Source, prompt: Prompt) -> str:
    """Return a prompt as a person reads it: who says what where there is a context, which turn where there are some."""
    before = [f"{message.role}: {source.display(message.content)}" for message in prompt.context]
    questions = in_turns([source.display(question) for question in prompt.questions])
    return "\n".join([*before, f"user: {questions}" if before else questions])
