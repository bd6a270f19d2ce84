"""Made-up outputs: a study, an experiment, a landscape and a sweep with all artifacts that they were made from."""

import copy
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from salsa.evaluation.scores import ScoredReply
from salsa.report.landscape.summary import assemble
from salsa.store.artifact import Artifact, Store
from salsa.store.fingerprint import file_digest
from salsa.store.manifest import MANIFEST, completed, written
from tests.report import factory as experiments
from tests.report.landscape import factory as landscapes
from tests.report.study import examples as studies

SUITES = ("single", "two_turn")
ARMS = {"PPO": "ppo", "SALSA": "salsa"}
SVG = (
    '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><style>*{}</style>'
    '<g id="a"><path clip-path="url(#c)" d="M0 0L9 9"/></g><defs><clipPath id="c"><rect width="9" height="9"/>'
    '</clipPath></defs><use href="#a"/></svg>'
)


def named(*names: object) -> str:
    """Return a fingerprint that depends on the names alone."""
    return hashlib.sha256("/".join(map(str, names)).encode()).hexdigest()


def put(
    store: Store, kind: str, name: str, inputs: Mapping[str, str] = {}, files: Mapping[str, str] = {}, **manifest: Any
) -> str:
    """Put an artifact into the store as if published, without waiting for the disk; return its fingerprint."""
    fingerprint = named(kind, name)
    folder = store.root / "store" / kind / fingerprint
    folder.mkdir(parents=True)
    entries = {}
    for file, content in files.items():
        (folder / file).write_text(content, encoding="utf-8")
        entries[file] = {"sha256": file_digest(folder / file), "bytes": (folder / file).stat().st_size}
    told = {"name": name, "inputs": dict(inputs), "started": 1e9, "seconds": 2.0, "cpu_seconds": 1.5} | manifest
    (folder / MANIFEST).write_text(written(completed(kind, fingerprint, told), entries))
    return fingerprint


def scores(model: str, suite: str, text: str = "the fox is red .", judged: bool = True) -> str:
    """Return ten scored replies as a file: at prompt 7 trained models lie far apart, elsewhere close together."""
    place = sum(map(ord, model)) % 7 / 100
    lines = []
    for number in range(10):
        score = place + (9.0 if number == 7 and model == "SALSA" else 0.0)
        reply = ScoredReply(
            *(f"{suite}-{number}", f"c{number}", "one", suite, f"question {number} of {suite}?"),
            *((f"{model} says: {text}",), score if judged else None, score / 2, 5.0, number != 3),
        )
        lines.append(json.dumps(asdict(reply)))
    return "\n".join(lines) + "\n"


def models(store: Store, of: str = "", text: str = "the fox is red .") -> dict[str, str]:
    """Put the models of one replicate into the store, from the base on, and return their fingerprints."""
    base = put(store, "base", f"base{of}")
    sft = [put(store, "sft", f"sft_{index}{of}", {"base": base}) for index in (1, 2)]
    soup = put(store, "soup", f"soup{of}", {"ingredient_1": sft[0], "ingredient_2": sft[1]})
    pairs = put(store, "preferences", f"preferences{of}", {"first": sft[0], "second": sft[1]})
    reward = put(store, "reward", f"reward{of}", {"preferences": pairs, "start": sft[0]})
    found = {"SFT1": sft[0], "soup": soup}
    for arm, reference in (("PPO", sft[0]), ("SALSA", soup)):
        read = {"init": sft[0], "reward": reward, "reference_1": reference}
        found[arm] = put(store, "align", f"align {arm}{of}", read)
    return found


def judged(store: Store, found: Mapping[str, str], of: str = "", text: str = "the fox is red .") -> dict[str, str]:
    """Put the replies of models and their scores into the store; return the inputs of what reads them, by role."""
    inputs = {}
    for place, (name, model) in enumerate(found.items()):
        for suite in SUITES:
            replies = put(store, "respond", f"respond {name}{of}: {suite}", {"model": model})
            files = {"scores.jsonl": scores(name, suite, text)}
            inputs[f"m{place}:judge:{suite}"] = put(
                store, "judge", f"judge {name}{of}: {suite}", {"responses": replies}, files
            )
    return inputs


def study(store: Store, of: str = "", text: str = "the fox is red .", **parts: Any) -> str:
    """Put a study into the store, with everything that it was made from."""
    found = models(store, of, text)
    inputs = judged(store, found, of, text)
    told = copy.deepcopy(_table_1()) | {"settings": {"families": ["llama2"], "judge": "gold"}} | parts
    prints = list(inputs.values())
    for table in told["tables"]:
        for row in table["rows"]:
            for cell in filter(None, row["cells"].values()):
                cell["fingerprints"] = prints
    models_told = [
        {"key": f"m{place}", "fingerprint": model, "family": "llama2", "replicate": 0, "arm": name, "coefficient": 0.1}
        for place, (name, model) in enumerate(found.items())
    ]
    fingerprint = named("study", f"study {told['study']}{of}")
    files = {"study.json": json.dumps(told | {"fingerprint": fingerprint}), "page.html": "", "table.csv": ""}
    files |= {f"{figure['name']}.svg": SVG for figure in told["figures"]}
    config = {"arms": ARMS, "models": models_told}
    return put(store, "study", f"study {told['study']}{of}", inputs, files, config=config)


@functools.cache
def _table_1() -> dict[str, Any]:
    return studies.table_1()


def experiment(store: Store, of: str = " alone", text: str = "the fox is red .", **parts: Any) -> str:
    """Put an experiment into the store, with everything that it was made from."""
    found = models(store, of, text)
    inputs = judged(store, found, of, text)
    told = experiments.experiment()
    known = {"PPO", "SALSA", "SFT1", "soup"}
    told["rows"] = [row for row in told["rows"] if row["name"] in known]
    for row in told["rows"]:
        row["fingerprint"] = found[row["name"]]
        for estimate in row["kl"].values():
            estimate["fingerprint"] = found[row["name"]]
        row["tax"]["fingerprint"] = found[row["name"]]
        for suite in row["suites"].values():
            suite["fingerprints"] = {"judge": inputs["m0:judge:single"], "respond": inputs["m0:judge:single"]}
    told["curves"] = {name: points for name, points in told["curves"].items() if name in known}
    roles = {"SFT1": "ingredient", "soup": "soup", "PPO": "opponent", "SALSA": "policy"}
    rows = [
        {"key": f"m{place}", "name": name, "role": roles[name], "fingerprint": model}
        for place, (name, model) in enumerate(found.items())
    ]
    fingerprint = named("report", f"report{of}")
    files = dict.fromkeys(("page.html", "samples.md", "table.csv"), "")
    files["experiment.json"] = json.dumps(told | {"fingerprint": fingerprint} | parts)
    return put(store, "report", f"report{of}", inputs, files, config={"rows": rows})


def landscape(store: Store) -> str:
    """Put a landscape into the store."""
    files = {"landscape.json": _landscape(), "landscape.md": "", "line.csv": "", "plane.csv": ""}
    return put(store, "landscape", "landscape", {}, files | {"line.svg": SVG, "plane.svg": SVG})


@functools.cache
def _landscape() -> str:
    return json.dumps(assemble(landscapes.evidence(), np.random.default_rng(0), 40, 0.95))


def sweep(outputs: Path, done: str) -> None:
    """Write the record of a sweep of two cells, of which one has a result."""
    folder = outputs / "sweeps" / "0123456789abcdef"
    folder.mkdir(parents=True)
    cells = [
        {"job": job, "keys": {"soup.alpha": job}, "fingerprint": fingerprint, "overrides": []}
        for job, fingerprint in enumerate((done, "f" * 64))
    ]
    record = {"form": 1, "title": "a sweep of alpha", "command": [], "started": 1e9, "outputs": "../..", "stages": {}}
    (folder / "sweep.json").write_text(json.dumps(record | {"cells": cells}))
    (folder / "table.md").write_text("a table")


def everything(outputs: Path) -> Store:
    """Return a store that has one of each kind of result."""
    store = Store(outputs)
    study(store)
    sweep(outputs, experiment(store))
    landscape(store)
    return store


def artifact(store: Store, kind: str, name: str) -> Artifact:
    """Return the artifact of this name."""
    found = store.find(kind, named(kind, name))
    assert found is not None
    return found
