"""Building, loading and saving causal language models of the Llama 2, Mistral and Gemma families."""

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from salsa.models.architecture import FAMILIES, Architecture
from salsa.models.source import UnavailableModelError, base_of, has_tokenizer, is_adapter, resolve

__all__ = [
    "FAMILIES",
    "Architecture",
    "UnavailableModelError",
    "build",
    "load_causal",
    "load_scalar",
    "load_tokenizer",
    "save",
]


def build(architecture: Architecture, tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
    """Build a causal language model with fresh weights, which depend on `seed` alone.

    Matrices are drawn from N(0, init_std) (the embedding of the padding token is zero), norms start as identities.

    Raises:
        ValueError: if the tokenizer lacks a padding, beginning or end token.
    """
    config = _configuration(architecture, tokenizer)
    # The library draws initial weights from the global generator: let it, without a trace, and draw them again.
    with torch.random.fork_rng(devices=[]):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, architecture.init_std, generator=generator)
        model.get_input_embeddings().weight[config.pad_token_id].zero_()
    return model


def load_causal(folder: Path, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """Load a causal language model from a folder in Hugging Face format or one that holds a pointer or an adapter.

    `dtype` None keeps the number format of the files. The model is in evaluation mode. A LoRA adapter is added into
    the weights of its base, in float32 or better: in half precision its small changes would be lost.

    Raises:
        UnavailableModelError: if the folder is missing, holds no safetensors, or holds another kind of model.
    """
    if is_adapter(folder):
        return _merged(load_causal(base_of(folder)), folder, dtype)
    return _load(AutoModelForCausalLM, "ForCausalLM", "a causal language model", folder, dtype)


def load_scalar(folder: Path, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """Load a reward model or critic (one number a token, see `heads`) as `load_causal` loads a language model.

    Raises:
        UnavailableModelError: as `load_causal`, and if the model's head has more than one output.
    """
    if is_adapter(folder):
        return _scalar_over_base(folder, dtype)
    model = _load(
        AutoModelForSequenceClassification, "ForSequenceClassification", "a reward model or critic", folder, dtype
    )
    if model.config.num_labels != 1:
        raise UnavailableModelError(
            f"{folder} holds a classifier of {model.config.num_labels} classes, not a reward model"
        )
    return model


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer, with its chat template, of the model that `folder` holds or points to.

    A tokenizer beside a pointer comes before the one of the model that is pointed to. One without a padding token (as
    published with Llama 2 and Mistral) gets its unknown or end token for it: no model here ever looks at padding.

    Raises:
        UnavailableModelError: if the model or its tokenizer is missing.
    """
    found = folder if has_tokenizer(folder) else resolve(folder)
    if not has_tokenizer(found):
        raise UnavailableModelError(f"{found} holds a model without a tokenizer; put its tokenizer.json there")
    with _quiet():
        tokenizer = AutoTokenizer.from_pretrained(found, trust_remote_code=False, local_files_only=True)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    return tokenizer


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, base: str | None = None) -> None:
    """Write model, tokenizer and chat template so that `from_pretrained(folder)` of transformers reads them.

    Of an `AdaptedModel` the adapter is written, in peft's format; `base` is the path from there to its base.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _quiet():
        model.save_pretrained(folder, **({} if base is None else {"base": base}))
        tokenizer.save_pretrained(folder)
    # Weights come out readable by their owner only, whatever the umask; a store is shared.
    mode = stat.S_IMODE((folder / "tokenizer_config.json").stat().st_mode)
    for weights in folder.glob("*.safetensors"):
        weights.chmod(mode)


def _configuration(architecture: Architecture, tokenizer: PreTrainedTokenizerBase) -> PretrainedConfig:
    specials = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    missing = [name.removesuffix("_id") for name, value in specials.items() if value is None]
    if missing:
        raise ValueError(f"the tokenizer has no {', '.join(missing)}; a model needs a padding, beginning and end token")
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": architecture.hidden,
        "intermediate_size": architecture.intermediate,
        "num_hidden_layers": architecture.layers,
        "num_attention_heads": architecture.heads,
        "num_key_value_heads": architecture.kv_heads,
        "head_dim": architecture.head_dim,
        "max_position_embeddings": architecture.context,
        "tie_word_embeddings": architecture.tie_embeddings,
        "initializer_range": architecture.init_std,
        **specials,
    }
    if architecture.family == "llama2":
        # The library's default is Llama 1's 1e-6.
        return LlamaConfig(**sizes, rms_norm_eps=1e-5)
    if architecture.family == "mistral":
        return MistralConfig(**sizes, rms_norm_eps=1e-5, sliding_window=architecture.sliding_window)
    return GemmaConfig(**sizes, hidden_act="gelu_pytorch_tanh")


def _merged(model: PreTrainedModel, folder: Path, dtype: torch.dtype | None) -> PreTrainedModel:
    """Return the base `model` with the adapter in `folder` added into it."""
    from salsa.models.adapters import merge  # takes a second, which a store without adapters need not wait for
    from salsa.models.factors import read_adapter

    exact = model.to(torch.promote_types(model.dtype, torch.float32))
    with _quiet():
        return merge(exact, read_adapter(folder), str(folder)).to(dtype or exact.dtype).eval()


def _scalar_over_base(folder: Path, dtype: torch.dtype | None) -> PreTrainedModel:
    """Return the reward model or critic whose adapter and head are in `folder`, as a full model."""
    from salsa.models.factors import read_adapter
    from salsa.models.heads import reward_from_causal

    head = read_adapter(folder).head
    if head is None:
        raise UnavailableModelError(f"{folder} holds the adapter of a language model, not of a reward model or critic")
    model = reward_from_causal(load_causal(folder, dtype), head_seed=0)
    with torch.no_grad():
        model.score.weight.copy_(head)
    return model


def _load(kind: type, suffix: str, noun: str, folder: Path, dtype: torch.dtype | None) -> PreTrainedModel:
    found = resolve(folder)
    with _quiet():
        classes = AutoConfig.from_pretrained(found, trust_remote_code=False, local_files_only=True).architectures or []
        if not any(name.endswith(suffix) for name in classes):
            raise UnavailableModelError(f"{found} holds {', '.join(classes) or 'an unnamed model'}, not {noun}")
        model, report = kind.from_pretrained(  # type: ignore[attr-defined]  # a class of the untyped library
            found,
            dtype="auto" if dtype is None else dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    if report["missing_keys"]:
        # The library would fill them with random numbers and go on.
        raise UnavailableModelError(f"the weights in {found} lack {', '.join(sorted(report['missing_keys']))}")
    return model.eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers' progress bars and remarks; what matters is raised as an error."""
    bar, verbosity = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bar:
            transformers_logging.enable_progress_bar()
