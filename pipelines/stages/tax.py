"""Stage `tax`: what a model has kept of its pre-training: recall of facts and perplexity on held-out text."""

import json
from typing import Any

from pipelines.device import place
from pipelines.work import Work
from salsa.data.chat import encode_texts
from salsa.models.families import load_causal, load_tokenizer
from salsa.training.language import next_word_accuracy, perplexity

TAX = "tax.json"


def run(work: Work) -> tuple[str, dict[str, Any]]:
    """Leave `tax.json`: fact recall (null where no facts are known) and perplexity."""
    folder = work.inputs["model"].path
    tokenizer, model = load_tokenizer(folder), place(load_causal(folder), work.execution)
    bos, eos, context = tokenizer.bos_token_id, tokenizer.eos_token_id, work.config["context"]
    documents = encode_texts(tokenizer, work.source.heldout_text(work.config["documents"]))
    rows = [[bos, *ids, eos] for ids in documents if len(ids) + 2 <= context]
    if not rows:
        raise ValueError(
            f"base.context={context}: none of the {len(documents)} held-out documents fits; raise base.context"
        )
    probes = work.source.recall_probes()
    recall = None
    if probes:
        ids = [[bos, *row] for row in encode_texts(tokenizer, [text for text, _ in probes])]
        recall = next_word_accuracy(model, ids, [tokenizer.convert_tokens_to_ids(word) for _, word in probes])
    tax = {"recall": recall, "perplexity": perplexity(model, rows), "documents": len(rows)}
    (work.folder / TAX).write_text(json.dumps(tax))
    says = f"perplexity {tax['perplexity']:.2f} on {len(rows)} held-out documents"
    if recall is not None:
        says += f", recalls {recall:.0%} of the facts"
    return says, tax
