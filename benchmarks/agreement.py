"""Whether our losses, rewards and advantages equal TRL's on the same tensors: a table of differences.

python -m benchmarks.agreement [--peers DIR] [--bound 1e-5]      exit code 1 if a difference exceeds the bound

TRL's PPO trainer makes one update (several passes, so that ratios are clipped) on small models with fixed replies, and
ours the same: once with replies that all run to the limit, once with replies that end. Its GRPO and RLOO trainers are
asked for losses, gradients and advantages. Known differences of definition, which the comparison takes into account:

* TRL's PPO whitens with the unbiased variance, ours with the biased one: a factor sqrt((n - 1) / n);
* where a reply has ended, TRL's PPO gives its score to the state behind the end token, whose value it also learns,
  ours to the end token itself: one cell more in the mask of rewards, values and returns;
* TRL's GRPO multiplies the k3 in its loss by the ratio unless told not to, as it is here;
* TRL's RLOO loss has the ratio of whole replies, ours that of tokens: they are compared by their gradients, where the
  policy is the one that rolled out.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.peers import environment
from benchmarks.peers.comparison import screen
from salsa.rl.credit import gae, group_normalised, leave_one_out, token_rewards, whiten
from salsa.rl.objectives import reply_weights, token_loss, value_loss

PROGRAM = Path(__file__).parent / "peers" / "trl_losses.py"
GROUP, REPLIES, LENGTH, BETA, CLIP = 4, 16, 9, 0.07, 0.2
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Difference:
    """The largest absolute difference between our numbers and the peer's, and the peer's largest number."""

    name: str
    value: float
    scale: float

    @classmethod
    def between(cls, name: str, ours: Tensor, theirs: Tensor) -> "Difference":
        """Compare two tensors of one shape."""
        if ours.shape != theirs.shape:
            raise ValueError(f"{name}: ours has the shape {tuple(ours.shape)}, the peer's {tuple(theirs.shape)}")
        return cls(name, (ours - theirs).abs().max().item(), theirs.abs().max().item())


def of_ppo(peer: Tensors, settings: dict[str, Any], case: str) -> list[Difference]:
    """Compare our functions with what TRL's PPO trainer computed on the way, from its own tensors."""
    mask, longer = ~peer["padding_mask"], ~peer["padding_mask_p1"]
    references = [(1.0, peer["ref_logprobs"])]
    rewards = token_rewards(peer["scores"], peer["logprobs"], references, longer, settings["kl_coef"])
    advantages, returns = gae(peer["rewards"], peer["values"], longer, settings["gamma"], settings["lam"])
    count = mask.sum()
    unbiased = whiten(peer["advantages"], mask) * torch.sqrt((count - 1) / count)
    pairs = [
        ("token rewards", rewards, peer["rewards"].where(longer, 0.0)),
        ("advantages (GAE)", advantages.where(mask, 0.0), peer["advantages"].where(mask, 0.0)),
        ("returns", returns.where(longer, 0.0), peer["returns"].where(longer, 0.0)),
        ("whitened advantages", unbiased, peer["whitened"].where(mask, 0.0)),
    ]
    found = [Difference.between(f"PPO {case}: {name}", ours, theirs) for name, ours, theirs in pairs]
    for number in range(settings["epochs"]):
        found += _of_pass({name: peer[f"pass{number}.{name}"] for name in _of(peer, number)}, number, case)
    return found


def _of(peer: Tensors, number: int) -> list[str]:
    start = f"pass{number}."
    return [name.removeprefix(start) for name in peer if name.startswith(start)]


def _of_pass(tensors: Tensors, number: int, case: str) -> list[Difference]:
    mask, longer = ~tensors["padding_mask"], ~tensors["padding_mask_p1"]
    names = ("new_logprobs", "mb_logprobs", "mb_advantage")
    logps, old, advantages = (tensors[name][mask] for name in names)
    policy = token_loss("ppo_clip", logps, old, [], advantages, clip=CLIP).losses.mean()
    values, old_values, returns = (tensors[name][longer] for name in ("vpred", "mb_values", "mb_return"))
    critic = value_loss(values, old_values, returns, CLIP).losses.mean()
    return [
        Difference.between(f"PPO {case}: policy loss, pass {number + 1}", policy, tensors["pg_loss"]),
        Difference.between(f"PPO {case}: value loss, pass {number + 1}", critic, tensors["vf_loss"]),
    ]


def of_training(folder: Path, peer: Tensors) -> list[Difference]:
    """Compare a whole update: replies, log-probabilities, values, scores and, in the end, the trained weights."""
    from benchmarks.peers.fixed import update

    collected, trained = update(folder, peer["row"].tolist())
    mask = ~peer["padding_mask"]
    assert collected.values is not None
    assert collected.returns is not None
    pairs = [
        ("log-probabilities", collected.logps, peer["logprobs"]),
        ("reference log-probabilities", collected.references[0][1], peer["ref_logprobs"]),
        ("values", collected.values, peer["values"]),
        ("returns", collected.returns, peer["returns"]),
    ]
    found = [Difference.between(f"PPO update: {name}", a.where(mask, 0.0), b.where(mask, 0.0)) for name, a, b in pairs]
    for model in ("policy", "critic"):
        ours = torch.cat([weight.flatten() for name, weight in trained.items() if name.startswith(model)])
        theirs = torch.cat([peer[name].flatten() for name in trained if name.startswith(model)])
        found.append(Difference.between(f"PPO update: weights of the {model} after it", ours, theirs))
    return found


def given(seed: int = 0) -> Tensors:
    """Return random log-probabilities, advantages and rewards for replies of different lengths."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, LENGTH + 1, (REPLIES,), generator=generator)
    logps = -torch.rand(REPLIES, LENGTH, generator=generator) * 4
    noise = [0.3 * torch.randn(REPLIES, LENGTH, generator=generator) for _ in range(2)]
    return {
        "mask": torch.arange(LENGTH) < lengths[:, None],
        "logps": logps,
        "old_logps": logps + noise[0],
        "ref_logps": logps + noise[1],
        "advantages": torch.randn(REPLIES, generator=generator),
        "rewards": torch.randn(REPLIES, generator=generator),
    }


def of_groups(tensors: Tensors, peer: Tensors) -> list[Difference]:
    """Compare the losses of GRPO (two ways to take the mean) and RLOO, their gradients, and their advantages."""
    found = []
    for kind, aggregate in (("grpo", "replies"), ("dapo", "tokens")):
        loss, gradient = loss_of(tensors, "ppo_clip", aggregate, "loss_k3", BETA)
        found.append(
            Difference.between(f"GRPO loss, k3 in the loss, mean over {aggregate}", loss, peer[f"grpo.{kind}.loss"])
        )
        found.append(Difference.between("  its gradient", gradient, peer[f"grpo.{kind}.gradient"]))
    on_policy = tensors | {"old_logps": tensors["logps"]}
    for kind in ("ppo_clip", "reinforce"):
        _, gradient = loss_of(on_policy, kind, "reply_sums", "none", 0.0)
        found.append(Difference.between(f"RLOO gradient ({kind}, sums of replies)", gradient, peer["rloo.gradient"]))
    rewards = tensors["rewards"]
    found.append(Difference.between("GRPO advantages", group_normalised(rewards, GROUP), peer["grpo.advantages"]))
    found.append(Difference.between("RLOO advantages", leave_one_out(rewards, GROUP), peer["rloo.advantages"]))
    return found


def loss_of(tensors: Tensors, kind: str, aggregate: str, placement: str, kl_coef: float) -> tuple[Tensor, Tensor]:
    """Return our loss of a minibatch of these replies, and its gradient in the log-probabilities."""
    mask, logps = tensors["mask"], tensors["logps"].clone().requires_grad_()
    weights = reply_weights(aggregate, mask.sum(1))[:, None].expand(mask.shape)[mask]
    terms = token_loss(
        kind,
        logps[mask],
        tensors["old_logps"][mask],
        [(1.0, tensors["ref_logps"][mask])],
        tensors["advantages"][:, None].expand(mask.shape)[mask],
        kl_placement=placement,
        kl_coef=kl_coef,
        clip=CLIP,
    )
    loss = (terms.losses * weights).sum()
    return loss.detach(), torch.autograd.grad(loss, logps)[0]


def measure(peers: Path) -> list[Difference]:
    """Run the peer on every case and return all differences."""
    from benchmarks.peers import fixed

    python = environment.interpreter(peers, environment.PPO)
    found = []
    for case in ("full", "ended"):
        with tempfile.TemporaryDirectory() as scratch:
            folder = fixed.write(Path(scratch), ended=case == "ended")
            environment.call(python, PROGRAM, "ppo", folder)
            peer = load_file(folder / "peer.safetensors")
            found += of_ppo(peer, json.loads((folder / "settings.json").read_text()), case)
            if case == "full":
                found += of_training(folder, peer)
    with tempfile.TemporaryDirectory() as scratch:
        folder, tensors = Path(scratch), given()
        fixed.write_model(folder / "model")
        save_file(tensors, folder / "given.safetensors")
        (folder / "settings.json").write_text(json.dumps({"group": GROUP, "beta": BETA, "clip": CLIP}))
        environment.call(python, PROGRAM, "group", folder)
        return found + of_groups(tensors, load_file(folder / "peer.safetensors"))


def main(given_arguments: Sequence[str] | None = None) -> int:
    """Print the table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, default=environment.default_folder(), help="folder of the environments")
    parser.add_argument("--bound", type=float, default=1e-5, help="largest difference that is agreement")
    options = parser.parse_args(given_arguments)
    found = measure(options.peers)
    table = Table("what", "largest difference", "of numbers up to", title=f"salsa beside TRL {environment.PPO}")
    for difference in found:
        colour = "red" if difference.value > options.bound else "green"
        table.add_row(difference.name, f"[{colour}]{difference.value:.1e}", f"{difference.scale:.3g}")
    screen().print(table)
    return int(any(not difference.value <= options.bound for difference in found))


if __name__ == "__main__":
    sys.exit(main())
