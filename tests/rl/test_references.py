import torch

from salsa.models.scoring import reply_logps
from salsa.models.sequences import pack
from salsa.rl.references import FrozenReference
from tests.rl.tiny import PAD, causal, replies, texts


def test_a_reference_scores_as_its_model_and_is_frozen():
    sequences = pack(texts(0, 5), replies(1, 5), PAD)
    model = causal().train()
    reference = FrozenReference(model, "sft_1", max_tokens=30)
    logps = reference.token_logps(sequences, 0.7)
    torch.testing.assert_close(logps, reply_logps(causal(), sequences, 0.7)[0].detach())
    assert not logps.requires_grad
    assert not logps.is_inference()
    assert reference.identity == "sft_1"
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
