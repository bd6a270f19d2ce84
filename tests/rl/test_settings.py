import subprocess
import sys

import pytest

from salsa.rl.settings import PPOSettings


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"clip": 0.0},
        {"learning_rate": -1e-3},
        {"kl_coef": -0.1},
        {"kl_coef": float("nan")},
        {"betas": (2.0, 3.0)},
        {"betas": (0.9,)},
        {"gamma": 1.1},
        {"temperature": 0.0},
        {"micro_batch_tokens": 0},
        {"loss": "dpo"},
        {"credit": "vine"},
        {"kl_placement": "loss_k1"},
        {"aggregate": "words"},
        {"critic": "none"},
        {"value_coef": -0.1},
        {"awr_temperature": 0.0},
        {"kl_target": 0.0},
        {"kl_horizon": 0},
        {"update_kl_limit": -1.0},
        {"replies_per_prompt": 0},
    ],
)
def test_values_out_of_range_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PPOSettings(**wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch_prompts": 3, "minibatches": 4}, r"minibatches \(4\) must not exceed the 3 replies"),
        ({"credit": "group"}, "replies_per_prompt must be at least 2, got 1"),
        ({"credit": "leave_one_out"}, "replies_per_prompt must be at least 2, got 1"),
        ({"loss": "square"}, "kl_placement must be none for loss square.*got reward"),
        ({"loss": "square", "kl_placement": "none", "kl_coef": 0.0}, "kl_coef must be positive for loss square"),
        ({"kl_target": 6.0, "kl_placement": "none"}, "kl_target adapts the price of the KL"),
        ({"kl_target": 6.0, "kl_coef": 0.0}, "kl_coef must be positive where kl_target adapts it"),
        ({"kl_target": 6.0, "kl_horizon": 25}, "kl_horizon must exceed a fifth of the 128 replies.*got 25"),
    ],
)
def test_values_that_do_not_go_together_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        PPOSettings(**wrong)


def test_episodes_are_the_replies_of_an_iteration():
    assert PPOSettings(batch_prompts=16, replies_per_prompt=8, credit="group").episodes == 128
    assert PPOSettings(kl_target=6.0, kl_horizon=26).kl_horizon == 26


def test_a_plan_can_read_the_settings_without_torch():
    program = "import sys, salsa.rl.settings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
