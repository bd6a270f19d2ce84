"""The shape of a LoRA adapter (Hu et al., arXiv:2106.09685); imports no torch, so that a plan can check it."""

from dataclasses import dataclass

LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The linear layers of a block of the three families. Embeddings, norms and the output head are never adapted."""


@dataclass(frozen=True)
class LoraSettings:
    """What is added to a frozen matrix W: (alpha / rank) B A, with B [out, rank] and A [rank, in].

    Raises:
        ValueError: if a value is out of its range or a target is no linear layer of a block.
    """

    rank: int
    """Columns of B and rows of A."""
    alpha: float
    """Times 1 / rank it is the factor of B A; peft's lora_alpha."""
    targets: tuple[str, ...]
    """Names of the layers that are adapted, in every block."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank must be at least 1, got {self.rank}")
        if not self.alpha > 0:
            raise ValueError(f"alpha must be positive, got {self.alpha:g}")
        unknown = [name for name in self.targets if name not in LINEAR_LAYERS]
        if unknown or not self.targets or len(set(self.targets)) < len(self.targets):
            given = ", ".join(self.targets) or "none"
            raise ValueError(f"targets must be some of {', '.join(LINEAR_LAYERS)}, each once, got {given}")
