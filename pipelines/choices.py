"""What the keys of the configuration that take one of a few names can be. Imports no torch."""

from enum import Enum


class Family(Enum):
    """Architectures that can be built small."""

    llama2 = "llama2"
    mistral = "mistral"
    gemma = "gemma"


class Origin(Enum):
    """Where the base weights come from."""

    build = "build"
    hub = "hub"


class Reference(Enum):
    """Models that the KL can be measured to."""

    sft = "sft"
    soup = "soup"
    other = "other"
    base = "base"


class Init(Enum):
    """Models that a policy can start from."""

    sft_1 = "sft_1"
    soup = "soup"


class Draws(Enum):
    """Whether the SFT models share their demonstrations."""

    shared = "shared"
    separate = "separate"


class Learn(Enum):
    """Tokens that fine-tuning learns."""

    assistant = "assistant"
    last = "last"
    all = "all"


class JudgeName(Enum):
    """Judges of replies."""

    gold = "gold"
    reward_model = "reward_model"


class Tracker(Enum):
    """Experiment trackers."""

    wandb = "wandb"
    none = "none"


class TrackerMode(Enum):
    """How the tracker reaches its server."""

    auto = "auto"
    online = "online"
    offline = "offline"


class Schedule(Enum):
    """Shapes of the learning rate after warm-up."""

    cosine = "cosine"
    linear = "linear"
    constant = "constant"


class Accelerator(Enum):
    """Where tensors live."""

    auto = "auto"
    cpu = "cpu"
    gpu = "gpu"
