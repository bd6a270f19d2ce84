"""Stage `sft`: fine-tunes the base on demonstrations; the ingredients of one soup differ in the order they see them."""

from typing import Any

from pipelines.adapters import keep, sft_start
from pipelines.training import optimiser_settings, train
from pipelines.work import Work
from salsa.data.chat import encode_conversation, encode_texts
from salsa.data.lengths import fit_conversations
from salsa.models.families import load_tokenizer
from salsa.models.layout import Layout
from salsa.training.batches import batch_indices
from salsa.training.language import LanguageModeling, collate, pack_documents


def run(work: Work) -> tuple[str, dict[str, Any]]:
    """Leave the fine-tuned model's folder; with `lora`, its adapter's."""
    config = work.config
    tokenizer = load_tokenizer(work.inputs["base"].path)
    model = sft_start(work)
    demonstrations = work.source.demonstrations(work.rng("demonstrations", config["draw"]), config["demonstrations"])
    fitting = fit_conversations(tokenizer, demonstrations, config["context"])
    rows = encode_conversation(tokenizer, fitting.kept, config["learn"])
    text = _replay(work, tokenizer)
    module = LanguageModeling(model, optimiser_settings(config["optimiser"]), config["steps"])
    order, batch = work.seed("sft order", config["index"]), config["batch"]

    def make_batch(step: int) -> Layout:
        chosen = [rows[index] for index in batch_indices(order, step, batch, len(rows))]
        if text:
            chosen += [text[index] for index in batch_indices(order, step, config["replay"], len(text))]
        return collate(chosen)

    last = train(work, module, make_batch, config["steps"])
    keep(work, model, tokenizer)
    says = f"{len(rows)} demonstrations, {config['steps']} steps, last loss {last['loss']:.2f}"
    if fitting.too_long:
        says += f"; {fitting.message('demonstrations')}"
    return says, {"loss": last["loss"], "demonstrations": len(rows), "too_long": fitting.too_long}


def _replay(work: Work, tokenizer: Any) -> list[tuple[list[int], list[bool]]]:
    """Return rows of pre-training text, all learned: mixed into the batches, they keep facts from being forgotten."""
    config = work.config
    if config["replay"] == 0:
        return []
    width = config["replay_tokens"]
    documents = work.source.corpus(work.rng("replay"), config["steps"] * config["replay"] * width)
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    rows = pack_documents([[bos, *ids, eos] for ids in encode_texts(tokenizer, documents)], width)
    return [(row, [True] * width) for row in rows.tolist()]
