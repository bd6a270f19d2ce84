"""Stage `base`: pre-trains a small model of the family from scratch, or points to published weights."""

from typing import Any

from pipelines.device import place
from pipelines.training import optimiser_settings, train
from pipelines.work import Work
from salsa.data.chat import encode_texts, set_chat_template, train_bpe, word_tokenizer
from salsa.models.families import Architecture, build, load_tokenizer, save
from salsa.models.source import (
    UnavailableModelError,
    check_configuration,
    read_configuration,
    resolve,
    weight_bytes,
    write_pointer,
)
from salsa.training.batches import batch_indices
from salsa.training.language import LanguageModeling, next_word_accuracy, pack_documents, packed_batch


def run(work: Work) -> tuple[str, dict[str, Any]]:
    """Leave a model folder: weights (or a pointer to them), tokenizer and chat template."""
    if work.config["source"] == "build":
        return _build(work)
    return _point(work)


def _point(work: Work) -> tuple[str, dict[str, Any]]:
    """Point to published weights, a folder's or the hub's, and keep their tokenizer with a chat template here."""
    place = work.stage.execution
    work.progress(0, 1, f"getting {place['name']}")
    write_pointer(work.folder, place["name"], place["revision"])
    found = resolve(work.folder)
    check_configuration(found, place["family"], place["context"])
    tokenizer = load_tokenizer(work.folder)
    rows = read_configuration(found)["vocab_size"]
    if len(tokenizer) > rows:
        raise UnavailableModelError(
            f"the tokenizer in {found} has {len(tokenizer)} tokens but the model's embedding only {rows}; "
            "they do not belong together"
        )
    set_chat_template(tokenizer, work.config["template"])
    tokenizer.save_pretrained(work.folder)
    at = f"revision {place['revision']}" if work.config["source"] == "hub" else f"{len(work.config['files'])} files"
    return f"{place['name']}, {at}, {weight_bytes(found) / 1e9:.3g} GB of weights", {"vocabulary": len(tokenizer)}


def _build(work: Work) -> tuple[str, dict[str, Any]]:
    config, source = work.config, work.source
    steps, batch, width = config["steps"], config["batch"], config["row_tokens"]
    work.progress(0, steps, "writing the corpus")
    documents = source.corpus(work.rng("corpus"), steps * batch * width)
    words = source.words
    tokenizer = word_tokenizer(words) if words is not None else train_bpe(documents, config["vocabulary"])
    set_chat_template(tokenizer, source.chat)
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    rows = pack_documents([[bos, *ids, eos] for ids in encode_texts(tokenizer, documents)], width)
    model = build(Architecture(**config["architecture"]), tokenizer, work.seed("base weights"))
    module = LanguageModeling(model, optimiser_settings(config["optimiser"]), steps)
    order = work.seed("base order")
    last = train(work, module, lambda step: packed_batch(rows[batch_indices(order, step, batch, len(rows))]), steps)
    save(model, tokenizer, work.folder)
    metrics: dict[str, Any] = {
        "loss": last["loss"],
        "parameters": model.num_parameters(),
        "documents": len(documents),
        "rows": len(rows),
    }
    says = f"{model.num_parameters():,} parameters, {len(rows) * width:,} tokens of text, {steps} steps"
    probes = source.recall_probes()
    if probes:
        ids = [[bos, *row] for row in encode_texts(tokenizer, [text for text, _ in probes])]
        answers = [tokenizer.convert_tokens_to_ids(word) for _, word in probes]
        metrics["recall"] = next_word_accuracy(place(model.eval(), work.execution), ids, answers)
        says += f", recalls {metrics['recall']:.0%} of the facts"
    return says, metrics
