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
        {"batch_prompts": 3, "minibatches": 4},
    ],
)
def test_values_out_of_range_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PPOSettings(**wrong)


def test_a_plan_can_read_the_settings_without_torch():
    program = "import sys, salsa.rl.settings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
