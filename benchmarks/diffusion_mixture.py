"""A trained diffusion model beside the best denoiser there is, on a Gaussian mixture, where that is known.

The data are fresh draws of a mixture of six Gaussians, of mean zero and unit variance in each element. Three figures, each of
the trained network against `reparam.nn.bayes`, at the same data, times and noises:

- the denoising loss, by how much it is larger (wanted: at most 2 %);
- the log-density by the probability-flow ODE, against that of the mixture (wanted: within 0.02 nats an element);
- the variational bound, against the negative log-density.

    python benchmarks/diffusion_mixture.py
    python benchmarks/diffusion_mixture.py --dim 8
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

import reparam as rp
from reparam.models.diffusion import Config, Diffusion
from reparam.nn.bayes import bayes
from reparam.noise import Fresh
from reparam.objectives.denoising import WEIGHTINGS, denoising

WANTED = {"excess_loss": 0.02, "nats_per_element": 0.02}


def mixture(dim: int, components: int, seed: int) -> MixtureSameFamily:
    """Weights, means and scales drawn once, brought to mean zero and unit variance in each element; in double."""
    g = torch.Generator().manual_seed(seed)
    w = torch.rand(components, generator=g, dtype=torch.float64) + 0.5
    w = w / w.sum()
    loc = torch.randn(components, dim, generator=g, dtype=torch.float64)
    scale = 0.04 + 0.08 * torch.rand(components, dim, generator=g, dtype=torch.float64)
    mean = w @ loc
    std = (w @ (loc**2 + scale**2) - mean**2).sqrt()
    return MixtureSameFamily(Categorical(probs=w), Independent(Normal((loc - mean) / std, scale / std), 1))


def train(model: Diffusion, law: MixtureSameFamily, args: argparse.Namespace) -> Diffusion:
    """Adam on fresh data, a learning rate that falls as a cosine, a moving average of the weights."""
    optimizer = torch.optim.Adam(model.parameters(), args.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.steps)
    source, average, total = Fresh(torch.Generator().manual_seed(args.seed + 1)), copy.deepcopy(model), 0.0
    pairs = list(zip(average.parameters(), model.parameters(), strict=True))
    for step in range(1, args.steps + 1):
        x = rp.sample(law, (args.batch_size,), source=source).float()
        optimizer.zero_grad()
        loss = model.loss(x, source).total
        loss.backward()
        optimizer.step()
        schedule.step()
        decay = min(args.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            for kept, new in pairs:
                kept.lerp_(new, 1 - decay)
        total += loss.item()
        if step % (args.steps // 10 or 1) == 0:
            print(f"step {step:6d}  loss {total / (args.steps // 10 or 1):.4f}", flush=True)
            total = 0.0
    return average.eval()


@torch.no_grad()
def losses(model: Diffusion, law: MixtureSameFamily, rows: int) -> dict[str, dict[str, float]]:
    """The mean loss of the network and of the best denoiser at the same states, by weighting."""
    schedule, best, found = model.training_schedule, bayes(law, model.training_schedule), {}
    x = rp.sample(law, (rows,), source=Fresh(torch.Generator().manual_seed(11))).float()
    for name in ("v", "eps", "min_snr"):
        each: list[Tensor] = []
        for denoise in (model.denoiser(schedule=schedule), best):
            source, times = Fresh(torch.Generator().manual_seed(12)), rp.Sobol(seed=13)
            parts = [
                denoising(denoise, part, schedule, weighting=WEIGHTINGS[name], times=times, source=source) for part in x.split(8192)
            ]
            each.append(torch.cat(parts).double())
        network, least = each
        excess = (network - least).mean() / least.mean()
        error = (network - least - excess * least).std() / math.sqrt(rows) / least.mean()
        found[name] = {
            "network": network.mean().item(),
            "best": least.mean().item(),
            "excess": excess.item(),
            "standard_error": error.item(),
        }
    return found


@torch.no_grad()
def densities(model: Diffusion, law: MixtureSameFamily, rows: int, k: int) -> dict[str, float]:
    """Mean differences from the log-density of the mixture, in nats an element, with standard errors over the data."""
    x = rp.sample(law, (rows,), source=Fresh(torch.Generator().manual_seed(21)))
    truth, dim = law.log_prob(x), x.shape[1]
    ode = torch.cat([model.log_prob(part) for part in x.float().split(1000)])
    bound = torch.cat(
        [model.bound(part, k=k, source=Fresh(torch.Generator().manual_seed(22))).total for part in x.float().split(1000)]
    )
    off, gap = (ode - truth) / dim, (bound + truth) / dim
    return {
        "truth_nats": -truth.mean().item(),
        "ode_nats": -ode.mean().item(),
        "ode_minus_truth_per_element": off.mean().item(),
        "ode_standard_error": (off.std() / math.sqrt(rows)).item(),
        "ode_mean_absolute_difference_per_element": off.abs().mean().item(),
        "bound_nats": bound.mean().item(),
        "bound_minus_truth_per_element": gap.mean().item(),
        "bound_standard_error": (gap.std() / math.sqrt(rows)).item(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="by default in results/")
    parser.add_argument("--dim", type=int, default=2)
    parser.add_argument("--components", type=int, default=6)
    parser.add_argument("--schedule", default="cosine", choices=("cosine", "linear", "uniform", "edm"))
    parser.add_argument("--prediction", default="v", choices=("eps", "x0", "v"))
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--ema", type=float, default=0.999)
    parser.add_argument("--rows", type=int, default=2**17, help="data of the comparison of losses")
    parser.add_argument("--data", type=int, default=5000, help="data of the comparison of densities")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    name = (
        "diffusion_mixture" + (f"_{args.dim}" if args.dim != 2 else "") + ("" if args.schedule == "cosine" else f"_{args.schedule}")
    )
    out = args.out or Path(__file__).parent / "results" / f"{name}.json"

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    law = mixture(args.dim, args.components, args.seed)
    config = Config(network="mlp", hidden=(args.width,) * 3, schedule=args.schedule, prediction=args.prediction)
    start = time.perf_counter()
    model = train(Diffusion(config, (args.dim,)), law, args)
    seconds = time.perf_counter() - start
    loss, density = losses(model, law, args.rows), densities(model, law, args.data, 16)
    given = {key: value for key, value in vars(args).items() if value != parser.get_default(key) and key != "out"}
    excess, off = loss["v"]["excess"], abs(density["ode_minus_truth_per_element"])
    result: dict[str, Any] = {
        "excess_loss": excess,
        "nats_per_element": off,
        "wanted": WANTED,
        "reached": excess <= WANTED["excess_loss"] and off <= WANTED["nats_per_element"],
        "loss": loss,
        "density": density,
        "training_seconds": round(seconds),
        "settings": {key: value for key, value in vars(args).items() if key != "out"},
        "command": " ".join(["python benchmarks/diffusion_mixture.py", *(f"--{key} {value}" for key, value in given.items())]),
        "torch": torch.__version__,
    }
    out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
