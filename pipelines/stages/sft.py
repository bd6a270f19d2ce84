"""Stage `sft`: fine-tunes the base on demonstrations; the ingredients of one soup differ in the order they see them."""

from typing import Any

from pipelines.training import optimiser_settings, train
from pipelines.work import Work
from salsa.data.chat import encode_conversation
from salsa.data.lengths import fit_conversations
from salsa.models.families import load_causal, load_tokenizer, save
from salsa.training.batches import batch_indices
from salsa.training.language import LanguageModeling, collate


def run(work: Work) -> tuple[str, dict[str, Any]]:
    """Leave the fine-tuned model's folder."""
    config = work.config
    base = work.inputs["base"].path
    tokenizer, model = load_tokenizer(base), load_causal(base)
    demonstrations = work.source.demonstrations(work.rng("demonstrations", config["draw"]), config["demonstrations"])
    fitting = fit_conversations(tokenizer, demonstrations, config["context"])
    rows = encode_conversation(tokenizer, fitting.kept, config["learn"])
    module = LanguageModeling(model, optimiser_settings(config["optimiser"]), config["steps"])
    order, batch, pad = work.seed("sft order", config["index"]), config["batch"], tokenizer.pad_token_id
    last = train(
        work,
        module,
        lambda step: collate([rows[index] for index in batch_indices(order, step, batch, len(rows))], pad),
        config["steps"],
    )
    save(model, tokenizer, work.folder)
    says = f"{len(rows)} demonstrations, {config['steps']} steps, last loss {last['loss']:.2f}"
    if fitting.too_long:
        says += f"; {fitting.message('demonstrations')}"
    return says, {"loss": last["loss"], "demonstrations": len(rows), "too_long": fitting.too_long}
