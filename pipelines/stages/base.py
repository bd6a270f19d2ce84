"""Stage `base`: pre-trains a small model of the family from scratch, or points to published weights."""

from typing import Any

from pipelines.training import optimiser_settings, train
from pipelines.work import Work
from salsa.data.chat import encode_texts, set_chat_template, train_bpe, word_tokenizer
from salsa.models.families import Architecture, build, load_tokenizer, save
from salsa.models.source import resolve, write_pointer
from salsa.training.batches import batch_indices
from salsa.training.language import LanguageModeling, next_word_accuracy, pack_documents, packed_batch


def run(work: Work) -> tuple[str, dict[str, Any]]:
    """Leave a model folder: weights (or a pointer to them), tokenizer and chat template."""
    if work.config["source"] == "hub":
        return _point(work)
    return _build(work)


def _point(work: Work) -> tuple[str, dict[str, Any]]:
    name, revision = work.config["name"], work.config["revision"]
    write_pointer(work.folder, name, revision)
    found = resolve(work.folder)
    tokenizer = load_tokenizer(work.folder)
    set_chat_template(tokenizer, work.config["template"])
    tokenizer.save_pretrained(work.folder)
    return f"{name}, revision {revision or found.name}", {"resolved": str(found)}


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
        metrics["recall"] = next_word_accuracy(model.eval(), ids, answers)
        says += f", recalls {metrics['recall']:.0%} of the facts"
    return says, metrics
