"""How much of the variance of a diffusion model's loss and of its gradient is that of the times, and goes away with Sobol times.

The model that `reparam train diffusion` trains, with a dense network, on the bundled digits: before training, and after some.
At each stage the loss and the gradient of many batches are drawn with independent times and with times from a Sobol source, and
their variances are compared: that of the loss, and the trace of the covariance of the gradient. A batch is of data drawn anew,
as in training, so that the variance of data and noise, which no times take away, is in both.

    python benchmarks/diffusion_times.py
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reparam.data import load
from reparam.models.diffusion import Config, Diffusion
from reparam.noise import Fresh

TIMES = ("independent", "sobol")


def draw(model: Diffusion, x: Tensor, size: int, generator: torch.Generator) -> Tensor:
    rows = torch.randint(len(x), (size,), generator=generator)
    return model.loss(x[rows], Fresh(generator)).total


def variances(model: Diffusion, x: Tensor, size: int, batches: int, seed: int) -> dict[str, float]:
    """Of the loss and of the gradient (the sum over parameters), over so many batches, and the squared mean gradient."""
    generator, losses = torch.Generator().manual_seed(seed), []
    parameters = list(model.parameters())
    mean, square = [torch.zeros_like(p, dtype=torch.float64) for p in parameters], []
    for _ in range(batches):
        loss = draw(model, x, size, generator)
        gradient = torch.autograd.grad(loss, parameters)
        losses.append(loss.item())
        square.append(sum(float(g.double().square().sum()) for g in gradient))
        for total, g in zip(mean, gradient, strict=True):
            total += g.double() / batches
    squared_mean = sum(float(m.square().sum()) for m in mean)
    of_gradient = (sum(square) / batches - squared_mean) * batches / (batches - 1)
    norms = torch.tensor(square, dtype=torch.float64)
    loss_values = torch.tensor(losses, dtype=torch.float64)
    return {
        "loss": loss_values.mean().item(),
        "loss_variance": loss_values.var().item(),
        "gradient_variance": of_gradient,
        "gradient_variance_standard_error": (norms.std() / math.sqrt(batches)).item(),
        "gradient_squared_norm": squared_mean - of_gradient / batches,
    }


def compare(model: Diffusion, x: Tensor, size: int, batches: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for times in TIMES:
        model.config = replace(model.config, times=times)
        found[times] = variances(model, x, size, batches, 5)
    a, b = (found[times] for times in TIMES)
    for name in ("loss", "gradient"):
        found[f"{name}_variance_removed"] = 1 - b[f"{name}_variance"] / a[f"{name}_variance"]
    # Of a ratio of two variances of normal values; the gradient's has many values, so its error comes from its own spread.
    found["loss_standard_error"] = 2 / math.sqrt(batches - 1) * b["loss_variance"] / a["loss_variance"]
    relative = math.hypot(*(part["gradient_variance_standard_error"] / part["gradient_variance"] for part in (a, b)))
    found["gradient_standard_error"] = relative * b["gradient_variance"] / a["gradient_variance"]
    return found


def train(model: Diffusion, x: Tensor, steps: int, size: int, seed: int) -> None:
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        optimizer.zero_grad()
        draw(model, x, size, generator).backward()
        optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "diffusion_times.json")
    parser.add_argument("--steps", type=int, nargs="+", default=[0, 1000], help="of training, before each comparison")
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 128], help="of a batch")
    parser.add_argument("--weightings", nargs="+", default=["v", "eps"])
    parser.add_argument("--batches", type=int, default=300)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    data = load("digits")
    stages: list[dict[str, Any]] = []
    begun = time.perf_counter()
    print(f"{'weighting':>10}{'steps':>7}{'batch':>7}{'loss':>9}   variance removed of the loss, of the gradient")
    for weighting in args.weightings:
        torch.manual_seed(args.seed)
        config = Config(network="mlp", hidden=(args.width,) * 3, weighting=weighting, conditional=False)
        model, done = Diffusion.for_data(config, data), 0
        for steps in args.steps:
            train(model, data.x, steps - done, 128, args.seed + steps)
            done = steps
            for size in args.sizes:
                found = compare(model, data.x, size, args.batches)
                stages.append({"weighting": weighting, "steps": steps, "batch_size": size, **found})
                shares = [
                    f"{found[f'{name}_variance_removed']:6.1%} ± {found[f'{name}_standard_error']:.1%}"
                    for name in ("loss", "gradient")
                ]
                print(f"{weighting:>10}{steps:7d}{size:7d}{found['sobol']['loss']:9.4f}   {', '.join(shares)}", flush=True)
    given = {key: value for key, value in vars(args).items() if value != parser.get_default(key) and key != "out"}
    flags = [f"--{key} {' '.join(map(str, value)) if isinstance(value, list) else value}" for key, value in given.items()]
    result = {
        "stages": stages,
        "seconds": round(time.perf_counter() - begun),
        "settings": {key: value for key, value in vars(args).items() if key != "out"},
        "command": " ".join(["python benchmarks/diffusion_times.py", *flags]),
        "torch": torch.__version__,
    }
    args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
