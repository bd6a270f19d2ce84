"""The section of studies: the verdict of each, its main figure and table, its coefficients, and where all of it is."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from salsa.report.compendium import elements, pictures
from salsa.report.compendium.contents import Result
from salsa.report.study import arms, claims, gaps, html, looks, reading, tables
from salsa.report.study.schema import headline, leading, others, replicates

ORDER = (
    *("table_1", "frontier", "alpha_ablation", "init_x_reference", "out_of_distribution", "ppo_vs_sft"),
    *("reward_line", "reward_plane", "soup_n", "mkl_ablation", "moving_reference", "mean_kl", "high_kl_failure"),
    "cost",
)
"""The order in which studies are read: the claim, how sure it is, what explains it; others follow by name."""
DECIDED, OPEN = "decided", "undecided"
_LATER = ("temperature", "prompts", "training")
"""What older studies do not tell of themselves: there it may be what the newer one tells."""


def ordered(studies: Sequence[Result]) -> list[Result]:
    """Return the studies by name, of one name those with the most replicates first, then the newest."""

    def key(study: Result) -> tuple[int, str, int, float]:
        name = str(study.told["study"])
        place = ORDER.index(name) if name in ORDER else len(ORDER)
        return place, name, -int(study.told["replicates"]), -(study.published or 0.0)

    return sorted(studies, key=key)


def variants(studies: Sequence[Result]) -> dict[str, str]:
    """Return by fingerprint what tells a study from the others of its name; nothing where there is only one."""
    labels: dict[str, str] = {}
    for name in dict.fromkeys(study.told["study"] for study in studies):
        own = [study for study in studies if study.told["study"] == name]
        told = [described(study) for study in own]
        differing = [key for key in told[0] if _differs([each[key] for each in told], key)]
        texts = [", ".join(each[key] for key in differing if each[key]) for each in told]
        for study, text in zip(own, texts, strict=True):
            alike = texts.count(text) > 1
            when = f"{text}, {elements.day(study.published)}" if text else elements.day(study.published)
            labels[study.fingerprint] = "" if len(own) == 1 else when if alike else text
    return labels


def described(study: Result) -> dict[str, str]:
    """Return in words what may tell studies of one name apart."""
    told, settings = study.told, study.told["settings"]
    selection, config = told["selection"] or {}, study.manifest.get("config", {})
    return {
        "name": str(told["study"]),
        "replicates": replicates(told),
        "regime": f"regime {told['regime']}",
        "families": " + ".join(map(str, settings.get("families", ()))),
        "scale": f"scale {told['scale']}",
        "judge": f"judge {settings.get('judge')}",
        "suites": f"suites {', '.join(map(str, settings.get('suites', ())))}",
        "arms": f"arms {', '.join(config.get('arms', ()))}" if config.get("arms") else "",
        "grid": f"coefficients {', '.join(f'{value:g}' for value in selection.get('grid', ()))}" if selection else "",
        "selection": f"coefficients chosen on {selection['replicates']} replicates" if selection else "",
        "seed": f"seed {settings.get('seed')}",
        "temperature": f"temperature {settings['temperature']:g}" if "temperature" in settings else "",
        "prompts": f"prompts {', '.join(map(str, settings['prompts'].values()))}" if settings.get("prompts") else "",
        "training": _training(told),
    }


def _training(told: Mapping[str, Any]) -> str:
    """Return the sizes of fine-tuning and of RL, which a small budget sets, where a study tells them."""
    families = (told.get("made_with") or {}).get("families", {}).values()
    sizes = [(each.get("sft", {}).get("steps"), each.get("policy", {}).get("steps")) for each in families]
    return " or ".join(f"{sft} SFT steps, {policy} PPO iterations" for sft, policy in dict.fromkeys(sizes))


def versions(studies: Sequence[Result]) -> list[list[Result]]:
    """Return studies that are described alike together, the newest first; as the first of each is met."""
    groups: list[list[Result]] = []
    for study in studies:
        own = next((group for group in groups if _alike(described(group[0]), described(study))), None)
        if own is None:
            groups.append([study])
        else:
            own.append(study)
    return [sorted(group, key=lambda study: -(study.published or 0.0)) for group in groups]


def _differs(values: Sequence[str], key: str) -> bool:
    return len({value for value in values if value or key not in _LATER}) > 1


def _alike(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    return all(mine == other[key] or (key in _LATER and "" in (mine, other[key])) for key, mine in one.items())


def joined(studies: Sequence[Result], parts: Mapping[str, str]) -> str:
    """Return the parts of studies by fingerprint one below the other; those of earlier versions are folded."""
    shown = []
    for newest, *earlier in versions(studies):
        shown.append(parts[newest.fingerprint])
        if earlier:
            inside = "".join(parts[study.fingerprint] for study in earlier)
            title = elements.line(newest.told["title"])
            shown.append(elements.fold(f"Earlier versions of: {title} <small>{len(earlier):,}</small>", inside))
    return "".join(shown)


def headlines(studies: Sequence[Result], labels: Mapping[str, str]) -> str:
    """Return the main verdict of each study, decided ones marked by form and word, with a link to its section.

    Of studies that are described alike the newest stands for all; the others are folded.
    """
    items, names = [], set()
    for newest, *earlier in versions(studies):
        main = "" if newest.told["study"] in names else " main"
        names.add(newest.told["study"])
        inside = "".join(_headline(study, labels[study.fingerprint]) for study in earlier)
        folded = elements.fold(f"earlier versions <small>{len(earlier):,}</small>", f"<ul>{inside}</ul>")
        items.append(_headline(newest, labels[newest.fingerprint], main, folded if earlier else ""))
    return f'<ul class="headlines">{"".join(items)}</ul>'


def _headline(study: Result, label: str, main: str = "", below: str = "") -> str:
    """Return what a study says in large letters as an item of a list, with what is to stand below it."""
    verdict = headline(study.told)
    said = [elements.sentence(each["sentence"]) for each in leading(study.told)] or ["no verdict"]
    sentences = "".join(f'<br><span class="sentence">{sentence}</span>' for sentence in said)
    return (
        f'<li class="{state(verdict)}{main}">{badge(verdict)} <a href="#{study.anchor}">'
        f"{elements.line(study.told['title'])}</a>{_variant(label)}{sentences}{below}</li>"
    )


def state(verdict: Mapping[str, Any] | None) -> str:
    """Return the class of a verdict: whether the data decide."""
    return DECIDED if verdict is not None and verdict["decided"] is not None else OPEN


def badge(verdict: Mapping[str, Any] | None) -> str:
    """Return the mark of a verdict, which tells by form and by word, not by colour alone, whether it is decided."""
    found = state(verdict)
    return (
        f'<span class="badge {found}"><span aria-hidden="true">{"●" if found == DECIDED else "○"}</span> {found}</span>'
    )


def _variant(label: str) -> str:
    return f' <span class="variant">{elements.line(label)}</span>' if label else ""


def section(study: Result, label: str, page: Path, main: bool, drawn: bool) -> str:
    """Return one study: question, arms, verdicts, figure, table, coefficients and links.

    All but the first of a name (`main`) are folded; the figure of one that is not to be `drawn` is linked.
    """
    told = study.told
    top = [f"<h3>{elements.line(told['title'])}{_variant(label)}</h3>"]
    top.append(f'<p class="question">{elements.line(told["question"])}</p>')
    top += [
        f'<p class="verdict {state(each)}">{badge(each)} {elements.sentence(each["sentence"])}</p>'
        for each in leading(told)
    ]
    families = "" if reading.models(told) else f"  ·  {', '.join(map(str, told['settings'].get('families', ())))}"
    about = f"{reading.about(told)}{families}"
    when = f"{elements.day(study.published)} · {elements.short(study.fingerprint)}"
    top.append(f'<p class="sub">{elements.line(about)} · {when}</p>')
    top.append(elements.warnings(("Missing", gap) for gap in gaps.sentences(told)))
    rest = "".join(_rest(study, drawn))
    rest = rest if main else elements.fold("Its figure, table and coefficients", rest)
    return f'<article id="{study.anchor}">{"".join(top)}{_links(study, page, drawn)}{rest}</article>'


def _rest(study: Result, drawn: bool) -> Iterator[str]:
    told = study.told
    yield html.arms(arms.arms(told))
    items = [
        f'<li class="verdict {state(each)}">{badge(each)} {elements.sentence(each["sentence"])}</li>'
        for each in others(told)
    ]
    yield f'<ul class="verdicts">{"".join(items)}</ul>' if items else ""
    yield from (f'<p class="caption">{elements.sentence(sentence)}</p>' for sentence in reading.decided(told))
    yield elements.warnings(("Warning", text) for text in told["warnings"])
    yield from _figure(study) if drawn else ()
    shown = tables.tables(told)
    yield from (html.table(table, looked=looks.of_all(told)) for table in shown)
    yield from _coefficients(told)
    yield from _paper(told)
    notes = [*reading.sentences(told, shown), *reading.marks(told, shown, coloured=True), *told["notes"]]
    inside = "".join(f"<li>{elements.sentence(note.replace('`', ''))}</li>" for note in notes)
    yield elements.fold("How to read it", f'<ul class="prose">{inside}</ul>')


def _figure(study: Result) -> Iterator[str]:
    for name, title in list(study.told["drawn"].items())[:1]:
        try:
            yield pictures.inlined(study.folder, name, study.anchor, title)
        except (OSError, ValueError) as error:
            yield f'<p class="warning">The figure is not shown: {elements.line(error)}</p>'


def _coefficients(told: Mapping[str, Any]) -> Iterator[str]:
    """Yield the chosen KL coefficients in a line, and the curve behind them to unfold."""
    chosen, selection = tables.selection(told), told["selection"]
    if chosen is None:
        return
    several = len({each.get("family") for each in selection["chosen"]}) > 1
    parts = (_coefficient(each, several) for each in selection["chosen"])
    line = f"<strong>Chosen KL coefficients:</strong> {elements.line('; '.join(parts))}"
    yield elements.fold(line, html.table(chosen, looked=looks.of_all(told)))


def _coefficient(chosen: Mapping[str, Any], several: bool) -> str:
    family = f" ({chosen['family']})" if several else ""
    value = "none" if chosen["coefficient"] is None else f"{chosen['coefficient']:g}"
    return f"{chosen['arm']}{family} {value}{' (edge of the grid)' if chosen['edge'] else ''}"


def _paper(told: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the paper reports beside what came out here, to unfold."""
    rows = [[elements.sentence(text) for text in (each.claim, each.here, each.verdict)] for each in claims.claims(told)]
    if rows:
        table = elements.listing(claims.about(told), ("the paper", "here", "verdict"), rows, "plain")
        yield elements.fold(elements.line(claims.TITLE), table)


def _links(study: Result, page: Path, drawn: bool) -> str:
    files = [("full page", "page.html"), ("table.csv", "table.csv"), ("table.tex", "table.tex")]
    files += [(title, f"{name}.svg") for name, title in list(study.told["drawn"].items())[drawn:]]
    found = [elements.link(study.folder / file, page, text) for text, file in files if (study.folder / file).is_file()]
    lineage = f' · <a href="#lineage-{study.anchor}">lineage</a>' if study.manifest else ""
    return f'<p class="links">{" · ".join(found)}{lineage}</p>'
