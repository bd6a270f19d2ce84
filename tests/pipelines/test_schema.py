import itertools
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
        ("policy.kl_coef=-1", "policy.kl_coef must not be negative, got -1.0"),
        ("opponent.clip=0", "opponent.clip must be positive, got 0.0"),
        ("policy.guards.non_finite=warn", "policy.guards.non_finite must be stop or skip"),
        ("soup.alpha=2", "soup.alpha=2.0: is the weight of SFT2"),
        ("soup=weighted soup.weights=[.5,.6]", "soup.weights=[0.5, 0.6]: must sum to 1, got 1.1"),
        ("soup=weighted soup.weights=[0,0] soup.any_sum=true", "soup.weights=[0.0, 0.0]: are all zero"),
        ("soup=uniform soup.ingredients=0", "soup.ingredients=0: a soup needs at least 1 SFT models"),
        ("soup=greedy soup.ingredients=1", "soup.ingredients=1: a soup needs at least 2 SFT models"),
        ("soup=greedy soup.prompts=1", "soup.prompts=1: must be at least 2"),
        ("soup=slerp soup.share=2", "soup.share=2.0: is the weight of SFT2 and must be in [0, 1]"),
        ("soup=liti soup.eta=nan", "soup.eta=nan: must be a finite number"),
        ("soup=task_arithmetic soup.scales=[0,0]", "soup.scales=[0.0, 0.0]: are all zero"),
        ("landscape=line landscape.models=[sft_1]", "landscape.models=['sft_1']: name two models, three, or none"),
        ("landscape=line landscape.models=[sft_1,sft_1]", "names a model twice"),
        ("landscape=line landscape.intervals=0", "landscape.intervals=0: must be in [1, 1000]"),
        ("landscape=line landscape.plane_intervals=51", "landscape.plane_intervals=51: must be in [1, 50]"),
        ("landscape=line landscape.beyond=-1", "landscape.beyond=-1.0: must be in [0, 5]"),
        (
            "soup=greedy suite.names=[validation]",
            "suite.names=validation: soup=greedy chooses by this suite's questions",
        ),
        ("soup=greedy landscape=line landscape.suite=validation", "landscape.suite=validation: soup=greedy"),
        ("landscape=line landscape.suite=nonsense", "landscape.suite: no suite 'nonsense'"),
        ("landscape=line landscape.models=[base,sft_1] lora.rank=2", "and the base is none"),
        ("soup=weighted soup.any_sum=true lora.rank=2", "soup.any_sum=True: with lora.rank=2 a soup is one adapter"),
        (
            "sft.optimiser.schedule=cosine sft.optimiser.final_fraction=2",
            "sft.optimiser.final_fraction must lie in [0, 1], got 2.0",
        ),
        ("controls.other.lam=1.5", "controls.other.lam must lie in [0, 1], got 1.5"),
        ("model.tiny.kv_heads=3", "model.tiny.heads (4) must be a multiple of kv_heads (3)"),
        ("model.tiny.hidden=96", "model.tiny.head_dim (16) times heads (4) must be hidden (96) in a llama2 model"),
        ("model.tiny.sliding_window=8", "model.tiny.sliding_window is 8, but only mistral has one"),
        ("policy.learning_rate=0", "policy.learning_rate must be positive, got 0.0"),
        ("policy.betas=[2,3]", "policy.betas must be two values in [0, 1), got [2.0, 3.0]"),
        ("policy.betas=[.9]", "policy.betas must be two values in [0, 1), got [0.9]"),
        ("policy.minibatches=999", "policy.minibatches (999) must not exceed the 128 replies of a pass"),
        ("policy.kl_coef=inf", "policy.kl_coef=inf: must be a finite number"),
        ("policy.kl_coef=nan", "policy.kl_coef=nan: must be a finite number"),
        ("policy.missing_end_score=-inf", "policy.missing_end_score=-inf: must be a finite number"),
        ("judge=openai", "no value for judge.model: give each as key=value"),
        ("judge=openai judge.model=x judge.url=foo", "judge.url: the judge's URL is 'foo'"),
        ("judge=openai judge.model=", "judge.model: the judge's model has no name"),
        ("judge=openai judge.model=x judge.max_tokens=0", "judge.max_tokens: max_tokens is 0, expected 1 or more"),
        ("judge=openai judge.model=x judge.timeout=-1", "judge.timeout: the total time-out is -1.0"),
        ("judge=openai judge.model=x judge.connect_timeout=0", "judge.connect_timeout: the connect time-out is 0.0"),
        ("judge=openai judge.model=x judge.body={max_tokens:x}", "judge.body: max_tokens of the judge's body is 'x'"),
        (
            "judge=openai judge.model=x judge.body={max_tokens:null} judge.price_in=1 judge.price_out=1 "
            "judge.max_cost=3",
            "judge.max_cost=3.0: needs a limit of the length: judge.body takes out max_tokens",
        ),
        (
            "judge=openai judge.model=x judge.rows=[control] ~controls.other ~controls.soup_start",
            "judge.rows=['control']: there are no controls",
        ),
        ("judge=openai judge.model=x judge.url=https://key@host/v1", "keep keys out of the judge's URL"),
        ("judge=openai judge.model=x judge.max_cost=3", "judge.max_cost=3.0: needs judge.price_in and judge.price_out"),
        ("judge=openai judge.model=x judge.price_in=3", "judge.price_in=3.0: goes with judge.price_out: give both"),
        ("judge=openai judge.model=x judge.rows=[]", "judge.rows=[]: name at least one of ingredient, soup"),
        ("judge=openai judge.model=x judge.kinds=[pair,pair]", "judge.kinds=['pair', 'pair']: names a kind twice"),
        ("judge=openai judge.model=x judge.levels=4", "judge.levels=4: our own prompts have 3 or 5 levels"),
        ("judge=openai judge.model=x judge.max_failed=1", "judge.max_failed=1.0: is a share"),
        ("judge=openai judge.model=x judge.body={n:2}", "judge.body={'n': 2}: cannot set n"),
        ("judge=openai judge.model=x landscape=line", "judge=openai compares replies and scores none"),
        ("judge=openai judge.model=x suite=mt_bench", "suite.names=mt_bench: the embedded world's models read only"),
        ("judge=function", "judge.function={}: give a mapping with _target_"),
        (
            "judge=function judge.function={_target_:a.b,weight:2}",
            "judge.function.weight=2: is for rules of the reward",
        ),
        ("judge=function judge.function={_target_:a.b,_partial_:true}", "judge.function._partial_=True: leave it out"),
        ("suite.benchmarks.a.question=x", "suite.benchmarks.a.question: Key 'question' not in 'Benchmark'"),
        ("suite.benchmarks.a={}", "no value for suite.benchmarks.a.questions"),
        ("suite.benchmarks.a=x", "suite.benchmarks.a=x: give a mapping with its questions"),
        ("suite.benchmarks.mean.questions=x", "suite.benchmarks.mean=mean: a suite cannot be called so"),
        ("suite.benchmarks.single.questions=x", "suite.benchmarks.single=single: the data have a suite of this name"),
        (
            "suite.benchmarks.a={questions:x,reference_categories:[math]}",
            "suite.benchmarks.a.reference_categories=['math']: says for which categories",
        ),
        (
            "suite.benchmarks.a={questions:x,kinds:[single],baselines:{all:y}}",
            "suite.benchmarks.a.baselines={'all': 'y'}: are for comparing two models",
        ),
        (
            "data=files judge=openai judge.model=x data.preferences=[x.jsonl] suite=mt_bench "
            "suite.benchmarks.mt_bench.max_new_tokens=512",
            "suite.benchmarks.mt_bench.max_new_tokens=512: must be below base.context=512",
        ),
        ("judge.tie_margin=nan", "judge.tie_margin=nan: must be a finite number"),
        ("data.author_mix=[nan,.5,.25,.25]", "data.author_mix=nan: must be a finite number"),
        ("base.optimiser.weight_decay=-1", "base.optimiser.weight_decay must not be negative, got -1.0"),
        ("reward.optimiser.learning_rate=0", "reward.optimiser.learning_rate must be positive, got 0.0"),
        ("sft.optimiser.betas=[.9,1]", "sft.optimiser.betas must be two values in [0, 1)"),
        ("base.steps=0", "base.steps=0: must be at least 1"),
        ("base.optimiser=null", "base.optimiser=null: "),
        ("sft.replay_tokens=257", "sft.replay_tokens=257: must be at most base.context=256"),
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


def test_a_message_about_a_function_that_judges_says_nothing_of_rules() -> None:
    with pytest.raises(ConfigurationError, match="give a mapping with _target_") as raised:
        config("judge=function")
    assert "weight" not in str(raised.value)


@pytest.mark.parametrize(
    "override",
    [
        "judge.url=https://sk-secret@host/v1",
        "judge.url=sk-secret@host/v1",
        "judge.url='https://host/v1?key=sk-secret'",
        "judge.url=https://host:sk-secret/v1",
        "judge.key_variable=sk-secret",
        "judge.key_variable=hf_secret",
        "judge.key_variable='a secret'",
    ],
)
def test_a_key_in_the_wrong_place_is_refused_and_not_shown(override: str) -> None:
    with pytest.raises(ConfigurationError, match=r"judge\.(url|key_variable): ") as raised:
        config("judge=openai", "judge.model=x", override)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "override",
    [
        "soup.alpha=abc",
        "policy.init=sft_9",
        "policy.reference=nothing",
        "polcy.kl_coef=1",
        "model=llama3",
        "seed=x",
        "data.source=files",
    ],
)
def test_wrong_types_and_unknown_keys_are_refused_at_composition(override: str) -> None:
    with pytest.raises(HydraException, match=r"abc|sft_9|nothing|polcy|llama3|seed=x|data\.source"):
        composed(override)


def test_what_only_a_base_that_is_built_needs_is_not_asked_of_published_weights() -> None:
    paper = ("scale=paper", "data=files", "judge=reward_model", "suite=files", "data.preferences=[x.jsonl]")
    assert config(*paper).base.steps == 0
    assert config(*paper, "model.tiny.hidden=96").model.tiny.hidden == 96


def test_rows_that_are_not_mixed_in_may_have_any_length() -> None:
    assert config("sft.replay=0", "sft.replay_tokens=300").sft.replay_tokens == 300


def test_the_tiny_scale_stays_on_the_cpu_unless_told_otherwise() -> None:
    assert config().compute.accelerator.value == "cpu"
    assert config("compute.accelerator=gpu").compute.accelerator.value == "gpu"
    paper = ("scale=paper", "data=files", "judge=reward_model", "suite=files", "data.preferences=[x.jsonl]")
    assert config(*paper).compute.accelerator.value == "auto"


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
def test_every_key_has_a_comment_and_every_value_a_source(path: Path) -> None:
    """The source is in the line's comment, or in the file's header for all lines that name none ("Sources: ...")."""
    lines = path.read_text().splitlines()
    header = "\n".join(itertools.takewhile(lambda line: line.startswith("#"), lines))
    inside_defaults = inside_hydra = False
    for line in lines:
        if re.match(r"\S", line):
            inside_defaults, inside_hydra = line.startswith("defaults:"), line.startswith("hydra:")
        key = re.match(r"\s*([a-z_]+):(.*)$", line)
        if inside_defaults or inside_hydra or key is None or line.lstrip().startswith("#"):
            continue
        opens_a_node = key[2].strip() == ""
        if opens_a_node:
            continue
        comment = key[2].partition("#")[2]
        assert comment.strip(), f"{path.name}: {key[1]} has no comment"
        sourced = re.search(r"\bpaper\b|\bour\b|et al\. \d{4}", comment) or "\n# Sources: " in header
        assert sourced, f"{path.name}: {key[1]} has no source"


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


def test_help_lists_every_group_and_the_examples() -> None:
    done = subprocess.run([sys.executable, "run.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "model: gemma, llama2, mistral" in done.stdout
    assert "python run.py -m model=llama2,mistral,gemma" in done.stdout
    assert "${" not in done.stdout
    assert "$APP" not in done.stdout


def test_algorithms_that_compare_replies_have_as_many_episodes_as_ppo() -> None:
    for algorithm in ("grpo", "rloo"):
        for scale in ((), ("scale.align.batch_prompts=96",)):
            policy = config(f"align@policy={algorithm}", *scale).policy
            assert policy.replies_per_prompt > 1
            assert policy.batch_prompts * policy.replies_per_prompt == config(*scale).policy.batch_prompts


def test_a_value_that_follows_from_itself_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"policy\.ema_rate follows from itself"):
        config("align@policy=like_policy")
    with pytest.raises(ConfigurationError, match=r"sft\.steps follows from itself"):
        config("sft.steps=${sft.batch}", "sft.batch=${sft.steps}")
