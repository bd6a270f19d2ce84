import subprocess
import sys

import pytest

from salsa.training.settings import OptimiserSettings


def test_a_plan_can_read_the_settings_without_torch():
    program = "import sys, salsa.training.settings; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"learning_rate": 0.0},
        {"schedule": "step"},
        {"warmup_steps": -1},
        {"final_fraction": 1.5},
        {"gradient_clip": 0.0},
        {"betas": (0.9, 1.0)},
        {"betas": (0.9,)},
        {"eps": 0.0},
        {"weight_decay": -0.1},
    ],
)
def test_values_out_of_range_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        OptimiserSettings(**({"learning_rate": 0.1} | wrong))
