import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from salsa.training.loop import CHECKPOINT, Interrupted, _InPlace, fit
from salsa.training.metrics import FILE_NAME, JsonLines, read_metrics
from tests.training.resuming import left_behind, train
from tests.training.toys import Automatic, Manual, batch

STEPS = 5


@pytest.fixture(params=[Automatic, Manual])
def kind(request):
    return request.param


@pytest.mark.parametrize("every", [1, 2])
def test_a_training_killed_at_any_step_ends_like_one_that_was_not(kind, every, tmp_path):
    whole = left_behind(train(kind, batch, STEPS, tmp_path / "whole", every=every), tmp_path / "whole")
    for kill in range(STEPS):
        folder = tmp_path / f"killed at {kill}"
        assert left_behind(train(kind, batch, STEPS, folder, [kill], every), folder) == whole
    folder = tmp_path / "killed often"
    assert left_behind(train(kind, batch, STEPS, folder, [1, 1, 3, 4], every), folder) == whole


def test_a_training_that_was_over_is_taken_from_its_last_checkpoint(kind, tmp_path):
    finished = left_behind(train(kind, batch, STEPS, tmp_path), tmp_path)
    module = kind()
    asked, shown = [], []
    fit(module, asked.append, STEPS, tmp_path, loggers=[JsonLines(tmp_path)], progress=lambda *text: shown.append(text))
    assert left_behind(module, tmp_path) == finished
    assert not asked


def test_only_the_batches_that_are_left_are_made(tmp_path):
    asked = []

    def counted(step):
        asked.append(step)
        return batch(step)

    train(Automatic, counted, STEPS, tmp_path, kills=[3], every=2)
    assert asked == [0, 1, 2, 2, 3, 4]


def test_metrics_and_progress_have_one_entry_a_step(kind, tmp_path):
    shown = []
    module = kind()
    logger = JsonLines(tmp_path)
    fit(module, batch, STEPS, tmp_path, loggers=[logger], progress=lambda *entry: shown.append(entry))
    lines = read_metrics(tmp_path / FILE_NAME)
    assert [line["step"] for line in lines] == list(range(STEPS))
    assert [entry[:2] for entry in shown] == [(step + 1, STEPS) for step in range(STEPS)]
    assert shown[-1][2] == f"loss {lines[-1]['loss']:.3g}"
    assert module.latest == {"loss": lines[-1]["loss"]}
    assert module.completed == STEPS


def test_no_checkpoint_is_written_unless_asked_for(tmp_path):
    fit(Automatic(), batch, STEPS, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_by_time_and_after_the_last_step(tmp_path):
    seen = []

    def watched(step):
        seen.append((tmp_path / CHECKPOINT).exists())
        return batch(step)

    fit(Automatic(), watched, STEPS, tmp_path, checkpoint_seconds=0.0)
    assert seen == [False, True, True, True, True]
    (tmp_path / CHECKPOINT).unlink()
    seen.clear()
    fit(Automatic(), watched, STEPS, tmp_path, checkpoint_seconds=3600.0)
    assert seen == [False] * STEPS
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]


def test_sigterm_saves_the_step_and_is_not_taken_for_success(kind, tmp_path):
    def ending(step):
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return batch(step)

    with pytest.raises(Interrupted, match="interrupted after 3 of 5 steps"):
        fit(kind(), ending, STEPS, tmp_path / "ended", checkpoint_steps=100, loggers=[JsonLines(tmp_path / "ended")])
    module = train(kind, batch, STEPS, tmp_path / "ended")
    whole = train(kind, batch, STEPS, tmp_path / "whole")
    assert left_behind(module, tmp_path / "ended") == left_behind(whole, tmp_path / "whole")


def test_ctrl_c_ends_the_program_and_works_again_afterwards(tmp_path):
    def pressed(step):
        if step == 2:
            raise KeyboardInterrupt
        return batch(step)

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(Automatic(), pressed, STEPS, tmp_path, checkpoint_steps=1)
    assert signal.getsignal(signal.SIGINT) is handler
    module = Automatic()
    fit(module, batch, STEPS, tmp_path, checkpoint_steps=1)
    assert module.completed == STEPS


def test_a_trainer_that_stops_early_is_an_interruption(tmp_path):
    class Stopping(Automatic):
        def on_train_batch_end(self, *args):
            self.trainer.should_stop = self.completed == 2

    with pytest.raises(Interrupted, match="after 2 of 5 steps"):
        fit(Stopping(), batch, STEPS, tmp_path)


def test_errors_of_a_step_come_out_unchanged(tmp_path):
    def broken(step):
        raise ZeroDivisionError("of the data")

    with pytest.raises(ZeroDivisionError, match="of the data"):
        fit(Automatic(), broken, STEPS, tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
@pytest.mark.parametrize("numbers", [10, 1_000_000])
def test_a_full_disk_is_named_whatever_the_size_of_a_checkpoint(numbers):
    with pytest.raises(OSError, match="No space left on device"):
        _InPlace().save_checkpoint({"weights": torch.zeros(numbers)}, Path("/dev/full"))


@pytest.mark.parametrize("kind", [Automatic, Manual])
def test_the_end_of_an_iterator_in_a_step_is_an_error_and_no_end_of_the_training(kind, tmp_path):
    class Ends(kind):
        def training_step(self, batch, batch_idx):
            if batch_idx == 1:
                next(iter([]))
            return super().training_step(batch, batch_idx)

    module = Ends()
    with pytest.raises(RuntimeError, match="step 1 ran into the end of an iterator"):
        fit(module, batch, 3, tmp_path)
    assert module.completed == 1


def test_a_checkpoint_of_a_longer_training_is_refused(tmp_path):
    train(Automatic, batch, STEPS, tmp_path)
    with pytest.raises(ValueError, match="has completed 5 steps, more than the 3"):
        fit(Automatic(), batch, 3, tmp_path)


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [lambda content: b"", lambda content: b"not a checkpoint", lambda content: content[:-100], flipped],
    ids=["empty", "other", "truncated", "flipped bit"],
)
def test_a_damaged_checkpoint_is_set_aside_and_the_training_ends_as_if_it_had_not_been(tmp_path, damage):
    whole = left_behind(train(Manual, batch, STEPS, tmp_path / "whole"), tmp_path / "whole")
    folder = tmp_path / "damaged"
    with pytest.raises(ZeroDivisionError):
        fit(Manual(), lambda step: batch(step) if step < 3 else 1 / 0, STEPS, folder, checkpoint_steps=1)
    content = damage((folder / CHECKPOINT).read_bytes())
    (folder / CHECKPOINT).write_bytes(content)
    assert left_behind(train(Manual, batch, STEPS, folder), folder) == whole
    assert (folder / f"{CHECKPOINT}.damaged-1").read_bytes() == content


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_text("{\n")])
def test_a_checkpoint_without_its_metrics_is_of_no_use(tmp_path, damage):
    whole = left_behind(train(Automatic, batch, STEPS, tmp_path / "whole"), tmp_path / "whole")
    folder = tmp_path / "damaged"
    left_behind(train(Automatic, batch, STEPS, folder), folder)
    damage(folder / FILE_NAME)
    assert left_behind(train(Automatic, batch, STEPS, folder), folder) == whole


@pytest.mark.parametrize("error", [OSError(errno.ESTALE, "Stale file handle"), MemoryError()])
def test_an_error_that_says_nothing_about_the_checkpoint_costs_none_of_it(tmp_path, monkeypatch, error):
    with pytest.raises(ZeroDivisionError):
        fit(Manual(), lambda step: batch(step) if step < 3 else 1 / 0, STEPS, tmp_path, checkpoint_steps=1)

    def unreadable(*_, **__):
        raise error

    with monkeypatch.context() as broken:
        broken.setattr(torch, "load", unreadable)
        with pytest.raises(type(error)):
            fit(Manual(), batch, STEPS, tmp_path, checkpoint_steps=1)
    resumed = []
    fit(Manual(), lambda step: resumed.append(step) or batch(step), STEPS, tmp_path, checkpoint_steps=1)
    assert resumed == [3, 4]


def test_nothing_is_unpickled_from_a_checkpoint(tmp_path):
    torch.save({"salsa_completed_steps": threading.Thread}, tmp_path / CHECKPOINT)
    fit(Automatic(), batch, STEPS, tmp_path)
    assert (tmp_path / f"{CHECKPOINT}.damaged-1").exists()


def test_what_a_killed_save_has_left_is_removed(tmp_path):
    (tmp_path / f"{CHECKPOINT}.4711.new").write_bytes(b"half")
    train(Automatic, batch, STEPS, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([CHECKPOINT, FILE_NAME])


def test_nothing_is_printed(tmp_path, capfd, recwarn):
    fit(Automatic(), batch, STEPS, tmp_path, checkpoint_steps=2, loggers=[JsonLines(tmp_path)])
    assert capfd.readouterr() == ("", "")
    assert [str(warning.message) for warning in recwarn] == []


KILL = """
import os, signal, sys
from pathlib import Path
from salsa.training.loop import fit
from salsa.training.metrics import JsonLines
from tests.training.toys import Manual, batch

def killed(step):
    if step == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return batch(step)

folder = Path(sys.argv[1])
fit(Manual(), killed, 5, folder, checkpoint_steps=2, loggers=[JsonLines(folder)])
"""


@pytest.mark.slow
def test_a_process_killed_with_signal_9_is_continued_exactly(tmp_path):
    ended = subprocess.run([sys.executable, "-c", KILL, str(tmp_path / "killed")], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert [line["step"] for line in read_metrics(tmp_path / "killed" / FILE_NAME)] == [0, 1, 2]
    module = train(Manual, batch, STEPS, tmp_path / "killed", every=2)
    whole = train(Manual, batch, STEPS, tmp_path / "whole", every=2)
    assert left_behind(module, tmp_path / "killed") == left_behind(whole, tmp_path / "whole")
