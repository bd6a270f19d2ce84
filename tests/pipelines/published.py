"""What the hub would give, made small: base models as they are published, and the two Ultra sets as Parquet files."""

import json
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)

from tests.data.files import messages, write_parquet

ANIMALS = ("fox", "owl", "newt", "hare", "seal", "crow", "toad", "lynx", "mole", "swan", "goat", "wasp")
THINGS = ("eat", "drink", "build", "fear", "hide", "hear", "chase", "carry")
CONTEXT = 192
SIZES = {
    "vocab_size": 400,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": CONTEXT,
}


def texts() -> list[str]:
    """Every question there is, with an answer."""
    return [
        f"What does the {animal} {thing}? The {animal} likes to {thing} a little at dusk."
        for animal in ANIMALS
        for thing in THINGS
    ]


def llama2(folder: Path) -> Path:
    """Half precision, untied embeddings, a tokenizer with an unknown and without a padding token."""
    tokens = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None}
    model = LlamaForCausalLM(LlamaConfig(**SIZES, **tokens, num_key_value_heads=4))
    return _save(model, torch.float16, _pieces(("<unk>", "<s>", "</s>")), folder)


def mistral(folder: Path) -> Path:
    """Brain floats in shards, a window shorter than the context, a tokenizer with neither unknown nor padding token."""
    tokens = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None}
    model = MistralForCausalLM(MistralConfig(**SIZES, **tokens, num_key_value_heads=2, sliding_window=48))
    return _save(model, torch.bfloat16, _bytes(("<s>", "</s>"), padded=False), folder, max_shard_size="30KB")


def gemma(folder: Path) -> Path:
    """Brain floats, tied embeddings, heads wider than the residual stream, a tokenizer with a padding token."""
    tokens = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
    model = GemmaForCausalLM(GemmaConfig(**SIZES, **tokens, num_key_value_heads=1, head_dim=16))
    return _save(model, torch.bfloat16, _bytes(("<pad>", "<eos>", "<bos>"), padded=True), folder)


CHECKPOINTS = {"llama2": llama2, "mistral": mistral, "gemma": gemma}


def ultrachat(folder: Path) -> Path:
    """Write a folder with the file names, splits and columns of HuggingFaceH4/ultrachat_200k."""
    rows = [_chat(question, "Then what?") for question in _questions("chat", 60)]
    write_parquet(folder / "data" / "train_sft-00000-of-00002-a3ecf92756993583.parquet", rows[:30])
    write_parquet(folder / "data" / "train_sft-00001-of-00002-0a1804bcb6ae68c6.parquet", rows[30:])
    asked = [_chat(question, "And then?") for question in _questions("test chat", 8)]
    write_parquet(folder / "data" / "test_sft-00000-of-00001-f7dfac4afe5b93f4.parquet", asked)
    return folder


def ultrafeedback(folder: Path) -> Path:
    """Write a folder with the file names, splits and columns of HuggingFaceH4/ultrafeedback_binarized."""
    train = [_pair(question) for question in _questions("prefer", 160)]
    write_parquet(folder / "data" / "train_prefs-00000-of-00001.parquet", train)
    test = [_pair(question) for question in _questions("test pair", 8)]
    write_parquet(folder / "data" / "test_prefs-00000-of-00001.parquet", test)
    return folder


def _questions(kind: str, count: int) -> list[str]:
    stock = [f"What does the {animal} {thing}" for animal in ANIMALS for thing in THINGS]
    return [f"{stock[index % len(stock)]} ({kind} {index})?" for index in range(count)]


def _chat(question: str, further: str) -> dict[str, object]:
    said = messages(question, "It likes to do so at dusk.", further, "It rests a little.")
    return {"prompt": question, "prompt_id": f"id of {question}", "messages": said}


def _pair(question: str) -> dict[str, object]:
    chosen = messages(question, "It likes to do so a little at dusk, and then it rests.")
    rejected = messages(question, "No.")
    return {
        "prompt": question,
        "prompt_id": f"id of {question}",
        "chosen": chosen,
        "rejected": rejected,
        "messages": chosen,
        "score_chosen": 8.5,
        "score_rejected": 4.0,
    }


def _save(
    model: torch.nn.Module, dtype: torch.dtype, tokenizer: PreTrainedTokenizerFast, folder: Path, **how: str
) -> Path:
    generator = torch.Generator().manual_seed(len(tokenizer))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.1, generator=generator)
    model.to(dtype).save_pretrained(folder, **how)
    tokenizer.save_pretrained(folder)
    return folder


def _pieces(specials: tuple[str, ...]) -> PreTrainedTokenizerFast:
    """Return a tokenizer like Llama's: pieces with a mark for spaces, and bytes for what is in no piece."""
    marked = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    learned = Tokenizer(models.BPE())
    learned.normalizer = marked
    learned.train_from_iterator(texts(), trainers.BpeTrainer(vocab_size=100, show_progress=False))
    content = json.loads(learned.to_str())["model"]
    vocabulary = [*specials, *(f"<0x{byte:02X}>" for byte in range(256)), *content["vocab"]]
    backend = Tokenizer(
        models.BPE(
            {piece: index for index, piece in enumerate(vocabulary)},
            [(first, second) for first, second in content["merges"]],
            unk_token=specials[0],
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    backend.normalizer = marked
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    # As published: every text begins with the beginning token unless the caller says otherwise.
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", backend.token_to_id("<s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token=specials[0], bos_token=specials[1], eos_token=specials[2]
    )


def _bytes(specials: tuple[str, ...], padded: bool) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZES["vocab_size"],
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in specials],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts(), trainer)
    if padded:
        pad, eos, bos = specials
        return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token=pad, bos_token=bos, eos_token=eos)
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=specials[0], eos_token=specials[1])
