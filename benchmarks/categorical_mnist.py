"""A VAE with categorical latents, 20 of 10 categories, on fixed binarized MNIST, trained by one gradient estimator after another.

The model is that of Jang et al. (arXiv:1611.01144): 784-512-256-(20 x 10) and its mirror, rectifiers. Their table 1, in nats:
score function 110.6, straight-through 110.9, Gumbel-softmax 101.5, straight-through Gumbel-softmax 107.8. The score function
here has a learned baseline, a function of the datum. A relaxation trains on a bound of its own, of relaxed samples; the bound of
hard samples, which is one on log p(x), is printed beside.

    python benchmarks/categorical_mnist.py --data FOLDER

FOLDER holds binarized_mnist_packbits.npz (arrays train, valid, test: rows of 784 bits, packed).
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from binarized_mnist import load
from reparam.models.vae import VAE, Config
from reparam.noise import Fresh

PUBLISHED = {"score_learned": 110.6, "straight_through": 110.9, "gumbel_softmax": 101.5, "st_gumbel": 107.8}
TEMPERED = ("gumbel_softmax", "st_gumbel")


def config_of(estimator: str, steps: int) -> Config:
    """The temperature falls from 1 to a half over the training: a tenth of the way before its floor."""
    tempered = {"temperature": 1.0, "temperature_floor": 0.5, "temperature_rate": math.log(2) / (0.9 * steps)}
    return Config(
        latent="categorical",
        latent_dim=20,
        categories=10,
        estimator=estimator,
        hidden=(512, 256),
        likelihood="bernoulli",
        **(tempered if estimator in TEMPERED else {}),
    )


@torch.no_grad()
def bounds(vae: VAE, x: Tensor) -> dict[str, float]:
    """The parts of the loss over a set, with the same noise at each call."""
    vae.eval()
    source, sums = Fresh(torch.Generator().manual_seed(1)), {}
    for batch in x.split(1000):
        for name, part in vae.loss(batch, source).parts.items():
            sums[name] = sums.get(name, 0.0) + part.item() * len(batch)
    vae.train()
    return {name: value / len(x) for name, value in sums.items()}


def train(vae: VAE, data: dict[str, Tensor], args: argparse.Namespace) -> list[dict[str, float]]:
    """Adam, with a learning rate that falls by a factor of ten over the epochs."""
    optimizer = torch.optim.Adam(vae.parameters(), args.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.1 ** (1 / args.epochs))
    generator = torch.Generator().manual_seed(args.seed)
    history = []
    for epoch in range(1, args.epochs + 1):
        start, total = time.perf_counter(), torch.zeros(())
        batches = torch.randperm(len(data["train"]), generator=generator).split(args.batch_size)
        for rows in batches:
            optimizer.zero_grad()
            loss = vae.loss(data["train"][rows], Fresh(generator))
            loss.total.backward()
            optimizer.step()
            total -= loss.total.detach() * len(rows)
        schedule.step()
        row = {"epoch": epoch, "train": total.item() / len(data["train"])}
        row |= {f"validation {name}": value for name, value in bounds(vae, data["valid"]).items()}
        row["seconds"] = time.perf_counter() - start
        history.append(row)
        print("  ".join(f"{name} {value:.2f}" for name, value in row.items()), flush=True)
    return history


def measure(estimator: str, data: dict[str, Tensor], args: argparse.Namespace) -> dict[str, Any]:
    torch.manual_seed(args.seed)
    steps = args.epochs * math.ceil(len(data["train"]) / args.batch_size)
    vae = VAE(config_of(estimator, steps), (784,))
    vae.start_at(data["train"])
    start = time.perf_counter()
    history = train(vae, data, args)
    seconds = time.perf_counter() - start
    found = {part: bounds(vae, data[part]) for part in ("train", "test")}
    vae.eval()
    source = Fresh(torch.Generator().manual_seed(2))
    log_p = torch.cat([vae.log_likelihood(part, args.samples, source) for part in data["test"].split(100)]).double()
    return {
        "training_bound_nats": -history[-1]["train"],
        "train": found["train"],
        "test": found["test"],
        "test_nll_nats": -log_p.mean().item(),
        "standard_error": (log_p.std() / len(log_p) ** 0.5).item(),
        "importance_samples": args.samples,
        "published_nats": PUBLISHED.get(estimator),
        "training_seconds": round(seconds),
        "config": asdict(vae.config),
        "history": history[:: max(1, len(history) // 20)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "categorical_mnist.json")
    parser.add_argument("--estimators", nargs="+", default=list(PUBLISHED))
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch_size", type=int, default=100)
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--samples", type=int, default=50, help="importance samples for each datum of the test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    data = load(args.data)
    shown = {key: value for key, value in vars(args).items() if value != parser.get_default(key) and key not in ("data", "out")}
    flags = " ".join(f"--{key} {' '.join(value) if isinstance(value, list) else value}" for key, value in shown.items())
    record = {
        "command": f"python benchmarks/categorical_mnist.py --data FOLDER {flags}".strip(),
        "settings": {key: value for key, value in vars(args).items() if key not in ("data", "out")},
        "torch": torch.__version__,
        "published": "Jang et al. 2017, arXiv:1611.01144, table 1",
        "estimators": {},
    }
    if args.out.exists():  # of a run with these settings that was stopped: what is done stays
        there = json.loads(args.out.read_text())
        if all(there["settings"][key] == value for key, value in record["settings"].items() if key != "estimators"):
            record["estimators"] = there["estimators"]
    for estimator in args.estimators:
        if estimator not in record["estimators"]:
            print(estimator, flush=True)
            record["estimators"][estimator] = measure(estimator, data, args)
            args.out.write_text(json.dumps(record, indent=2) + "\n")
    print(f"\n{'':20}{'training bound':>16}{'hard, train':>14}{'hard, test':>14}{'-log p(x)':>12}{'published':>12}")
    for name, row in record["estimators"].items():
        numbers = (row["training_bound_nats"], -row["train"]["elbo"], -row["test"]["elbo"], row["test_nll_nats"])
        cells = "".join(f"{value:>{width}.2f}" for value, width in zip(numbers, (16, 14, 14, 12), strict=True))
        print(f"{name:20}{cells}{row['published_nats'] or '':>12}")


if __name__ == "__main__":
    main()
