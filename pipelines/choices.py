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
    """What the KL is measured to."""

    sft = "sft"
    soup = "soup"
    other = "other"
    base = "base"
    ema = "ema"
    sync = "sync"
    mixture = "mixture"


class Init(Enum):
    """Models that a policy can start from."""

    sft_1 = "sft_1"
    sft_2 = "sft_2"
    soup = "soup"


class Loss(Enum):
    """Losses of a token."""

    ppo_clip = "ppo_clip"
    square = "square"
    awr = "awr"
    reinforce = "reinforce"


class Credit(Enum):
    """Where advantages come from."""

    gae = "gae"
    group = "group"
    leave_one_out = "leave_one_out"
    returns = "returns"


class Aggregate(Enum):
    """How the losses of tokens become the loss of a minibatch."""

    tokens = "tokens"
    replies = "replies"
    reply_sums = "reply_sums"


class KlPlacement(Enum):
    """Where the KL to the reference enters."""

    reward = "reward"
    loss_k2 = "loss_k2"
    loss_k3 = "loss_k3"
    none = "none"


class Critic(Enum):
    """Critics of the credit gae."""

    reward = "reward"
    sft = "sft"
    trunk = "trunk"


class Action(Enum):
    """What a crossed guard leads to."""

    stop = "stop"
    skip = "skip"
    warn = "warn"
    ignore = "ignore"


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
    openai = "openai"
    function = "function"


class Question(Enum):
    """What a judge that reads is asked of replies."""

    single = "single"
    pair = "pair"


class Role(Enum):
    """Rows of the table by what they are."""

    ingredient = "ingredient"
    soup = "soup"
    opponent = "opponent"
    policy = "policy"
    control = "control"


class StudyKind(Enum):
    """What a study's tables and figures show."""

    none = "none"
    comparison = "comparison"
    frontier = "frontier"
    line = "line"
    plane = "plane"


class StudyAbout(Enum):
    """What a study's questions are about: what its kind compares, or something else that it measures."""

    outcome = "outcome"
    kl = "kl"
    length = "length"


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


class Criterion(Enum):
    """What makes a greedy soup better."""

    loss = "loss"
    reward = "reward"


class Merge(Enum):
    """Merges of models that LITI starts from."""

    uniform = "uniform"
    slerp = "slerp"
