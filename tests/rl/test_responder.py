import os
import signal

import pytest

from salsa.rl.responder import Responder, respond
from salsa.training.interruption import Interrupted
from tests.rl.tiny import EOS, PAD, causal, in_float64, texts

pytestmark = pytest.mark.filterwarnings("ignore:.*predict_dataloader.*", "ignore:GPU available but not used.*")


def _responder(prompts, **changes):
    settings = {"eos": EOS, "pad": PAD, "max_new_tokens": 10, "temperature": 1.0, "seed": 3} | changes
    return Responder(in_float64(causal()), prompts, **settings)


def _respond(prompts, batch_prompts=128, **changes):
    return respond(_responder(prompts, **changes), batch_prompts=batch_prompts, accelerator="cpu")


def test_replies_come_in_the_order_of_the_prompts_whatever_the_batches():
    prompts = texts(0, 11)
    at_once, in_pieces = _respond(prompts), _respond(prompts, batch_prompts=4)
    assert at_once == in_pieces
    assert len({tuple(reply.ids) for reply in at_once}) > 5
    assert _respond(prompts[:6]) == at_once[:6]
    for reply in at_once:
        assert reply.ended == (reply.ids[-1] == EOS)
        assert 1 <= len(reply.ids) <= 10


def test_the_seed_decides():
    prompts = texts(0, 8)
    assert _respond(prompts, seed=4) != _respond(prompts)
    assert _respond(prompts, seed=4, temperature=0.0) == _respond(prompts, temperature=0.0)


def test_progress_counts_the_prompts_that_are_answered():
    counts = []
    respond(_responder(texts(0, 5)), batch_prompts=2, accelerator="cpu", progress=counts.append)
    assert counts == [2, 4, 5]


def test_no_prompts_no_replies():
    assert _respond([]) == []


def _send(number):
    """Return a progress callback that sends this process a real signal after the first batch."""
    counts = []

    def progress(done):
        counts.append(done)
        if len(counts) == 1:
            os.kill(os.getpid(), number)

    return counts, progress


def test_ctrl_c_is_not_the_exit_of_the_program_and_works_again_afterwards():
    handler = signal.getsignal(signal.SIGINT)
    counts, progress = _send(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        respond(_responder(texts(0, 5)), batch_prompts=2, accelerator="cpu", progress=progress)
    assert counts == [2]
    assert signal.getsignal(signal.SIGINT) is handler


def test_sigterm_ends_the_sampling():
    counts, progress = _send(signal.SIGTERM)
    with pytest.raises(Interrupted, match="after 2 of 5 prompts"):
        respond(_responder(texts(0, 5)), batch_prompts=2, accelerator="cpu", progress=progress)
    assert counts == [2]


def test_the_answer_of_the_process_to_sigterm_comes_first():
    class Ended(BaseException):
        pass

    def end(*_):
        raise Ended

    before = signal.signal(signal.SIGTERM, end)
    try:
        with pytest.raises(Ended):
            respond(_responder(texts(0, 5)), batch_prompts=2, accelerator="cpu", progress=_send(signal.SIGTERM)[1])
        assert signal.getsignal(signal.SIGTERM) is end
    finally:
        signal.signal(signal.SIGTERM, before)


def test_nothing_is_printed(capfd):
    respond(_responder(texts(0, 5)), accelerator="cpu")
    assert capfd.readouterr() == ("", "")
