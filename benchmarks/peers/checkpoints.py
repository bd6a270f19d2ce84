"""Synthetic checkpoints in the shape of Llama, in float32: what is merged where only the bytes count."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from salsa.soup.checkpoint import PIECE
from salsa.soup.writer import Form, Writer, planned


@dataclass(frozen=True)
class Shape:
    """Widths of a model and the number of its words; `layers` of them."""

    hidden: int
    intermediate: int
    vocabulary: int
    layers: int

    @classmethod
    def of_size(cls, size: int) -> "Shape":
        """Return the shape that takes about `size` bytes in float32, or a little more."""
        hidden, intermediate, vocabulary = 64, 192, 256
        for least, *widths in ((50e6, 512, 1408, 8_000), (300e6, 768, 2048, 32_000), (3e9, 2048, 5632, 32_000)):
            if size >= least:
                hidden, intermediate, vocabulary = (int(width) for width in widths)
        layer = 4 * hidden**2 + 3 * hidden * intermediate + 2 * hidden
        rest = size / 4 - 2 * vocabulary * hidden - hidden
        return cls(hidden, intermediate, vocabulary, max(1, math.ceil(rest / layer)))

    @property
    def configuration(self) -> dict[str, Any]:
        """What `config.json` says of such a model."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "vocab_size": self.vocabulary,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.hidden // 64,
            "num_key_value_heads": self.hidden // 64,
            "tie_word_embeddings": False,
            "torch_dtype": "float32",
        }

    def forms(self) -> Iterator[Form]:
        """Yield name, number format and shape of every tensor."""
        square, up = (self.hidden, self.hidden), (self.intermediate, self.hidden)
        layer = {f"self_attn.{part}_proj": square for part in "qkvo"}
        layer |= {"mlp.gate_proj": up, "mlp.up_proj": up, "mlp.down_proj": up[::-1]}
        words, norm = (self.vocabulary, self.hidden), (self.hidden,)
        yield "model.embed_tokens.weight", "F32", words
        for index in range(self.layers):
            for name, shape in layer.items():
                yield f"model.layers.{index}.{name}.weight", "F32", shape
            for name in ("input_layernorm", "post_attention_layernorm"):
                yield f"model.layers.{index}.{name}.weight", "F32", norm
        yield "model.norm.weight", "F32", norm
        yield "lm_head.weight", "F32", words


def make(folder: Path, size: int, seed: int, shard_bytes: int, *, empty: bool = False) -> Path:
    """Write a model of about `size` bytes and return its folder; weights are normal, with deviation 0.02.

    If `empty`, they are zero and take no space on the disk, where its file system can leave holes in files.
    """
    shape = Shape.of_size(size)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(shape.configuration, indent=2), encoding="utf-8")
    forms = list(shape.forms())
    writer = Writer(folder, planned(forms, shard_bytes))
    generator = np.random.Generator(np.random.SFC64(seed))
    for name, _, sizes in [] if empty else forms:
        for start in range(0, math.prod(sizes), PIECE):
            count = min(PIECE, math.prod(sizes) - start)
            writer.write(name, 4 * start, generator.standard_normal(count, np.float32) * np.float32(0.02))
    writer.close()
    return folder
