"""The chaos test: an undisturbed run, the same again under kills, one last run, and what a comparison finds."""

import os
import random
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.chaos import comparison, shells
from tests.chaos.comparison import Lost
from tests.chaos.ledger import Budget, Ledger
from tests.chaos.points import POINTS
from tests.chaos.shells import Ending, Shell

SMALL = (
    *("base.steps=24", "sft.steps=10", "sft.demonstrations=40", "preferences.pairs=48", "preferences.heldout=24"),
    *("reward.steps=10", "reward.normaliser_replies=24", "policy.batch_prompts=16", "policy.trace_every=2"),
    *("suite.names=[single]", "suite.prompts=12", "suite.anchor_prompts=12", "suite.tax_documents=8"),
    *("suite.samples=4", "logger=wandb", "compute.workers=1"),
)
"""Every kind of stage, each as short as it can be."""
SWEEP = ("-m", "policy.steps=14", "policy.kl_coef=.1,.4", "model=llama2,gemma")
"""Four jobs that share stages, so that processes meet at locks."""
WEIGHTS = {"base": 6.0, "sft": 4.0, "reward": 4.0, "align": 6.0, "report": 2.0}
"""What a stage counts when kills are spread over the work; others count 1."""
NAMED = 0.6
"""Share of the kills that happen at named points; the others come at random times."""
PAUSE = 0.7
"""Mean seconds between two tries of a kill at a random time."""
TRACKED = 4
"""One shell in so many keeps offline W&B runs."""
GRACE_SECONDS = 20.0
"""How long workers of killed commands may take to end by themselves."""


_COMPUTED = re.compile(r"^[1-9]\d* stages? computed.*", re.MULTILINE)


class Stuck(RuntimeError):
    """The test took longer than it may; what was going on is in the message."""


@dataclass(frozen=True)
class Round:
    """One undisturbed run and one under kills; every list of sentences should be empty."""

    folder: str
    stages: int
    kills: list[dict[str, Any]]
    endings: list[Ending]
    repeated: dict[str, int]
    """How often stages of a kind were begun again."""
    lost: Lost
    checkpoint_seconds: float
    left_in_temporary_folder: int
    """Bytes that killed processes left in the system's folder for temporary files."""
    seconds: float
    findings: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Chaos:
    """What to run: the jobs, how many shells, how many kills, what chance starts from, and the longest time."""

    folder: Path
    arguments: Sequence[str]
    processes: int
    kills: int
    seed: int
    checkpoint_seconds: float
    time_out: float
    hit: Sequence[str] = ()
    """Points that had kills in earlier rounds."""

    def run(self, number: int) -> Round:
        """Run a round of its own settings (`seed`), compare, and return what was found."""
        started = time.monotonic()
        home = self.folder / f"round_{number}"
        outputs, reference, ledger = home / "outputs", home / "reference", Ledger(home / "ledger")
        own = [f"seed={number}", f"compute.checkpoint_seconds={self.checkpoint_seconds}", f"outputs.dir={outputs}"]
        arguments = [*self.arguments, *SMALL, *own]
        home.mkdir(parents=True)
        self._undisturbed(arguments, home, "reference.txt")
        # The same path for both: a report names the folder of its outputs.
        outputs.rename(reference)
        ledger.open(self._budget(reference, outputs))
        endings = self._under_kills(arguments, outputs, ledger, home)
        abandoned = _abandoned(ledger.folder)
        last = self._undisturbed(arguments, home, "last.txt")
        findings = self._findings(reference, outputs, ledger, endings)
        findings["processes left"] = abandoned
        findings["computed by the last run"] = _COMPUTED.findall(last)
        begun = [fact["kind"] for fact in ledger.facts() if fact["what"] == "began"]
        stages = len(list(outputs.glob("store/*/*")))
        repeated = {kind: begun.count(kind) - len(list(outputs.glob(f"store/{kind}/*"))) for kind in sorted(set(begun))}
        return Round(
            str(home),
            stages,
            ledger.kills(),
            endings,
            {kind: count for kind, count in repeated.items() if count},
            comparison.lost_work(ledger.facts()),
            self.checkpoint_seconds,
            sum(path.stat().st_size for path in (home / "tmp").rglob("*") if path.is_file()),
            time.monotonic() - started,
            findings,
        )

    def _budget(self, reference: Path, outputs: Path) -> Budget:
        total = sum(WEIGHTS.get(path.parent.name, 1.0) for path in reference.glob("store/*/*"))
        missed = len(set(POINTS) - set(self.hit)) if self.hit else 0
        named = max(round(self.kills * NAMED), min(self.kills, missed))
        slack = max(1, self.kills // 20)
        return Budget(str(outputs), named, self.kills - named, WEIGHTS, total, slack, list(self.hit))

    def _undisturbed(self, arguments: Sequence[str], home: Path, log: str) -> str:
        """Run the command once without kills and return what it printed; raises if it fails."""
        path = home / log
        with path.open("wb") as output:
            process = shells.launch(arguments, _environment(home, tracked=False), output)
            code = process.wait(timeout=self.time_out)
        printed = path.read_text(errors="replace")
        if code != 0:
            raise RuntimeError(f"an undisturbed run ended with code {code}: {printed[-2000:]}")
        return printed

    def _under_kills(self, arguments: Sequence[str], outputs: Path, ledger: Ledger, home: Path) -> list[Ending]:
        chance = random.Random(self.seed)
        running = [
            Shell(index, arguments, outputs, ledger, str(self.seed), _environment(home, index % TRACKED == TRACKED - 1))
            for index in range(self.processes)
        ]
        deadline = time.monotonic() + self.time_out
        following = time.monotonic()
        try:
            for shell in running:
                shell.start()
            while not all(shell.finished for shell in running):
                for shell in running:
                    shell.poll()
                if time.monotonic() > following:
                    chance.choice(running).kill_at_random(chance)
                    following = time.monotonic() + chance.expovariate(1 / PAUSE)
                if time.monotonic() > deadline:
                    raise Stuck(_scene(running, outputs, self.time_out))
                time.sleep(0.05)
        finally:
            for shell in running:
                shell.end()
        return [ending for shell in running for ending in shell.endings]

    def _findings(
        self, reference: Path, outputs: Path, ledger: Ledger, endings: Sequence[Ending]
    ) -> dict[str, list[str]]:
        facts, kills = ledger.facts(), ledger.kills()
        return {
            "differences": comparison.differences(reference, outputs),
            "differences in what people are shown": comparison.shown_differences(reference, outputs),
            "damaged": comparison.damages(outputs) + comparison.damages(reference),
            "published twice": comparison.duplicates(outputs, facts),
            "set aside as damaged": comparison.set_aside(facts),
            "begun without need": comparison.needless(facts, kills),
            "resumed before the last checkpoint": comparison.lost_work(facts).beyond,
            "left over": comparison.left_overs(outputs),
            "locks that block": comparison.blocking_locks(outputs),
            "ended without a kill": [
                f"shell {ending.shell}, start {ending.start}, code {ending.code}: {ending.tail}"
                for ending in endings
                if not ending.explained
            ],
        }


def rounds(chaos: Chaos, most: int, keep: bool = False) -> list[Round]:
    """Run rounds until there were enough kills and every point had one, at most `most`; remove outputs of good ones."""
    done: list[Round] = []
    while len(done) < most:
        kills = [kill for round_ in done for kill in round_.kills]
        hit = {kill["point"] for kill in kills} & set(POINTS)
        left = max(chaos.kills - len(kills), len(POINTS) - len(hit) if done else 0)
        if left <= 0:
            break
        done.append(replace(chaos, kills=left, seed=chaos.seed + len(done), hit=sorted(hit)).run(len(done)))
        if not keep and not any(done[-1].findings.values()):
            shutil.rmtree(done[-1].folder)
    return done


def _environment(home: Path, tracked: bool) -> dict[str, str]:
    """Return what is added to a command's environment: a folder for temporary files, W&B offline or not at all."""
    (home / "tmp").mkdir(exist_ok=True)
    return {
        "TMPDIR": str(home / "tmp"),
        "WANDB_MODE": "offline" if tracked else "disabled",
        "WANDB_CACHE_DIR": str(home / "wandb_cache"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONFAULTHANDLER": "1",
    }


def _abandoned(ledger: Path) -> list[str]:
    """Return the processes that are still there after the commands have ended, once they had time to end."""
    deadline = time.monotonic() + GRACE_SECONDS
    while (left := shells.armed(ledger)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return [f"process {process}" for process in left]


def _scene(running: Sequence[Shell], outputs: Path, seconds: float) -> str:
    lines = [f"not done after {seconds:.0f} s"]
    for shell in running:
        assert shell.process is not None
        group = shells.members(shell.process.pid)
        held = [f"{kind} {fingerprint[:12]}" for _, kind, fingerprint in shells.held_by(set(group), outputs)]
        lines.append(f"shell {shell.index}, start {shell.starts}: processes {group}, holds {held or 'nothing'}")
    lines.append(f"stored: {len(list(outputs.glob('store/*/*')))}; load {os.getloadavg()}")
    return "\n".join(lines)
