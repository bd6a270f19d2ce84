import os
import signal

import pytest

from salsa.training.interruption import sigterm_deferred
from salsa.training.loop import CHECKPOINT, Interrupted, fit
from tests.training.toys import Automatic, batch

STEPS = 5


class Ended(BaseException):
    pass


def end(*_):
    raise Ended


@pytest.fixture(autouse=True)
def _handler():
    """SIGTERM raises Ended, as it does in a process that owns it."""
    before = signal.signal(signal.SIGTERM, end)
    yield
    assert signal.getsignal(signal.SIGTERM) is end
    signal.signal(signal.SIGTERM, before)


def at_step(number):
    def make(step):
        if step == number:
            os.kill(os.getpid(), signal.SIGTERM)
        return batch(step)

    return make


def test_a_training_saves_its_step_before_the_process_answers_sigterm(tmp_path):
    with pytest.raises(Interrupted, match="interrupted after 3 of 5 steps"):
        fit(Automatic(), at_step(2), STEPS, tmp_path, checkpoint_steps=100)
    module = Automatic()
    fit(module, at_step(0), STEPS, tmp_path, checkpoint_steps=100)
    assert module.completed == STEPS


def test_a_signal_that_lightning_did_not_see_ends_the_training_too(tmp_path):
    class Early(Automatic):
        def on_train_batch_start(self, *args):
            if self.completed == 1:
                self.trainer.callbacks[0].sigterm.received = True

    module = Early()
    with pytest.raises(Ended):
        fit(module, batch, STEPS, tmp_path, checkpoint_steps=100)
    assert module.completed == 2
    assert (tmp_path / CHECKPOINT).exists()


def test_a_deferred_signal_is_delivered_at_the_end():
    done = []

    def work():
        with sigterm_deferred() as sigterm:
            os.kill(os.getpid(), signal.SIGTERM)
            done.append(sigterm.received)

    with pytest.raises(Ended):
        work()
    assert done == [True]


def test_without_a_signal_nothing_happens():
    with sigterm_deferred() as sigterm:
        pass
    assert not sigterm.received
