import re
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.errors import HydraException

from pipelines.configuration import ConfigurationError
from pipelines.sources import FilesData
from tests.pipelines.compose import CONF, composed, config

ROOT = CONF.parent


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("policy.kl_coef=-1", "policy.kl_coef=-1.0: must not be negative"),
        ("opponent.clip=0", "opponent.clip=0.0: must be above 0"),
        ("soup.alpha=2", "soup.alpha=2.0: is the weight of SFT2"),
        ("sft.optimiser.schedule=cosine sft.optimiser.final_fraction=2", "sft.optimiser.final_fraction=2.0"),
        ("controls.other.lam=1.5", "controls.other.lam=1.5: must be in [0, 1]"),
        ("model.tiny.kv_heads=3", "model.tiny.kv_heads=3: must divide heads=4"),
        ("data.author_mix=[.5,.2,.2,.2]", "the four shares must sum to 1"),
        ("data.author_mix=[.5,.5]", "give four shares"),
        ("suite.names=[nonsense]", "no suite 'nonsense'"),
        ("judge=reward_model", "use judge=gold"),
        ("data=files judge=reward_model", "data.preferences=[]"),
        ("data=files data.preferences=[x.jsonl]", "use judge=reward_model"),
        ("data=files judge=reward_model data.preferences=[x.jsonl]", "suite.names: no suite 'single'"),
        ("data=files judge=reward_model data.preferences=[x.jsonl] suite=files suite.names=[mt]", "data.prompts.mt="),
        ("data=files judge=reward_model data.preferences=[x.jsonl] data.prompts.mean=y", "cannot be called 'mean'"),
        (
            "data=files judge=reward_model data.preferences=[x.jsonl] data.prompts.heldout=y",
            "cannot be called 'heldout'",
        ),
        ("generation.max_new_tokens=256", "must be below base.context=256"),
        ("scale=paper", "data=zoo: published weights need real text"),
    ],
)
def test_a_value_that_cannot_work_is_named_with_its_key_and_the_fix(override: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        config(*override.split())


@pytest.mark.parametrize(
    "override",
    ["soup.alpha=abc", "policy.init=sft_9", "policy.reference=nothing", "polcy.kl_coef=1", "model=llama3", "seed=x"],
)
def test_wrong_types_and_unknown_keys_are_refused_at_composition(override: str) -> None:
    with pytest.raises(HydraException, match=r"abc|sft_9|nothing|polcy|llama3|seed=x"):
        composed(override)


def test_the_opponent_follows_the_policy_but_for_its_reference() -> None:
    parsed = config("policy.kl_coef=.1", "policy.steps=7")
    assert (parsed.opponent.kl_coef, parsed.opponent.steps) == (0.1, 7)
    assert (parsed.policy.reference.value, parsed.opponent.reference.value) == ("soup", "sft")
    assert {name: (arm.reference.value, arm.init.value) for name, arm in parsed.controls.items()} == {
        "other": ("other", "sft_1"),
        "soup_start": ("soup", "soup"),
    }


def test_suites_of_files_are_named_freely() -> None:
    given = ("data=files", "judge=reward_model", "suite=files", "data.preferences=[x.jsonl]")
    for override in ("data.prompts={mine: q.jsonl}", "data.prompts.mine=q.jsonl"):
        parsed = config(*given, override, "suite.names=[heldout,mine]")
        assert isinstance(parsed.data, FilesData)
        assert parsed.data.prompts == {"mine": "q.jsonl"}


def test_real_text_has_sizes_of_its_own_at_the_tiny_scale_alone() -> None:
    files = ("data=files", "judge=reward_model", "suite=files", "data.preferences=[x.jsonl]")
    assert config(*files).base.context == 512
    assert config().base.context == 256
    paper = config(*files, "scale=paper")
    assert (paper.base.context, paper.sft.steps) == (2048, 1600)
    assert config(*files, "sft.steps=3", "policy.steps=5").sft.steps == 3


def test_a_reference_is_chosen_by_group_or_by_value() -> None:
    assert config("reference@policy=base").policy.reference.value == "base"
    assert config("policy.reference=base").policy.reference.value == "base"


def test_a_control_can_be_left_out() -> None:
    assert list(config("~controls.other").controls) == ["soup_start"]


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONF)))
def test_every_key_has_a_comment(path: Path) -> None:
    inside_defaults = inside_hydra = False
    for line in path.read_text().splitlines():
        if re.match(r"\S", line):
            inside_defaults, inside_hydra = line.startswith("defaults:"), line.startswith("hydra:")
        key = re.match(r"\s*([a-z_]+):(.*)$", line)
        if inside_defaults or inside_hydra or key is None or line.lstrip().startswith("#"):
            continue
        opens_a_node = key[2].strip() == ""
        settings_of_one_line = key[1] == "optimiser"
        assert opens_a_node or settings_of_one_line or "#" in key[2], f"{path.name}: {key[1]} has no comment"


def test_help_and_composition_import_no_torch() -> None:
    code = (
        "import sys; sys.argv = ['run.py', '--cfg', 'job']; import runpy\n"
        "try:\n    runpy.run_path('run.py', run_name='__main__')\n"
        "except SystemExit:\n    print('left')\n"
        "assert 'torch' not in sys.modules and 'lightning' not in sys.modules and 'numpy' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "kl_coef" in done.stdout
