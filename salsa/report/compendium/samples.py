"""The section of samples: prompts with the replies of all models below each other, and their scores."""

from html import escape

from salsa.report.compendium import elements
from salsa.report.compendium.replies import APART, EVENLY, Book, Model, Reply, Sample
from salsa.report.markup import one_line, shorten
from salsa.report.samples import MISSING, QUESTION_CHARACTERS, REPLY_CHARACTERS
from salsa.report.study import looks
from salsa.report.study.html import Looks

HOW = (
    f"How prompts were chosen: from each suite the {APART} on which the judge's scores of the trained models lie "
    "farthest apart, whoever is ahead (the reward model's scores where the judge gives none; of equal ones the "
    f"earlier), then {EVENLY} from the middle of the others, chosen without a look at the replies. They show what "
    "replies are like and are no evidence of who is better: prompts on which models differ are not typical."
)
_SUMMARY = 110
_OPEN = 2


def section(book: Book, title: str, judge: str, looked: Looks, opened: bool) -> str:
    """Return the samples of one result, the first ones unfolded; `title` is HTML."""
    marks = [looks.mark(model.role, looked.get((model.role, model.name))) for model in book.models]
    parts = [_prompt(book, marks, sample, judge, number < _OPEN) for number, sample in enumerate(book.samples)]
    about = f" <small>{elements.line(book.about)}</small>" if book.about else ""
    summary = f"<h3>{title}</h3>{about} <small>{elements.counted(len(parts), 'prompt')}</small>"
    return elements.fold(summary, "".join(parts), opened)


def _prompt(book: Book, marks: list[str], sample: Sample, judge: str, opened: bool) -> str:
    line = shorten(one_line(sample.question), _SUMMARY)
    why = "scores far apart" if sample.apart else "chosen without a look"
    summary = f"<strong>{elements.line(sample.suite)}</strong>: {elements.line(line)} <small>{why}</small>"
    asked = f'<p class="asked">{elements.block(sample.question, QUESTION_CHARACTERS)}</p>'
    question = "" if line == sample.question.strip() else asked
    known = [reply.judge for reply in sample.replies.values() if reply.judge is not None]
    best = max(known) if len(set(known)) > 1 else None
    own = zip(book.models, marks, strict=True)
    rows = (_row(model, mark, sample.replies.get(model.name), best) for model, mark in own)
    heads = ("model", f"judge ({judge})", "reward model", "reply")
    return elements.fold(summary, question + elements.listing(f"Replies to: {line}", heads, rows, "replies"), opened)


def _row(model: Model, mark: str, reply: Reply | None, best: float | None) -> list[str]:
    tip = f' title="model {escape(model.fingerprint[:16])}"'
    name = f"<span{tip}>{mark}{elements.line(model.name)}</span>"
    if reply is None:
        return [name, MISSING, MISSING, MISSING]
    judged = _number(reply.judge)
    if best is not None and reply.judge == best:
        judged = f"<strong>{judged}</strong>"
    text = elements.block(reply.text, REPLY_CHARACTERS) or "<em>(empty)</em>"
    cut = "" if reply.ended else ' <span title="cut at the length limit">✂</span>'
    return [name, judged, _number(reply.reward), f"{text}{cut}"]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}".replace("-", "−")
