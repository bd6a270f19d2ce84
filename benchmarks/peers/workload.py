"""The tasks on which programs are compared: folders with models in Hugging Face format, data and settings as JSON.

A folder for PPO holds `policy/`, `reference/`, `reward/`, `critic/`, `prompts.json` and `settings.json`; one for
fine-tuning `model/`, `rows.json` (token ids, and which of them are learned) and `settings.json`.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast

from salsa import seeds
from salsa.data.chat import encode_conversation, encode_prompts, encode_texts
from salsa.data.lengths import fit_prompts
from salsa.data.zoo.source import ZooSource
from salsa.models.families import load_causal, load_scalar, load_tokenizer, save
from salsa.models.heads import critic_from_reward
from salsa.store.artifact import Artifact, Store
from salsa.training.language import pack_documents

SETTINGS: dict[str, Any] = {
    # Small, so that replies keep their length while they are timed.
    "learning_rate": 1e-6,
    "betas": [0.9, 0.95],
    "adam_eps": 1e-5,
    "clip": 0.2,
    "value_clip": 0.2,
    "kl_coef": 0.4,
    "gamma": 1.0,
    "lam": 0.95,
    "temperature": 1.0,
    "seed": 0,
}
"""What all PPO workloads have in common; both programs take it from `settings.json`."""

FINE_TUNING: dict[str, Any] = {"learning_rate": 1e-4, "betas": [0.9, 0.95], "gradient_clip": 1.0}
"""What all fine-tuning workloads have in common."""

SIZES = {"vocabulary": 512, "hidden": 64, "layers": 2, "heads": 4, "prompt": 16, "max_new": 32}
"""The model of the tasks with random tokens, and their lengths in tokens."""

_CONTEXT, _LIMIT = 256, 36
_DEMONSTRATIONS, _REPLAY, _REPLAY_TOKENS = 32, 4, 64


def natural(folder: Path, outputs: Path, *, batch: int, updates: int, epochs: int, minibatches: int) -> Path:
    """Write the embedded world's task: the SFT model and reward model of `outputs`, its prompts, natural lengths.

    Raises:
        FileNotFoundError: if the store of `outputs` has no SFT or no reward model.
    """
    store = Store(outputs)
    sft, reward = newest(store, "sft"), newest(store, "reward")
    tokenizer = load_tokenizer(sft.path)
    drawn = ZooSource(seed=0).prompts(seeds.generator(0, 0, "alignment prompts"), batch * updates)
    kept = fit_prompts(tokenizer, drawn, _CONTEXT, _LIMIT).kept
    prompts = encode_prompts(tokenizer, [prompt.conversation() for prompt in kept])
    _models(folder, load_causal(sft.path), load_scalar(reward.path), tokenizer)
    own = {"batch": batch, "epochs": epochs, "minibatches": minibatches, "max_new": _LIMIT}
    return _ppo(folder, prompts, own, tokenizer)


def full_length(
    folder: Path, *, batch: int, updates: int, epochs: int, minibatches: int, sizes: dict[str, int] = SIZES
) -> Path:
    """Write a task in which every prompt has one length and every reply runs to the limit: nothing to save by packing.

    End and padding are words that the model does not have, so that it cannot say them.
    """
    config = _configuration(sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        policy = LlamaForCausalLM(LlamaConfig(**config)).eval()
        reward = LlamaForSequenceClassification(LlamaConfig(num_labels=1, **config)).eval()
    tokenizer = _word_tokenizer(sizes["vocabulary"])
    _models(folder, policy, reward, tokenizer)
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randint(1, sizes["vocabulary"], (batch * updates, sizes["prompt"]), generator=generator).tolist()
    own = {"batch": batch, "epochs": epochs, "minibatches": minibatches, "max_new": sizes["max_new"]}
    return _ppo(folder, prompts, own, tokenizer)


def demonstrations(folder: Path, outputs: Path, *, steps: int) -> Path:
    """Write the embedded world's fine-tuning: the base model of `outputs`, batches of the pipeline's own make.

    A batch is 32 demonstrations, of which the replies are learned, and 4 rows of text, learned as a whole.
    """
    base = newest(Store(outputs), "base")
    tokenizer, source = load_tokenizer(base.path), ZooSource(seed=0)
    save(load_causal(base.path), tokenizer, folder / "model")
    count = steps * _DEMONSTRATIONS
    asked = encode_conversation(
        tokenizer, source.demonstrations(seeds.generator(0, 0, "demonstrations"), count), "assistant"
    )
    corpus = source.corpus(seeds.generator(0, 0, "replay"), steps * _REPLAY * _REPLAY_TOKENS)
    specials = tokenizer.bos_token_id, tokenizer.eos_token_id
    documents = [[specials[0], *ids, specials[1]] for ids in encode_texts(tokenizer, corpus)]
    text = [(row, [True] * _REPLAY_TOKENS) for row in pack_documents(documents, _REPLAY_TOKENS).tolist()]
    rows = []
    for step in range(steps):
        rows += asked[step * _DEMONSTRATIONS : (step + 1) * _DEMONSTRATIONS]
        rows += [text[index % len(text)] for index in range(step * _REPLAY, (step + 1) * _REPLAY)]
    return _fine_tuning(folder, rows, _DEMONSTRATIONS + _REPLAY)


def spread(folder: Path, *, steps: int, batch: int = 16, longest: int = 127, sizes: dict[str, int] = SIZES) -> Path:
    """Write a fine-tuning on random documents whose lengths spread evenly from 8 to `longest` tokens, all learned."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(**_configuration(sizes))).eval()
    words = sizes["vocabulary"] - 2  # End and padding are the last two; padding goes through the model here.
    save(model, _word_tokenizer(words), folder / "model")
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(8, longest + 1, (steps * batch,), generator=generator).tolist()
    rows = [(torch.randint(1, words, (length,), generator=generator).tolist(), [True] * length) for length in lengths]
    return _fine_tuning(folder, rows, batch)


def newest(store: Store, kind: str) -> Artifact:
    """Return the artifact of a kind that was published last; raises FileNotFoundError if there is none."""
    found = max(store.artifacts(kind), key=lambda artifact: artifact.published, default=None)
    if found is None:
        raise FileNotFoundError(f"{store.root} has no {kind} model; run `python run.py outputs.dir={store.root}` first")
    return found


def _models(folder: Path, policy: Any, reward: Any, tokenizer: Any) -> None:
    models = {"policy": policy, "reference": policy, "reward": reward, "critic": critic_from_reward(reward)}
    for name, model in models.items():
        save(model, tokenizer, folder / name)


def _ppo(folder: Path, prompts: Sequence[Sequence[int]], own: dict[str, Any], tokenizer: Any) -> Path:
    ids = {"eos": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id}
    (folder / "prompts.json").write_text(json.dumps([list(map(int, prompt)) for prompt in prompts]))
    (folder / "settings.json").write_text(json.dumps(SETTINGS | own | ids, indent=1))
    return folder


def _fine_tuning(folder: Path, rows: Sequence[tuple[Sequence[int], Sequence[bool]]], batch: int) -> Path:
    # The first token of a row has none before it: it is never learned, whatever its mark.
    plain = [[list(map(int, ids)), [False, *map(bool, learned[1:])]] for ids, learned in rows]
    longest = max(len(ids) for ids, _ in rows)
    (folder / "rows.json").write_text(json.dumps(plain))
    (folder / "settings.json").write_text(json.dumps(FINE_TUNING | {"batch": batch, "longest": longest}, indent=1))
    return folder


def _configuration(sizes: dict[str, int]) -> dict[str, Any]:
    return {
        "vocab_size": sizes["vocabulary"],
        "hidden_size": sizes["hidden"],
        "intermediate_size": 4 * sizes["hidden"],
        "num_hidden_layers": sizes["layers"],
        "num_attention_heads": sizes["heads"],
        "num_key_value_heads": sizes["heads"],
        "max_position_embeddings": _CONTEXT,
        "pad_token_id": None,
        "bos_token_id": 0,
        "eos_token_id": None,
    }


def _word_tokenizer(words: int) -> PreTrainedTokenizerFast:
    vocabulary = {f"w{number}": number for number in range(words)} | {"<eos>": words, "<pad>": words + 1}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="w0"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="w0", eos_token="<eos>", pad_token="<pad>")
