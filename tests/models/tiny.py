"""Small tokenizers and models for tests."""

from dataclasses import replace

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from salsa.models.architecture import Architecture
from salsa.models.families import build

ARCHITECTURES = {
    "llama2": Architecture("llama2", 16, 2, 4, 4, 4, 24, 32, None, True, 0.1),
    "mistral": Architecture("mistral", 16, 2, 4, 2, 4, 24, 32, 6, False, 0.1),
    "gemma": Architecture("gemma", 16, 2, 4, 1, 8, 24, 32, None, True, 0.1),
}
CHAT_TEMPLATE = "{{ bos_token }}{% for message in messages %}{{ message.content }} {% endfor %}"


def tokenizer(words: int = 12) -> PreTrainedTokenizerFast:
    vocabulary = ["<pad>", "<bos>", "<eos>", *(f"w{index}" for index in range(words))]
    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(vocabulary)}, unk_token="<eos>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<eos>"
    )
    made.chat_template = CHAT_TEMPLATE
    return made


def causal(family: str = "llama2", seed: int = 0, **changes: object) -> PreTrainedModel:
    return build(replace(ARCHITECTURES[family], **changes), tokenizer(), seed)
