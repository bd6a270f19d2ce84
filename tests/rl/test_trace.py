"""Replies to fixed prompts in the course of a training, and the best policy by them."""

import math

import pytest
import torch

from salsa.models.sequences import reply_mask
from salsa.rl.rollout import generate
from salsa.rl.trace import Trace, TracedReplies, Tracer, load_best, read_trace, trace_path, write_trace
from tests.rl.tiny import EOS, PAD, causal, texts


def _rollout():
    noise = torch.rand(6, 9, generator=torch.Generator().manual_seed(0))
    return generate(causal(), texts(0, 6), eos=EOS, pad=PAD, max_new=9, temperature=1.0, noise=noise)


def _traced():
    rollout = _rollout()
    return TracedReplies(rollout.sequences, rollout.logps, rollout.ended, torch.arange(6) / 4)


def test_a_trace_reads_as_it_was_written(tmp_path):
    replies, path = _traced(), trace_path(tmp_path / "trace", 8)
    write_trace(path, replies)
    assert path.name == "step_00008.safetensors"
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    found = read_trace(path)
    for wanted, field in zip(replies.sequences, found.sequences, strict=True):
        assert torch.equal(field, wanted)
    for wanted, field in zip(replies[1:], found[1:], strict=True):
        assert torch.equal(field, wanted)
    assert found.ended.dtype == torch.bool
    content = path.read_bytes()
    write_trace(path, replies)
    assert path.read_bytes() == content


class TestTracer:
    """The validation objective on the fixed prompts, and the policy that is best by it."""

    SCORES = torch.tensor([0.5, -1.0, 0.25, 2.0, 0.0, 1.25])

    def _take(self, tracer, step, shift=0.0, policy=None, kl_coef=0.4):
        rollout = _rollout()
        mask = reply_mask(rollout.sequences)
        references = [
            (0.25, torch.where(mask, rollout.logps - 0.5, 7.0)),
            (0.75, torch.where(mask, rollout.logps + 0.1, -7.0)),
        ]
        return tracer.take(step, rollout, self.SCORES + shift, references, kl_coef, policy or causal())

    def test_it_is_the_reward_minus_the_priced_weighted_kl_and_the_file_has_the_scores(self, tmp_path):
        seen = []
        tracer = Tracer(Trace(tmp_path, texts(0, 6), watch=lambda *arguments: seen.append(arguments)))
        metrics = self._take(tracer, 3)
        divergence = (0.25 * 0.5 - 0.75 * 0.1) * _rollout().sequences.reply_lengths.float().mean().item()
        assert metrics["validation/score"] == pytest.approx(0.5)
        assert metrics["validation/kl"] == pytest.approx(divergence, rel=1e-4)
        assert metrics["validation/objective"] == pytest.approx(0.5 - 0.4 * divergence, rel=1e-4)
        written = read_trace(trace_path(tmp_path, 3))
        assert torch.equal(written.scores, self.SCORES)
        assert torch.equal(written.logps, _rollout().logps)
        ((step, replies),) = seen
        assert step == 3
        assert torch.equal(replies.scores, written.scores)

    def test_the_best_is_kept_and_only_the_best(self, tmp_path):
        best = tmp_path / "best.safetensors"
        tracer = Tracer(Trace(tmp_path, texts(0, 6), best))
        for step, shift in ((0, 9.0), (2, 1.0), (4, 2.0), (6, 2.0), (8, math.nan), (10, -1.0)):
            self._take(tracer, step, shift, causal(seed=step))
            assert best.exists() == (step > 0)
        # The start is no candidate; of two equal ones the first is the best; what is not a number never is.
        assert tracer.best_step == 4
        policy = causal(seed=77)
        load_best(best, policy)
        for one, other in zip(policy.parameters(), causal(seed=4).parameters(), strict=True):
            assert torch.equal(one, other)

    def test_the_reward_alone_does_not_decide(self, tmp_path):
        tracer = Tracer(Trace(tmp_path, texts(0, 6)))
        self._take(tracer, 2, kl_coef=0.0)
        self._take(tracer, 4, shift=0.1, kl_coef=10.0)
        assert tracer.best_step == 2

    def test_what_a_checkpoint_holds_brings_it_back(self, tmp_path):
        tracer, other = (Tracer(Trace(tmp_path, texts(0, 6), tmp_path / "best.safetensors")) for _ in range(2))
        self._take(tracer, 2, 1.0)
        other.load_state(tracer.state())
        assert (other.best_step, other.best_objective) == (2, tracer.best_objective)
        self._take(other, 4, 0.5)
        assert other.best_step == 2
        other.load_state(None)
        assert other.best_step == 2
