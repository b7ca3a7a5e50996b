"""What the draws of a Bayesian network cost, and how much their gradients vary: the three methods, by hand, and Pyro.

For each network, one thread and the same batch. After a short training with local reparameterization all contenders stand at the
same posterior; there the variance of the gradient of the bound is measured over draws, summed over all means and over all
scales, and the processor's time of a step (bound, gradients, fused Adam). Contenders take turns in rounds, so that a noisy
machine is noisy for all. Variance times time is what counts for a given accuracy of the gradient; all are ratios to those of
drawn weights.

Pyro is measured where it is installed: an AutoNormal guide of a network whose weights are normal, with the closed-form divergence.

    python benchmarks/bayesian_layers.py [--rounds 20] [--draws 400] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Normal
from torch.nn import functional as F

from reparam.data import load
from reparam.nn import bayesianize

Bound = Callable[[], Tensor]
METHODS = ("weights", "flipout", "local")


def dense(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def convolutions() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 10),
    )


def regression(size: int) -> tuple[Tensor, Tensor, int]:
    data = load("diabetes")
    x, y = ((v - v.mean(0)) / v.std(0) for v in (data.x, data.response))
    return x[:size], y[:size], len(x)


def digits(size: int) -> tuple[Tensor, Tensor, int]:
    data = load("digits")
    return (data.x / data.levels)[:size], data.places[:size], len(data.x)


# Network, data, size of a batch.
NETWORKS = {
    "diabetes, dense 10-50-1": (lambda: dense(10, 50, 1), regression, 32),
    "digits, dense 64-400-400-10": (lambda: nn.Sequential(nn.Flatten(), *dense(64, 400, 400, 10)), digits, 128),
    "digits, two convolutions": (convolutions, digits, 128),
}


def log_likelihood(out: Tensor, y: Tensor) -> Tensor:
    return Normal(out, 0.7).log_prob(y).sum(-1) if y.is_floating_point() else Categorical(logits=out).log_prob(y)


class ByHand(nn.Module):
    """Local reparameterization of a linear layer, as one writes it."""

    def __init__(self, layer: nn.Linear, log_scale: nn.Module) -> None:
        super().__init__()
        self.weight, self.bias = (nn.Parameter(p.detach().clone()) for p in (layer.weight, layer.bias))
        self.log_weight, self.log_bias = (
            nn.Parameter(p.detach().clone())
            for p in (log_scale.weight, log_scale.bias)  # type: ignore[union-attr]
        )

    def forward(self, x: Tensor) -> Tensor:
        out = F.linear(x, self.weight, self.bias)
        variance = F.linear(x * x, (2 * self.log_weight).exp(), (2 * self.log_bias).exp())
        return out + (variance + 1e-20).sqrt() * torch.randn_like(out)

    def kl(self) -> Tensor:
        pairs = ((self.weight, self.log_weight), (self.bias, self.log_bias))
        return sum((0.5 * ((2 * log_scale).exp() + mean**2 - 1) - log_scale).sum() for mean, log_scale in pairs)  # type: ignore


def by_hand(net: nn.Module, x: Tensor, y: Tensor, n: int) -> tuple[Bound, nn.Module] | None:
    layers = []
    for name, layer in net.module.named_children():
        if isinstance(layer, nn.Conv2d):
            return None
        layers.append(ByHand(layer, net.log_scale.get_submodule(name)) if isinstance(layer, nn.Linear) else layer)
    hand = nn.Sequential(*layers)
    parts = [layer for layer in layers if isinstance(layer, ByHand)]
    return lambda: log_likelihood(hand(x), y).mean() - sum(part.kl() for part in parts) / n, hand


def pyro_svi(net: nn.Module, x: Tensor, y: Tensor, n: int) -> Callable[[], object]:
    import copy

    import pyro
    from pyro import distributions as dist
    from pyro.infer import SVI, TraceMeanField_ELBO
    from pyro.infer.autoguide import AutoNormal
    from pyro.nn.module import PyroSample, to_pyro_module_

    pyro.clear_param_store()
    random = copy.deepcopy(net.module)
    for part in random.modules():
        part._forward_hooks.clear()
    to_pyro_module_(random)
    for part in random.modules():
        for name, p in list(part.named_parameters(recurse=False)):
            setattr(part, name, PyroSample(dist.Normal(torch.zeros_like(p), 1.0).to_event(p.dim())))

    def model(x: Tensor, y: Tensor) -> None:
        out = random(x)
        law = dist.Normal(out, 0.7).to_event(1) if y.is_floating_point() else dist.Categorical(logits=out)
        with pyro.plate("data", n, subsample_size=len(x)):
            pyro.sample("y", law, obs=y)

    svi = SVI(model, AutoNormal(model), pyro.optim.PyroOptim(torch.optim.Adam, {"lr": 1e-4, "fused": True}), TraceMeanField_ELBO())

    def step() -> None:
        with pyro.validation_enabled(False):
            svi.step(x, y)

    return step


def variance(bound: Bound, module: nn.Module, draws: int) -> dict[str, float]:
    """Of the gradient over draws, summed over the means and over the logarithms of the scales."""
    kinds: dict[str, list[nn.Parameter]] = {"means": [], "scales": []}
    for name, p in module.named_parameters():
        kinds["scales" if "log_" in name else "means"].append(p)
    found = {}
    for kind, parameters in kinds.items():
        total, square = 0.0, 0.0
        mean = [torch.zeros_like(p, dtype=torch.float64) for p in parameters]
        for _ in range(draws):
            slopes = torch.autograd.grad(bound(), parameters)
            square += sum(float(g.double().square().sum()) for g in slopes)
            for m, g in zip(mean, slopes, strict=True):
                m += g
        total = (square - sum(float(m.square().sum()) for m in mean) / draws) / (draws - 1)
        found[kind] = total
    return found


def stepping(bound: Bound, module: nn.Module, rate: float = 1e-4) -> Callable[[], object]:
    optimizer = torch.optim.Adam(module.parameters(), rate, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        (-bound()).backward()
        optimizer.step()

    return step


def timed(steps: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of the processor that a step takes, of each contender in each round; the order within a round rotates."""
    for step in steps.values():
        step()
    start = time.process_time()
    next(iter(steps.values()))()
    block = max(2, math.ceil(0.03 / (time.process_time() - start)))
    times: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    for i in range(-1, rounds):
        turn = i % len(names)
        for name in names[turn:] + names[:turn]:
            start = time.process_time()
            for _ in range(block):
                steps[name]()
            if i >= 0:
                times[name].append(1e3 * (time.process_time() - start) / block)
    return times


def measure(make: Callable[[], nn.Module], x: Tensor, y: Tensor, n: int, training: int, draws: int, rounds: int) -> dict[str, dict]:
    module = make()
    nets = {method: bayesianize(module, num_data=n, method=method) for method in METHODS}
    train = stepping(lambda: nets["local"].elbo(log_likelihood(nets["local"](x), y)), nets["local"], 1e-2)
    for _ in range(training):
        train()
    bounds: dict[str, tuple[Bound, nn.Module]] = {}
    for method, net in nets.items():
        net.load_state_dict(nets["local"].state_dict())
        bounds[method] = (lambda net=net: net.elbo(log_likelihood(net(x), y)), net)
    if hand := by_hand(nets["local"], x, y, n):
        bounds["local, by hand"] = hand
    varied = {name: variance(*pair, draws) for name, pair in bounds.items()}
    steps = {name: stepping(*pair) for name, pair in bounds.items()}
    steps["the network at its means"] = stepping(lambda: log_likelihood(nets["local"].module(x), y).mean(), nets["local"].module)
    if find_spec("pyro"):
        steps["weights, Pyro"] = pyro_svi(nets["weights"], x, y, n)
    times = timed(steps, rounds)
    results: dict[str, dict] = {}
    for name, ms in times.items():
        row: dict[str, float] = {"median_ms": round(statistics.median(ms), 3)}
        row["time"] = round(statistics.median(a / b for a, b in zip(ms, times["weights"], strict=True)), 3)
        if name in varied:
            for kind, value in varied[name].items():
                row[f"variance_of_{kind}"] = float(f"{value / varied['weights'][kind]:.3g}")
                row[f"variance_times_time_of_{kind}"] = float(f"{row['time'] * value / varied['weights'][kind]:.3g}")
        results[name] = row
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--draws", type=int, default=400, help="gradients that the variance is taken over")
    parser.add_argument("--training", type=int, default=300, help="steps before")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "bayesian_layers.json")
    args = parser.parse_args()

    torch.set_num_threads(1)
    results = {}
    for name, (make, data, size) in NETWORKS.items():
        torch.manual_seed(0)
        x, y, n = data(size)
        results[name] = measure(make, x, y, n, args.training, args.draws, args.rounds)
        print(f"\n{name}, batch {size} of {n}; ratios to drawn weights")
        print(f"{'':28}{'ms':>9}{'time':>8}{'variance, means':>17}{'scales':>9}{'× time, means':>15}{'scales':>9}")
        for method, row in results[name].items():
            columns = ("variance_of_means", "variance_of_scales", "variance_times_time_of_means", "variance_times_time_of_scales")
            cells = "".join(f"{row[c]:>{w}.3g}" for c, w in zip(columns, (17, 9, 15, 9), strict=True) if c in row)
            print(f"{method:28}{row['median_ms']:>9.3f}{row['time']:>8.2f}{cells}")
    record = {
        "command": f"python benchmarks/bayesian_layers.py --rounds {args.rounds} --draws {args.draws} --training {args.training}",
        "threads": 1,
        "torch": torch.__version__,
        "networks": results,
    }
    args.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
