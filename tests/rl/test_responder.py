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


def test_a_prompt_has_the_temperature_that_is_given_for_it_and_keeps_its_noise():
    """A mixture of temperatures answers each prompt as a run of its temperature alone does."""
    prompts, temperatures = texts(0, 9), [0.7, 0.0, 1.3] * 3
    mixed = _respond(prompts, batch_prompts=2, temperature=temperatures)
    alone = {temperature: _respond(prompts, temperature=temperature) for temperature in set(temperatures)}
    assert mixed == [alone[temperature][row] for row, temperature in enumerate(temperatures)]
    assert len({tuple(map(str, replies)) for replies in alone.values()}) == 3


def test_noise_follows_the_streams_of_the_prompts():
    prompts = texts(0, 6)
    replies = _respond(prompts)
    assert _respond(prompts[::-1], streams=range(5, -1, -1)) == replies[::-1]
    assert _respond(prompts[3:], streams=[3, 4, 5]) == replies[3:] != _respond(prompts[3:])


@pytest.mark.parametrize("changes", [{"temperature": [1.0]}, {"streams": [0, 1, 2]}])
def test_every_prompt_needs_a_temperature_and_a_stream(changes):
    with pytest.raises(ValueError, match="2 prompts need a temperature and a stream of noise each"):
        _responder(texts(0, 2), **changes)


def test_batches_are_bounded_by_what_their_cache_holds():
    prompts, sizes = texts(0, 9, shortest=3, longest=3), []
    respond(_responder(prompts), batch_slots=4 * 13, accelerator="cpu", keep=lambda batch: sizes.append(len(batch)))
    assert sizes == [4, 4, 1]
    sizes.clear()
    respond(_responder(prompts), batch_slots=1, accelerator="cpu", keep=lambda batch: sizes.append(len(batch)))
    assert sizes == [1] * 9


def test_what_is_known_is_not_answered_again_and_the_batches_stay_what_they_were(monkeypatch):
    prompts = texts(0, 10)
    kept, whole = {}, _respond(prompts, batch_prompts=4)
    with pytest.raises(Interrupted):
        respond(
            _responder(prompts), batch_prompts=4, accelerator="cpu", progress=_send(signal.SIGTERM)[1], keep=kept.update
        )
    assert len(kept) == 4
    torn = dict(list(kept.items())[:3])
    asked, predict = [], Responder.predict_step

    def spy(self, indices, batch_idx=0):
        asked.append(indices.tolist())
        return predict(self, indices, batch_idx)

    monkeypatch.setattr(Responder, "predict_step", spy)
    for known, batches in ((kept, 2), (torn, 3), (dict(enumerate(whole)), 0)):
        asked.clear()
        new, counts = {}, []
        again = respond(
            _responder(prompts),
            batch_prompts=4,
            accelerator="cpu",
            known=known,
            keep=new.update,
            progress=counts.append,
        )
        assert again == whole
        assert [len(rows) for rows in asked] == [4, 4, 2][3 - batches :]
        assert new.keys() == set(range(10)) - known.keys()
        assert counts[0] == len(known)
        assert counts[-1] == 10
