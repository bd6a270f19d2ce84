"""A store with small untrained models of the embedded world, as the benchmarks look for them in outputs."""

import shutil
from pathlib import Path

from salsa.data.chat import set_chat_template, word_tokenizer
from salsa.data.zoo.source import ZooSource
from salsa.models.families import Architecture, build, save
from salsa.models.heads import reward_from_causal
from salsa.store.artifact import Store

_SMALL = Architecture("llama2", 16, 1, 2, 2, 8, 16, 256, None, True, 0.1)


def publish(outputs: Path) -> Path:
    """Publish a base, an SFT model and a reward model; return `outputs`."""
    source, store = ZooSource(seed=0), Store(outputs)
    assert source.words is not None
    tokenizer = word_tokenizer(source.words)
    set_chat_template(tokenizer, source.chat)
    causal = build(_SMALL, tokenizer, seed=0)
    for number, (kind, model) in enumerate(
        (("base", causal), ("sft", causal), ("reward", reward_from_causal(causal, head_seed=1)))
    ):
        folder = store.temporary(kind, f"{number}" * 64)
        shutil.rmtree(folder, ignore_errors=True)
        save(model, tokenizer, folder)
        store.publish(kind, f"{number}" * 64, folder, {"name": kind})
    return outputs
