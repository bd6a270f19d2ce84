import os
import signal

import pytest

from salsa.training.interruption import signals_deferred
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
                self.trainer.callbacks[0].ending.received = signal.SIGTERM

    module = Early()
    with pytest.raises(Ended):
        fit(module, batch, STEPS, tmp_path, checkpoint_steps=100)
    assert module.completed == 2
    assert (tmp_path / CHECKPOINT).exists()


def test_a_step_is_saved_where_sigterm_comes_just_before_lightning_looks(tmp_path):
    class Late(Automatic):
        def on_train_batch_end(self, *args):  # called after the callbacks' hooks
            if self.completed == 3:
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="interrupted after 3 of 5 steps"):
        fit(Late(), batch, STEPS, tmp_path, checkpoint_steps=100)
    resumed = []
    fit(Automatic(), lambda step: resumed.append(step) or batch(step), STEPS, tmp_path, checkpoint_steps=100)
    assert resumed == [3, 4]


def test_a_deferred_signal_is_delivered_at_the_end():
    done = []

    def work():
        with signals_deferred() as sigterm:
            os.kill(os.getpid(), signal.SIGTERM)
            done.append(sigterm.received)

    with pytest.raises(Ended):
        work()
    assert done == [signal.SIGTERM]


def test_without_a_signal_nothing_happens():
    with signals_deferred() as sigterm:
        pass
    assert sigterm.received is None


def test_ctrl_c_saves_the_step_and_is_still_an_interrupt(tmp_path):
    def make(step):
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return batch(step)

    module = Automatic()
    with pytest.raises(KeyboardInterrupt):
        fit(module, make, STEPS, tmp_path, checkpoint_steps=100)
    assert module.completed == 3
    resumed = []
    fit(Automatic(), lambda step: resumed.append(step) or batch(step), STEPS, tmp_path, checkpoint_steps=100)
    assert resumed == [3, 4]


def test_a_second_ctrl_c_does_not_wait_for_the_step():
    reached = []

    def work():
        with signals_deferred():
            os.kill(os.getpid(), signal.SIGINT)
            reached.append("after the first")
            os.kill(os.getpid(), signal.SIGINT)
            reached.append("after the second")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert reached == ["after the first"]


def test_an_ignored_ctrl_c_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with signals_deferred() as ending:
            os.kill(os.getpid(), signal.SIGINT)
        assert ending.received is None
    finally:
        signal.signal(signal.SIGINT, before)
