"""One cell of `benchmarks.gpu`: a model of some size with random weights, generating or in an iteration of PPO.

python -m benchmarks.gpu_cell '{"size": "toy", "kind": "ppo", "weights": "lora", "critic": "trunk"}'
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

GIB = 2**30
NEVER = -1
"""An end token that no reply has."""


@dataclass(frozen=True)
class Size:
    """A model (all of Llama's kind) and a workload: `rows` prompts of `prompt` tokens, replies of `reply` tokens.

    `micro_batch` is the most slots of a forward pass, `least` the seconds below which a cell is not begun, `most` those
    after which it is stopped.
    """

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocabulary: int
    rows: int
    prompt: int
    reply: int
    micro_batch: int
    least: int
    most: int

    @property
    def parameters(self) -> int:
        """Numbers in the matrices of a language model."""
        attention = 2 * self.hidden * self.hidden * (1 + self.kv_heads / self.heads)
        block = int(attention) + 3 * self.hidden * self.intermediate
        return self.layers * block + 2 * self.vocabulary * self.hidden

    @property
    def cache(self) -> int:
        """Bytes of the keys and values of all tokens, in bfloat16."""
        width = self.hidden // self.heads * self.kv_heads
        return self.rows * (self.prompt + self.reply) * 2 * self.layers * width * 2


SIZES = {
    "toy": Size(64, 2, 4, 4, 176, 512, 4, 8, 8, 256, 5, 60),
    # TinyLlama's shape.
    "1b": Size(2048, 22, 32, 4, 5632, 32_000, 64, 256, 256, 8192, 20, 90),
    # Activations of 2048 slots take about 9 GiB, which 140 GiB have left when two models are trained in bf16.
    "7b": Size(4096, 32, 32, 32, 11_008, 32_000, 64, 256, 256, 2048, 40, 150),
}


@dataclass(frozen=True)
class Cell:
    """One process: the `engines` of generation, or an iteration of `ppo` (weights bf16, mixed, lora; critic as set)."""

    size: str
    kind: str
    weights: str = "bf16"
    critic: str = ""

    @property
    def needed(self) -> float:
        """GiB that are needed at least: for weights and cache, or for weights, gradients and Adam's moments."""
        size = SIZES[self.size]
        trained = 2 if self.critic == "separate" else 1
        if self.kind == "engines" or self.weights == "lora":
            weights = states = 2
        else:
            # Reference and reward model are frozen.
            weights, states = (4 + each * trained for each in ((2, 8) if self.weights == "bf16" else (4, 16)))
        return max(size.parameters * weights + size.cache, size.parameters * states) / GIB


class Meter:
    """Prints what each phase of a cell took as a line of JSON, at once: a cell may not live to its end."""

    def __init__(self, cell: Cell, device: str) -> None:
        self.cell = cell
        self.device = device
        self.current = ""

    @contextmanager
    def phase(self, name: str, tokens: int) -> Iterator[None]:
        """Measure seconds and peak memory of a phase in which `tokens` tokens are worked on."""
        import torch

        self.current = name
        if self.device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        yield
        if self.device == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - started
        self.say(seconds=seconds, tokens=tokens, peak_gib=_peak(self.device))

    def say(self, **figures: Any) -> None:
        """Print figures of the current phase."""
        print(json.dumps({"phase": self.current, **figures}), flush=True)

    def fail(self, error: Exception) -> None:
        """Print why the current phase has no figures."""
        import torch

        if isinstance(error, torch.OutOfMemoryError):
            self.say(failed=f"out of memory: needs about {self.cell.needed:.0f} GiB and activations")
        else:
            self.say(failed=f"{type(error).__name__}: {' '.join(str(error).split())[:160]}")


def measure(cell: Cell) -> None:
    """Measure a cell in this process, printing each phase; running out of memory is a result."""
    import torch

    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    meter, size = Meter(cell, device), SIZES[cell.size]
    context = torch.autocast(device, torch.bfloat16) if cell.weights == "mixed" else nullcontext()
    try:
        with context:
            _engines(size, meter) if cell.kind == "engines" else _ppo(cell, size, meter)
    except torch.OutOfMemoryError as error:
        meter.fail(error)


def _peak(device: str) -> float:
    import resource

    import torch

    if device == "cuda":
        return torch.cuda.max_memory_allocated() / GIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB


def _model(size: Size, device: str, dtype: Any, *, scalar: bool = False) -> Any:
    """Return a model with random weights that are made on the device."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, LlamaConfig

    config = LlamaConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        intermediate_size=size.intermediate,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        max_position_embeddings=size.prompt + size.reply,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
        num_labels=1,
    )
    kind = AutoModelForSequenceClassification if scalar else AutoModelForCausalLM
    with torch.device(device):
        return kind.from_config(config, dtype=dtype).eval()


def _prompts(size: Size) -> list[list[int]]:
    import torch

    generator = torch.Generator().manual_seed(0)
    return torch.randint(3, size.vocabulary, (size.rows, size.prompt), generator=generator).tolist()


def _roll_out(model: Any, size: Size, prompts: list[list[int]], reply: int) -> Any:
    import torch

    from salsa.rl.rollout import generate

    noise = torch.rand(len(prompts), reply, generator=torch.Generator().manual_seed(0))
    return generate(
        model, prompts, eos=NEVER, pad=0, max_new=reply, temperature=1.0, noise=noise, max_tokens=size.micro_batch
    )


def _engines(size: Size, meter: Meter) -> None:
    """Measure the three ways of generating with one model."""
    import torch
    from transformers import GenerationConfig

    prompts, tokens = _prompts(size), size.rows * size.reply
    with meter.phase("weights", 0):
        model = _model(size, meter.device, torch.bfloat16)
        _roll_out(model, size, prompts[:2], 2)
    with meter.phase("loop", tokens):
        _roll_out(model, size, prompts, size.reply)
    sampling: dict[str, Any] = {"do_sample": True, "top_k": 0, "max_new_tokens": size.reply, "pad_token_id": 0}
    if meter.device == "cpu":
        meter.current = "continuous"
        meter.say(failed="skipped: continuous batching is unusable on a CPU")
    else:
        config = GenerationConfig(**sampling)
        _engine(meter, "continuous", tokens, lambda: model.generate_batch(prompts, generation_config=config))
    ids = torch.tensor(prompts, device=meter.device)
    static = sampling | {"attention_mask": torch.ones_like(ids), "cache_implementation": "static"}
    if _engine(meter, "static, first call", tokens, lambda: model.generate(ids, **static)):
        _engine(meter, "static", tokens, lambda: model.generate(ids, **static))


def _engine(meter: Meter, name: str, tokens: int, call: Callable[[], Any]) -> bool:
    """Measure an engine of another library; what it raises is its result. Return whether it worked."""
    try:
        with meter.phase(name, tokens):
            call()
    except Exception as error:
        meter.fail(error)
        return False
    return True


def _ppo(cell: Cell, size: Size, meter: Meter) -> None:
    """Measure the phases of an iteration of PPO, the update at its second time, when Adam has its moments."""
    import torch

    from salsa.models.heads import TrunkCritic, ValueHead
    from salsa.models.scoring import reply_values
    from salsa.rl.experience import experience
    from salsa.rl.learner import Learner

    prompts, tokens = _prompts(size), size.rows * (size.prompt + size.reply)
    with meter.phase("weights", 0):
        module = _module(cell, size, meter.device, prompts)
        _roll_out(module.policy, size, prompts[:2], 2)
    with meter.phase("generation", size.rows * size.reply):
        rollout = _roll_out(module.policy, size, prompts, size.reply)
    critic = module.critic
    critic = TrunkCritic(module.policy, critic) if isinstance(critic, ValueHead) else critic
    with meter.phase("scoring", tokens):
        references = module.reference.token_logps(rollout.sequences, 1.0)
        scores = module.scorer.rewards(rollout.sequences, rollout.ended)
        with torch.inference_mode():
            values = reply_values(critic, rollout.sequences, max_tokens=size.micro_batch)
    settings = module.settings
    collected, _ = experience(rollout, scores, references, values.clone(), settings, settings.kl_coef)
    optimisers = module.configure_optimizers()
    learner = Learner(settings, module.policy, module.critic, lambda loss: loss.backward())
    for name in ("first update", "update"):
        with meter.phase(name, tokens):
            learner.update(collected, settings.kl_coef, optimisers, lambda _: torch.arange(size.rows))


def _module(cell: Cell, size: Size, device: str, prompts: list[list[int]]) -> Any:
    """Return PPO with its models on the device."""
    from salsa.rl.ppo import PPO, PPOSettings
    from salsa.rl.references import FrozenReference
    from salsa.rl.rewards import usual_reward

    settings = PPOSettings(
        batch_prompts=size.rows,
        epochs=1,
        minibatches=4,
        max_new_tokens=size.reply,
        micro_batch_tokens=size.micro_batch,
        learning_rate=1e-6,
        critic_learning_rate=1e-6,
        critic="trunk" if cell.critic == "trunk" else "reward",
    )
    policy, critic, reference, reward = (_adapted if cell.weights == "lora" else _whole)(cell, size, device)
    module = PPO(
        settings,
        policy=policy,
        critic=critic,
        reference=FrozenReference(reference, "random", size.micro_batch),
        scorer=usual_reward(reward, 0.0, 1.0, None, size.micro_batch),
        prompts=prompts,
        eos=NEVER,
        pad=0,
    )
    return module.to(device).eval()


def _whole(cell: Cell, size: Size, device: str) -> tuple[Any, Any, Any, Any]:
    """Return policy, critic (None on the policy's trunk), reference and reward model, each with its own weights."""
    import torch

    trained = torch.float32 if cell.weights == "mixed" else torch.bfloat16
    critic = _model(size, device, trained, scalar=True) if cell.critic == "separate" else None
    policy, reference = _model(size, device, trained), _model(size, device, torch.bfloat16)
    return policy, critic, reference, _model(size, device, torch.bfloat16, scalar=True)


def _adapted(cell: Cell, size: Size, device: str) -> tuple[Any, Any, Any, Any]:
    """Return policy, critic, reference and reward model as adapters over one base (the reference: none)."""
    import torch

    from salsa.models.adapters import SharedBase
    from salsa.models.lora import LINEAR_LAYERS, LoraSettings

    shared, settings = SharedBase(_model(size, device, torch.bfloat16)), LoraSettings(16, 32.0, LINEAR_LAYERS)
    head = torch.randn(1, size.hidden, device=device) / size.hidden**0.5
    critic = shared.new("critic", settings, 1).give_head(head * 0) if cell.critic == "separate" else None
    reward = shared.new("reward", settings, 2).give_head(head)
    return shared.new("policy", settings, 0), critic, shared.bare(), reward


if __name__ == "__main__":
    measure(Cell(**json.loads(sys.argv[1])))
