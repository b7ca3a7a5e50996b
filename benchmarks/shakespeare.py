"""Bits per character of Tiny Shakespeare by lines: a VAE beside its own decoder, trained without a latent.

Each line is a datum; a tenth of them is for validation and a tenth for the test, by seed. Both models have the same recurrent
decoder (in the plain one every line has the same context), the same Adam with the same schedule, and as many epochs; the epoch
with the best validation score counts. The bits of the VAE are by importance sampling, and the end of a line counts as a
character. The bar: at most 1.03 times the bits of the plain decoder, with a KL of at least 3 nats a line and 8 active latents.

    python benchmarks/shakespeare.py --data input.txt --model plain
    python benchmarks/shakespeare.py --data input.txt --model vae

Each takes a run directory, so that the same command goes on where it was stopped, and adds its half to results/shakespeare.json.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from reparam.data import Splits, split
from reparam.data.text import read_text
from reparam.models.vae import VAE, Config
from reparam.nn.token_likelihood import TokenLikelihood
from reparam.noise import Fresh, Source
from reparam.training import Loss, Run, Training, fit

BAR = {"ratio": 1.03, "kl": 3.0, "active_units": 8}


class Plain(nn.Module):
    """The decoder alone: a context that is learned, and the same for every line."""

    def __init__(self, config: Config, length: int, codes: int) -> None:
        super().__init__()
        self.config = config
        self.likelihood = TokenLikelihood((length,), codes, "gru", config.hidden)
        self.context = nn.Parameter(torch.zeros(self.likelihood.outputs))

    def forward(self, batch: Tensor, source: Source | None = None) -> Loss:
        x = batch
        if self.training and self.config.word_dropout:
            generator = source.generator if isinstance(source, Fresh) else None
            x = torch.where(torch.rand(x.shape, generator=generator) < self.config.word_dropout, -x, x)
        log_p = -self.likelihood.nll(self.context.expand(len(x), -1), x).sum() / len(x)
        return Loss(-log_p, {"elbo": log_p.detach()})


def model_of(args: argparse.Namespace, splits: Splits) -> VAE | Plain:
    torch.manual_seed(args.seed)
    config = Config(
        latent_dim=args.latent_dim,
        network="gru",
        hidden=(args.hidden,),
        free_bits=args.free_bits if args.model == "vae" else 0.0,
        word_dropout=args.word_dropout,
        likelihood="autoregressive",
    )
    if args.model == "vae":
        return VAE.for_data(config, splits.train)
    plain = Plain(config, splits.train.shape[0], int(splits.train.levels or 0))
    plain.likelihood.fit(splits.train.x)
    return plain


@torch.no_grad()
def evaluated(model: VAE | Plain, train: Tensor, test: Tensor, samples: int) -> dict[str, float | int]:
    """Of the test set; bits per character also of its lines that do not stand among those for training, as many names do."""
    source, found = Fresh(torch.Generator().manual_seed(1)), {}
    if isinstance(model, VAE):
        nll = -torch.cat([model.log_likelihood(part, samples, source) for part in test.split(16)])
        terms = asdict(model.evaluate(test, k=1, source=source))
        found = {
            name: terms[name] for name in ("elbo", "reconstruction", "kl", "active_units", "latent_dim", "elbo_bits_per_character")
        }
    else:
        nll = torch.cat([model.likelihood.nll(model.context.expand(len(part), -1), part).sum(1) for part in test.split(256)])
    known = set(map(tuple, train.tolist()))
    new = torch.tensor([tuple(line) not in known for line in test.tolist()])
    characters = (test > 0).sum(1) + 1
    return {
        "bits_per_character": float(nll.double().sum() / characters.sum() / math.log(2)),
        "bits_per_character_of_new_lines": float(nll[new].double().sum() / characters[new].sum() / math.log(2)),
        "nll": float(nll.double().mean()),
        "nll_error": float(nll.double().std() / len(nll) ** 0.5),
        **found,
        "lines": len(test),
        "new_lines": int(new.sum()),
        "characters": int(characters.sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="input.txt of Tiny Shakespeare")
    parser.add_argument("--model", choices=("plain", "vae"), required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "shakespeare.json")
    parser.add_argument("--run", type=Path, help="run directory; by default runs/shakespeare_MODEL")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--learning_rate", type=float, default=3e-3)
    parser.add_argument("--hidden", type=int, default=192, help="recurrent units")
    parser.add_argument("--latent_dim", type=int, default=16)
    parser.add_argument("--free_bits", type=float, default=0.22, help="nats for each latent")
    parser.add_argument("--word_dropout", type=float, default=0.0)
    parser.add_argument("--weight_decay", type=float, default=0.0)
    parser.add_argument("--samples", type=int, default=500, help="importance samples for each line of the test")
    parser.add_argument("--lines", type=int, default=0, help="only so many lines of each part, for a trial")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    splits = split(read_text(args.data), seed=0, rule=1)  # as when the result was recorded
    train, validation, test = (part.x[: args.lines or None] for part in (splits.train, splits.validation, splits.test))
    model = model_of(args, splits)
    training = Training(
        epochs=args.epochs,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        learning_rate_schedule="cosine",
        warm_up=200,
        weight_decay=args.weight_decay,
        clip=50.0,
        patience=0,
        seed=args.seed,
        threads=args.threads,
    )
    settings = {
        key: value for key, value in vars(args).items() if key not in ("data", "out", "run", "samples", "epochs", "threads")
    }
    record = {"model": settings, "training": asdict(training), "data": {"digest": splits.train.digest}}
    with Run.create(args.run or Path("runs") / f"shakespeare_{args.model}", record) as run:
        result = fit(model, train, validation, training, run)
        run.load_weights(model)

    model.eval()
    given = {
        key: value for key, value in vars(args).items() if value != parser.get_default(key) and key not in ("data", "out", "run")
    }
    half = {
        **evaluated(model, train, test, args.samples),
        "validation_elbo": result.best,
        "epochs": result.epochs,
        "parameters": sum(p.numel() for p in model.parameters()),
        "training_seconds": round(result.history[-1]["seconds"]),
        "settings": {key: value for key, value in vars(args).items() if key not in ("data", "out", "run")},
        "command": "python benchmarks/shakespeare.py --data FILE " + " ".join(f"--{key} {value}" for key, value in given.items()),
        "torch": torch.__version__,
    }
    both = json.loads(args.out.read_text()) if args.out.exists() else {}
    both[args.model] = half
    if {"plain", "vae"} <= both.keys():
        vae = both["vae"]
        ratio = vae["bits_per_character"] / both["plain"]["bits_per_character"]
        met = ratio <= BAR["ratio"] and vae["kl"] >= BAR["kl"] and vae["active_units"] >= BAR["active_units"]
        both["bar"] = {"wanted": BAR, "ratio": ratio, "kl": vae["kl"], "active_units": vae["active_units"], "met": met}
    args.out.parent.mkdir(exist_ok=True)
    args.out.write_text(json.dumps(both, indent=2) + "\n")
    print(json.dumps({args.model: half, "bar": both.get("bar")}, indent=2))


if __name__ == "__main__":
    main()
