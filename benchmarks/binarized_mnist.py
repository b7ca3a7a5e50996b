"""Test log-likelihood of a VAE and of an importance-weighted autoencoder on fixed binarized MNIST, beside published figures.

The model is that of Burda et al. (arXiv:1509.00519) with one stochastic layer: 784-200-200-50, tanh. Published for the same
data: VAE 89.9 nats by 200 importance samples, IWAE with 50 samples 87.1 by 5000 (pythae's reproducibility table).

    python benchmarks/binarized_mnist.py --data FOLDER                                  # the VAE
    python benchmarks/binarized_mnist.py --data FOLDER --k 50 --samples 5000            # IWAE-50
    python benchmarks/binarized_mnist.py --data FOLDER --k 50 --samples 5000 --dreg     # the same bound, DReG's gradient

FOLDER holds binarized_mnist_packbits.npz (arrays train, valid, test: rows of 784 bits, packed).
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import reparam as rp
from reparam.models.vae import VAE, Config
from reparam.noise import Fresh

CONFIG = Config(latent_dim=50, hidden=(200, 200), activation="tanh", likelihood="bernoulli")


def load(folder: Path) -> dict[str, Tensor]:
    with np.load(folder / "binarized_mnist_packbits.npz", allow_pickle=False) as packed:
        return {name: torch.from_numpy(np.unpackbits(packed[name], axis=1)[:, :784]).float() for name in ("train", "valid", "test")}


def bound_of(vae: VAE, x: Tensor, k: int, source: Fresh, *, dreg: bool = False) -> Tensor:
    """The mean bound of a batch: the evidence lower bound, or for k > 1 the importance-weighted one."""
    if k == 1:
        return -vae.loss(x, source).total
    bound = rp.dreg if dreg else rp.iwae
    return bound(lambda z: vae.decode(z).log_prob(x), vae.encode(x), prior=vae.prior, k=k, source=source).mean()


@torch.no_grad()
def validation_bound(vae: VAE, x: Tensor, k: int) -> float:
    """With the same noise at each call, so that epochs compare."""
    vae.eval()
    source = Fresh(torch.Generator().manual_seed(1))
    bound = sum(float(bound_of(vae, part, k, source)) * len(part) for part in x.split(1000 // k or 1)) / len(x)
    vae.train()
    return bound


def train(vae: VAE, data: dict[str, Tensor], args: argparse.Namespace) -> tuple[VAE, int, float]:
    """Adam, with a learning rate that falls by a factor of ten over the epochs; returns the best epoch by validation."""
    optimizer = torch.optim.Adam(vae.parameters(), args.learning_rate, eps=args.epsilon, fused=True)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.1 ** (1 / args.epochs))
    generator = torch.Generator().manual_seed(args.seed)
    best, best_elbo, best_epoch = copy.deepcopy(vae), -float("inf"), 0
    for epoch in range(1, args.epochs + 1):
        start = time.perf_counter()
        total = torch.zeros(())
        for rows in torch.randperm(len(data["train"]), generator=generator).split(args.batch_size):
            optimizer.zero_grad()
            bound = bound_of(vae, data["train"][rows], 1 if epoch <= args.warm_up else args.k, Fresh(generator), dreg=args.dreg)
            (-bound).backward()
            optimizer.step()
            total += bound.detach() * len(rows)
        schedule.step()
        elbo = validation_bound(vae, data["valid"], args.k)
        if elbo > best_elbo:
            best, best_elbo, best_epoch = copy.deepcopy(vae), elbo, epoch
        seconds = time.perf_counter() - start
        print(f"epoch {epoch:3d}  train {total / len(data['train']):8.3f}  validation {elbo:8.3f}  {seconds:.1f} s", flush=True)
        if epoch - best_epoch >= args.patience:
            break
    return best, best_epoch, best_elbo


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="by default in results/, by the bound")
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--patience", type=int, default=30)
    parser.add_argument("--batch_size", type=int, default=100)
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--epsilon", type=float, default=1e-4, help="of Adam; as Burda et al.")
    parser.add_argument("--k", type=int, default=1, help="samples of the importance-weighted bound that is maximised; 1: the ELBO")
    parser.add_argument("--dreg", action="store_true", help="the doubly reparameterised gradient of that bound")
    parser.add_argument("--warm_up", type=int, default=0, help="first epochs, which maximise the ELBO")
    parser.add_argument("--samples", type=int, default=200, help="importance samples for each datum of the test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    name = "binarized_mnist" if args.k == 1 else f"binarized_mnist_{'dreg' if args.dreg else 'iwae'}{args.k}"
    out = args.out or Path(__file__).parent / "results" / f"{name}.json"

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    data = load(args.data)
    vae = VAE(CONFIG, (784,))
    vae.start_at(data["train"])
    start = time.perf_counter()
    vae, epoch, elbo = train(vae, data, args)
    seconds = time.perf_counter() - start

    vae.eval()
    source = Fresh(torch.Generator().manual_seed(2))
    log_p = torch.cat([vae.log_likelihood(part, args.samples, source) for part in data["test"].split(50)]).double()
    given = {key: value for key, value in vars(args).items() if value != parser.get_default(key) and key not in ("data", "out")}
    flags = " ".join(f"--{key}" if value is True else f"--{key} {value}" for key, value in given.items())
    result = {
        "test_nll_nats": -log_p.mean().item(),
        "standard_error": (log_p.std() / len(log_p) ** 0.5).item(),
        "importance_samples": args.samples,
        "test_elbo_nats": validation_bound(vae, data["test"], 1),
        "validation_bound_nats": elbo,
        "best_epoch": epoch,
        "active_units": int(vae.active_units(data["test"]).sum()),
        "training_seconds": round(seconds),
        "settings": {key: value for key, value in vars(args).items() if key not in ("data", "out")},
        "command": f"python benchmarks/binarized_mnist.py --data FOLDER {flags}".strip(),
        "torch": torch.__version__,
        "published": {"pythae, VAE, 200 importance samples": 89.9, "pythae, IWAE-50, 5000 importance samples": 87.1},
    }
    out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
