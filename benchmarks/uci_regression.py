"""Bayesian neural networks on UCI regression sets: error and predictive log-likelihood over the 20 standard splits.

Concrete, yacht and Boston housing with the splits of Hernández-Lobato and Adams (arXiv:1502.05336) and of Gal and Ghahramani
(arXiv:1506.02142): 90 % of the rows for training, 10 % for the test, one hidden layer of 50 units. The settings, the same for all
three, are `CONFIG` and the constants below it. They were chosen in trials on validation rows, a tenth of each training set, as
`--validation` takes them away and scores them; test rows are seen once, by the trained networks. (A row that is for the test in one
split is for training in others, as in everybody's use of these splits.)

    python benchmarks/uci_regression.py --data FOLDER --out benchmarks/results/uci_regression.json
    python benchmarks/uci_regression.py --data FOLDER --validation --splits 10     # on such rows

FOLDER holds concrete, yacht and bostonHousing, each with data.txt.gz, index_features.txt and index_target.txt. Boston housing has a
column that should not be there, and is used as a benchmark only.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reparam.models.bnn import BNN, Config, Evaluation
from reparam.noise import Fresh

SETS = ("concrete", "yacht", "bostonHousing")
CONFIG = Config(hidden=(50,))  # with annealing over the first half of the steps
STEPS, BATCH, RATE, DRAWS = 3000, 100, 2e-2, 200
# Root mean squared error at most, and log-likelihood at least.
BARS = {"concrete": (5.9, -3.20), "yacht": (1.4, -2.0), "bostonHousing": (3.2, -2.65)}


def load(folder: Path) -> tuple[Tensor, Tensor]:
    """Features N x D, responses N x 1."""
    table = np.loadtxt(folder / "data.txt.gz")
    columns = [np.loadtxt(folder / f"index_{name}.txt", dtype=int, ndmin=1) for name in ("features", "target")]
    x, y = (torch.from_numpy(table[:, places]).float() for places in columns)
    return x, y


def splits(rows: int, count: int, *, validation: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """The rows for training and those that are scored: for the test, or a tenth of those for training."""
    random = np.random.RandomState(1)
    for i in range(count):
        order = random.choice(range(rows), rows, replace=False)
        end = math.floor(rows * 0.9 + 0.5)
        train, scored = order[:end], order[end:]
        if validation:
            own = np.random.RandomState(1000 + i).permutation(train)
            train, scored = own[: math.floor(end * 0.9)], own[math.floor(end * 0.9) :]
        yield torch.from_numpy(train), torch.from_numpy(scored)


def train(x: Tensor, y: Tensor, seed: int, config: Config, args: argparse.Namespace) -> BNN:
    """Adam, with a learning rate that falls to zero by half a cosine."""
    torch.manual_seed(seed)
    bnn = BNN(config, x.shape[1:], num_data=len(x), responses=("y",))
    bnn.start_at(x, y)
    optimizer = torch.optim.Adam(bnn.parameters(), args.rate, fused=True)
    generator, source = torch.Generator().manual_seed(seed), Fresh(torch.Generator().manual_seed(seed))
    rows: list[Tensor] = []
    for step in range(args.steps):
        if not rows:
            order = torch.randperm(len(x), generator=generator)
            rows = list(order[: len(x) - len(x) % args.batch].split(args.batch))
        some = rows.pop()
        optimizer.param_groups[0]["lr"] = args.rate * 0.5 * (1 + math.cos(math.pi * step / args.steps))
        optimizer.zero_grad()
        bnn.loss((x[some], y[some]), source).total.backward()
        optimizer.step()
    return bnn.eval()


def one(name: str, seed: int, config: Config, args: argparse.Namespace) -> Evaluation:
    """The network of one split, evaluated."""
    torch.set_num_threads(1)
    x, y = load(args.data / name)
    rows, scored = list(splits(len(x), seed + 1, validation=args.validation))[seed]
    bnn = train(x[rows], y[rows], seed, config, args)
    found = bnn.evaluate((x[scored], y[scored]), k=DRAWS, source=Fresh(torch.Generator().manual_seed(seed)))
    assert isinstance(found, Evaluation)
    return found


def score(name: str, config: Config, args: argparse.Namespace, workers: Executor) -> dict[str, Any]:
    """Means over the splits, and their standard errors."""
    start = time.perf_counter()
    found = list(workers.map(partial(one, name, config=config, args=args), range(args.splits)))
    values = {
        "rmse": [each.rmse["y"] for each in found],
        "log_likelihood": [each.log_likelihood for each in found],
        "coverage_90": [each.coverage["0.9"] for each in found],
    }
    made: dict[str, Any] = {"splits": len(found)}
    for key, each in values.items():
        made[key] = {
            "mean": float(np.mean(each)),
            "error": float(np.std(each, ddof=1) / len(each) ** 0.5) if len(each) > 1 else None,
        }
    worst, least = BARS[name]
    made["bars"] = {"rmse": worst, "log_likelihood": least}
    made["met"] = made["rmse"]["mean"] <= worst and made["log_likelihood"]["mean"] >= least
    made["seconds"] = round(time.perf_counter() - start, 1)
    made["each"] = values
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=SETS, choices=SETS)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--validation", action="store_true")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--rate", type=float, default=RATE)
    parser.add_argument("--config", type=json.loads, default={}, help="fields of the Config in JSON, to try others")
    parser.add_argument("--workers", type=int, default=1, help="processes, of a thread each; the results are the same")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    config = replace(CONFIG, **{"annealing": args.steps // 2} | args.config)
    results: dict[str, Any] = {"scored": "validation" if args.validation else "test", "torch": torch.__version__}
    results |= {
        "steps": args.steps,
        "batch": args.batch,
        "rate": args.rate,
        "draws": DRAWS,
        "workers": args.workers,
        "config": asdict(config),
        "sets": {},
    }
    workers = ProcessPoolExecutor(args.workers, multiprocessing.get_context("spawn"))
    for name in args.sets:
        found = results["sets"][name] = score(name, config, args, workers)
        rmse, likelihood = found["rmse"], found["log_likelihood"]
        print(
            f"{name:14s} RMSE {rmse['mean']:.3f} ± {rmse['error'] or 0:.3f}  "
            f"log-likelihood {likelihood['mean']:.3f} ± {likelihood['error'] or 0:.3f}  "
            f"in 90% intervals {found['coverage_90']['mean']:.1%}  {found['seconds']:.0f} s  "
            f"{'bars met' if found['met'] else 'bars NOT met'}",
            flush=True,
        )
    workers.shutdown()
    if args.out:
        args.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
