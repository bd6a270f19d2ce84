import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from salsa.data.conversation import Prompt
from salsa.models.scoring import sequence_scores
from salsa.models.sequences import Sequences, pack
from salsa.rl.dialogues import Dialogues
from salsa.rl.rewards import (
    End,
    Length,
    Normalised,
    RewardSum,
    RuleTerm,
    TokenScores,
    Weighted,
    usual_reward,
    without_last,
)
from salsa.rl.rules import Rule
from tests.models.tiny import tokenizer
from tests.rl.tiny import EOS, PAD, replies, scalar, texts

SEQUENCES = pack(texts(0, 4), replies(1, 4), PAD)
ENDED = torch.tensor([True, False, True, False])


class Given:
    """A term whose values are given."""

    def __init__(self, values: list[float]) -> None:
        self._values = torch.tensor(values)
        self.asked = 0
        self.places: list[torch.device] = []

    def values(self, sequences: Sequences, ended: Tensor) -> Tensor:
        self.asked += 1
        return self._values

    def to(self, device: torch.device) -> None:
        self.places.append(device)


@torch.no_grad()
def test_scores_are_normalised_and_replies_without_end_get_the_fixed_one() -> None:
    scorer = usual_reward(scalar(), mean=0.5, std=2.0, missing_end_score=-1.0)
    raw = sequence_scores(scalar(), SEQUENCES)
    torch.testing.assert_close(scorer.terms(SEQUENCES, ENDED)["model"], (raw - 0.5) / 2)
    rewards = scorer.rewards(SEQUENCES, ENDED)
    torch.testing.assert_close(rewards[[0, 2]], (raw[[0, 2]] - 0.5) / 2)
    assert rewards[[1, 3]].tolist() == [-1, -1]


def test_without_a_fixed_score_an_unended_reply_keeps_its_own() -> None:
    scorer = usual_reward(scalar(), 0.0, 1.0, missing_end_score=None)
    torch.testing.assert_close(scorer.rewards(SEQUENCES, ENDED), scorer.terms(SEQUENCES, ENDED)["model"])


def test_the_model_is_frozen() -> None:
    model = scalar().train()
    usual_reward(model, 0.0, 1.0, -1.0)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_a_reward_model_without_spread_is_refused() -> None:
    with pytest.raises(ValueError, match=r"standard deviation of 0\.0"):
        usual_reward(scalar(), 0.0, 0.0, -1.0)


weights = st.floats(-3, 3, allow_nan=False).filter(lambda weight: abs(weight) > 1e-3)


@given(st.lists(weights, min_size=1, max_size=4), st.data())
def test_a_reward_is_the_weighted_sum_of_its_terms(each: list[float], data: st.DataObject) -> None:
    rows = st.lists(st.floats(-10, 10, width=32), min_size=4, max_size=4)
    values = [data.draw(rows) for _ in each]
    terms = {str(i): Weighted(w, Given(v)) for i, (w, v) in enumerate(zip(each, values, strict=True))}
    rewards = RewardSum(terms, missing_end_score=None).rewards(SEQUENCES, ENDED)
    expected = [sum(w * v[row] for w, v in zip(each, values, strict=True)) for row in range(4)]
    assert rewards.tolist() == pytest.approx(expected, abs=1e-4)


def test_a_missing_end_replaces_the_whole_sum() -> None:
    terms = {"one": Weighted(2.0, Given([1.0, 2, 3, 4])), "end": Weighted(5.0, End())}
    total = RewardSum(terms, missing_end_score=-3.0)
    parts = total.terms(SEQUENCES, ENDED)
    assert parts["one"].tolist() == [2, 4, 6, 8]
    assert parts["end"].tolist() == [5, 0, 5, 0]
    assert total.total(parts, ENDED).tolist() == [7, -3, 11, -3]


def test_terms_without_a_weight_are_not_computed() -> None:
    idle, used = Given([1.0] * 4), Given([2.0] * 4)
    total = RewardSum({"idle": Weighted(0.0, idle), "used": Weighted(1.0, used)}, None)
    assert list(total.terms(SEQUENCES, ENDED)) == ["used"]
    total.to(torch.device("cpu"))
    assert (idle.asked, used.asked, len(idle.places), len(used.places)) == (0, 1, 0, 1)
    with pytest.raises(ValueError, match="no term of the reward has a weight"):
        RewardSum({"idle": Weighted(0.0, idle)}, None)


def test_length_and_end_count_tokens_and_ends() -> None:
    sequences = pack([[1], [1, 5]], [[5, 6, EOS], [7]], PAD)
    ended = torch.tensor([True, False])
    assert Length().values(sequences, ended).tolist() == [3, 1]
    assert End().values(sequences, ended).tolist() == [1, 0]


def test_broken_numbers_reach_whoever_guards_the_training() -> None:
    terms = {"one": Weighted(1.0, Given([float("nan"), float("inf"), 1.0, 1.0]))}
    rewards = RewardSum(terms, missing_end_score=None).rewards(SEQUENCES, ENDED)
    assert rewards.isfinite().tolist() == [False, False, True, True]


def test_a_token_at_the_end_that_is_not_read_does_not_count() -> None:
    sequences = pack([[1], [1, 4], [1]], [[5, 6, EOS], [7, EOS, 8], [EOS, EOS]], PAD)
    assert without_last(sequences, EOS).reply_lengths.tolist() == [2, 3, 0]
    model = scalar()
    read = TokenScores(model, unread=EOS).values(sequences, torch.tensor([True] * 3))
    cut = pack([[1], [1, 4], [1]], [[5, 6], [7, EOS, 8], []], PAD)
    torch.testing.assert_close(read, TokenScores(model).values(cut, torch.tensor([True] * 3)))


def test_normalising_shifts_and_scales() -> None:
    values = Normalised(Given([1.0, 2, 3, 5]), mean=1.0, std=2.0).values(SEQUENCES, ENDED)
    assert values.tolist() == [0, 0.5, 1, 2]


def test_a_rule_sees_the_texts_behind_the_tokens_of_prompts_and_replies() -> None:
    made = tokenizer()
    prompts = [Prompt("a", ("w0 w1",)), Prompt("b", ("w2",))]
    ids = [[1, 3, 4], [1, 5]]
    sequences = pack(ids, [[6, 7, EOS], [8]], PAD)
    seen = []

    def rule(prompts: list[str], completions: list[str], ended: list[bool]) -> list[float]:
        seen.append((prompts, completions, ended))
        return [3.0, 5.0]

    term = RuleTerm(Rule("mine", rule), Dialogues(made, prompts, ids), mean=1.0, std=2.0)
    assert term.values(sequences, torch.tensor([True, False])).tolist() == [1.0, 2.0]
    assert seen == [(["w0 w1", "w2"], ["w3 w4", "w5"], [True, False])]
    with pytest.raises(ValueError, match="standard deviation of 0"):
        RuleTerm(Rule("mine", rule), Dialogues(made, prompts, ids), std=0.0)


def test_a_prompt_that_was_not_announced_is_an_error() -> None:
    dialogues = Dialogues(tokenizer(), [Prompt("a", ("w0",))], [[1, 3]])
    with pytest.raises(ValueError, match=r"token ids \[1, 4\]\.\.\. is none of the 1 prompts"):
        dialogues.prompts(pack([[1, 4]], [[EOS]], PAD))
