"""What a training step of a VAE costs: reparam, the same step by hand in plain PyTorch, and Pyro's SVI.

One thread, the same networks and the same Bernoulli likelihood. In each round of one process every contender runs a block of
steps in its turn, so that a noisy machine is noisy for all, and each still runs as a training loop does; "reparam / this" is the
median over rounds of the ratio within a round. Adam is fused, except where the name says that it is Pyro's own default.

    python benchmarks/vae_step.py [--rounds 60] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pyro
import torch
from pyro import distributions as dist
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from torch import Tensor, nn
from torch.nn import functional as F

from reparam.models.vae import VAE, Config

SHAPES = {
    "digits 64-256-16": ((1, 8, 8), 128, (256,), 16),
    "mnist 784-400-20": ((1, 28, 28), 128, (400,), 20),
    "mnist 784-200-200-50": ((1, 28, 28), 100, (200, 200), 50),
}
Step = Callable[[], object]


def networks(pixels: int, hidden: tuple[int, ...], latents: int) -> tuple[nn.Sequential, nn.Sequential]:
    def dense(*widths: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for a, b in pairwise(widths):
            layers += [nn.Linear(a, b), nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    return dense(pixels, *hidden, 2 * latents), dense(latents, *hidden[::-1], pixels)


def ours(x: Tensor, hidden: tuple[int, ...], latents: int) -> Step:
    vae = VAE(Config(likelihood="bernoulli", hidden=hidden, latent_dim=latents), tuple(x.shape[1:]))
    optimizer = torch.optim.Adam(vae.parameters(), fused=True)

    def step() -> None:
        optimizer.zero_grad()
        vae.loss(x).total.backward()
        optimizer.step()

    return step


def by_hand(x: Tensor, hidden: tuple[int, ...], latents: int) -> Step:
    encoder, decoder = networks(x[0].numel(), hidden, latents)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], fused=True)

    def step() -> None:
        optimizer.zero_grad()
        flat = x.flatten(1)
        mu, log_var = encoder(flat).chunk(2, -1)
        z = mu + torch.exp(0.5 * log_var) * torch.randn_like(mu)
        reconstruction = F.binary_cross_entropy_with_logits(decoder(z), flat, reduction="sum")
        kl = -0.5 * torch.sum(1 + log_var - mu.pow(2) - log_var.exp())
        ((reconstruction + kl) / len(x)).backward()
        optimizer.step()

    return step


def pyro_svi(x: Tensor, hidden: tuple[int, ...], latents: int, *, checks: bool, analytic: bool = False, fused: bool = True) -> Step:
    encoder, decoder = networks(x[0].numel(), hidden, latents)
    flat = x.flatten(1)
    name = f"{checks}{analytic}{fused}"

    def model(flat: Tensor) -> None:
        pyro.module("decoder" + name, decoder)
        with pyro.plate("data", len(flat)):
            z = pyro.sample("z", dist.Normal(flat.new_zeros(len(flat), latents), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=flat)

    def guide(flat: Tensor) -> None:
        pyro.module("encoder" + name, encoder)
        with pyro.plate("data", len(flat)):
            mu, log_var = encoder(flat).chunk(2, -1)
            pyro.sample("z", dist.Normal(mu, torch.exp(0.5 * log_var)).to_event(1))

    # One optimiser for each parameter is Pyro's way.
    optimizer = pyro.optim.PyroOptim(torch.optim.Adam, {"lr": 1e-3} | ({"fused": True} if fused else {}))
    svi = SVI(model, guide, optimizer, TraceMeanField_ELBO() if analytic else Trace_ELBO())

    def step() -> None:
        with pyro.validation_enabled(checks):
            svi.step(flat)

    return step


def measure(steps: dict[str, Step], rounds: int, block: int) -> dict[str, list[float]]:
    """Milliseconds a step of each contender in each round; the order within a round rotates."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    for i in range(-2, rounds):
        turn = i % len(names)
        for name in names[turn:] + names[:turn]:
            step = steps[name]
            step()
            start = time.perf_counter()
            for _ in range(block):
                step()
            if i >= 0:
                times[name].append(1e3 * (time.perf_counter() - start) / block)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--block", type=int, default=20, help="steps in a turn")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "vae_step.json")
    args = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(0)
    results = {}
    for shape_name, (shape, batch, hidden, latents) in SHAPES.items():
        x = torch.rand(batch, *shape).round()
        steps = {
            "reparam": ours(x, hidden, latents),
            "by hand": by_hand(x, hidden, latents),
            "Pyro, its defaults": pyro_svi(x, hidden, latents, checks=True, fused=False),
            "Pyro, checks off, default Adam": pyro_svi(x, hidden, latents, checks=False, fused=False),
            "Pyro, checks on": pyro_svi(x, hidden, latents, checks=True),
            "Pyro, checks off": pyro_svi(x, hidden, latents, checks=False),
            "Pyro, checks off, closed-form KL": pyro_svi(x, hidden, latents, checks=False, analytic=True),
        }
        times = measure(steps, args.rounds, args.block)
        results[shape_name] = {
            name: {
                "median_ms": round(statistics.median(ms), 3),
                "fastest_ms": round(min(ms), 3),
                "reparam_over_this": round(statistics.median(a / b for a, b in zip(times["reparam"], ms, strict=True)), 3),
            }
            for name, ms in times.items()
        }
        print(f"\n{shape_name}, batch {batch}\n{'':36}{'median ms':>12}{'fastest ms':>12}{'reparam / this':>16}")
        for name, row in results[shape_name].items():
            print(f"{name:36}" + "".join(f"{value:>{width}.3f}" for value, width in zip(row.values(), (12, 12, 16), strict=True)))
    record = {
        "command": f"python benchmarks/vae_step.py --rounds {args.rounds} --block {args.block}",
        "threads": 1,
        "torch": torch.__version__,
    }
    args.out.write_text(json.dumps(record | {"pyro": pyro.__version__, "steps": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
