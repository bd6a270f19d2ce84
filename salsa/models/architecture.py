"""The shape of a language model of one of the three families; imports no torch, so that a plan can check it."""

from dataclasses import dataclass

FAMILIES = ("llama2", "mistral", "gemma")


@dataclass(frozen=True)
class Architecture:
    """The sizes of a model to be built.

    `hidden` is the width of the residual stream, `intermediate` that of the gated feed-forward layer, `head_dim` that
    of one attention head, `kv_heads` the number of key and value heads that the query heads share, `context` the
    longest sequence in tokens, `sliding_window` how many tokens an attention head of a Mistral sees (None: all),
    `init_std` the standard deviation of the initial matrices.

    Raises:
        ValueError: if the sizes contradict each other or the family.
    """

    family: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    context: int
    sliding_window: int | None
    tie_embeddings: bool
    init_std: float

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ValueError(f"family is '{self.family}'; choose one of {', '.join(FAMILIES)}")
        for name in ("hidden", "layers", "heads", "kv_heads", "head_dim", "intermediate", "context"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.heads % self.kv_heads:
            raise ValueError(
                f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads}): "
                "each key-value head serves the same number of query heads"
            )
        if self.head_dim % 2:
            raise ValueError(f"head_dim must be even, got {self.head_dim}: rotary positions turn pairs of numbers")
        if self.family == "llama2" and self.heads * self.head_dim != self.hidden:
            raise ValueError(
                f"head_dim ({self.head_dim}) times heads ({self.heads}) must be hidden ({self.hidden}) in a llama2 "
                "model; only mistral and gemma have heads of a size of their own"
            )
        if self.sliding_window is not None and self.family != "mistral":
            raise ValueError(
                f"sliding_window is {self.sliding_window}, but only mistral has one; set it to null for {self.family}"
            )
        if self.sliding_window is not None and self.sliding_window < 1:
            raise ValueError(f"sliding_window must be at least 1 or null, got {self.sliding_window}")
        if not self.init_std > 0:
            raise ValueError(f"init_std must be positive, got {self.init_std}")
