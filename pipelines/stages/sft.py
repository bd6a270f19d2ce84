"""Stage `sft`: fine-tunes the base on demonstrations; the ingredients of one soup differ in the order they see them."""

from typing import Any

from pipelines.training import optimiser_settings, train
from pipelines.work import Work
from salsa.data.chat import encode_conversation
from salsa.models.families import load_causal, load_tokenizer, save
from salsa.training.batches import batch_indices
from salsa.training.language import LanguageModeling, collate


def run(work: Work) -> tuple[str, dict[str, Any]]:
    """Leave the fine-tuned model's folder."""
    config = work.config
    base = work.inputs["base"].path
    tokenizer, model = load_tokenizer(base), load_causal(base)
    demonstrations = work.source.demonstrations(work.rng("demonstrations", config["draw"]), config["demonstrations"])
    encoded = encode_conversation(tokenizer, demonstrations, config["learn"])
    rows = [row for row in encoded if len(row[0]) <= config["context"]]
    if not rows:
        raise ValueError(
            f"base.context={config['context']}: none of the {len(encoded)} demonstrations fits; raise base.context"
        )
    module = LanguageModeling(model, optimiser_settings(config["optimiser"]), config["steps"])
    order, batch, pad = work.seed("sft order", config["index"]), config["batch"], tokenizer.pad_token_id
    last = train(
        work,
        module,
        lambda step: collate([rows[index] for index in batch_indices(order, step, batch, len(rows))], pad),
        config["steps"],
    )
    save(model, tokenizer, work.folder)
    left_out = len(encoded) - len(rows)
    says = f"{len(rows)} demonstrations, {config['steps']} steps, last loss {last['loss']:.2f}"
    if left_out:
        says += f"; {left_out} longer than {config['context']} tokens left out"
    return says, {"loss": last["loss"], "demonstrations": len(rows), "too_long": left_out}
