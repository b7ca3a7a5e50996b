"""What a differentiable sample costs: `rp.rsample`, and torch's own `rsample` where it has one.

One thread, float32. A forward draws `n` values; forward + backward also takes the gradient of their sum of squares in every
parameter. Parameters are full tensors, one for each value (each vector, matrix), as a network gives them. In each round every
contender runs in its turn, so that a noisy machine is noisy for all, and times are those of the processor. "ours / torch" is the
median over rounds of the ratio within a round; nanoseconds are those of the fastest round, for each element of a sample.

    python benchmarks/samplers.py [--rounds 9] [--n 200000] [--only gamma,beta] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributions as td
from torch import Tensor
from torch.distributions import Distribution

import reparam as rp
from reparam import distributions as rd

Law = Callable[..., Distribution]
Step = Callable[[], object]


def row(make: Law, *parameters: float | Tensor, size: int = 1) -> tuple[Law, tuple[float | Tensor, ...], int]:
    """A law as a function of batched parameters, an example of each, and how many values one sample has."""
    return make, parameters, size


def mixture(logits: Tensor, loc: Tensor, scale: Tensor) -> Distribution:
    return td.MixtureSameFamily(td.Categorical(logits=logits), td.Normal(loc, scale))


def copula(loc: Tensor, scale: Tensor) -> Distribution:
    tied = torch.tensor([[1.0, 0.5, 0.2], [0.5, 1.0, 0.5], [0.2, 0.5, 1.0]])
    return rd.GaussianCopula(td.Gumbel(loc, scale), tied)


DIRECTION, DIRECTION_10 = torch.eye(3)[0], torch.eye(10)[0]
FACTOR = torch.eye(10) + 0.1 * torch.ones(10, 10).tril()
# Beside torch's own. Torch has no gradient for MixtureSameFamily, LKJCholesky and VonMises: there `sample` is the counterpart.
BESIDE_TORCH = {
    "Normal": row(td.Normal, 0.3, 1.2),
    "Laplace": row(td.Laplace, 0.3, 1.2),
    "Gumbel": row(td.Gumbel, 0.3, 1.2),
    "Weibull": row(td.Weibull, 1.2, 1.5),
    "Cauchy": row(td.Cauchy, 0.3, 1.2),
    "Gamma(0.3)": row(td.Gamma, 0.3, 1.0),
    "Gamma(3)": row(td.Gamma, 3.0, 1.0),
    "Beta(0.5, 2)": row(td.Beta, 0.5, 2.0),
    "Beta(5, 2)": row(td.Beta, 5.0, 2.0),
    "Dirichlet, K = 10": row(td.Dirichlet, torch.linspace(0.3, 3.0, 10), size=10),
    "StudentT(3)": row(td.StudentT, 3.0, 0.3, 1.2),
    "MultivariateNormal, 10": row(lambda loc: td.MultivariateNormal(loc, scale_tril=FACTOR), torch.zeros(10), size=10),
    "VonMises(2)": row(td.VonMises, 0.3, 2.0),
    "MixtureSameFamily, 5 normals": row(mixture, torch.zeros(5), torch.linspace(-2, 2, 5), torch.linspace(0.3, 1.0, 5)),
    "LKJCholesky, 5": row(lambda c: td.LKJCholesky(5, c), 1.5, size=25),
    "Wishart, 3": row(lambda df: td.Wishart(df, scale_tril=torch.eye(3)), 5.0, size=9),
}
OURS = {
    "Logistic": row(rd.Logistic, 0.3, 1.2),
    "JohnsonSU": row(rd.JohnsonSU, 0.3, 1.2, 0.3, 1.2),
    "Triangular": row(rd.Triangular, -1.0, 2.0, 0.3),
    "TanhNormal": row(rd.TanhNormal, 0.3, 1.2),
    "TruncatedNormal": row(rd.TruncatedNormal, 0.3, 1.2, -1.0, 2.0),
    "TruncatedNormal, 40 deviations out": row(rd.TruncatedNormal, 0.0, 1.0, 40.0, 41.0),
    "Truncated(Gumbel)": row(lambda loc, scale: rd.Truncated(td.Gumbel(loc, scale), -1.0, 2.0), 0.3, 1.2),
    "LogitBeta(0.5, 2)": row(rd.LogitBeta, 0.5, 2.0),
    "LogDirichlet, K = 10": row(rd.LogDirichlet, torch.linspace(0.3, 3.0, 10), size=10),
    "MultivariateStudentT, 10": row(lambda df, loc: rd.MultivariateStudentT(df, loc, FACTOR), 3.0, torch.zeros(10), size=10),
    "MatrixNormal, 3 x 4": row(lambda loc: rd.MatrixNormal(loc, torch.eye(3), torch.eye(4)), torch.zeros(3, 4), size=12),
    "GaussianCopula(Gumbel), 3": row(copula, torch.zeros(3), torch.ones(3), size=3),
    "VonMisesFisher, 3": row(lambda k: rd.VonMisesFisher(DIRECTION, k), 5.0, size=3),
    "VonMisesFisher, 10": row(lambda k: rd.VonMisesFisher(DIRECTION_10, k), 5.0, size=10),
    "PowerSpherical, 10": row(lambda k: rd.PowerSpherical(DIRECTION_10, k), 5.0, size=10),
    "LKJ, 5": row(lambda c: rd.LKJ(5, c), 1.5, size=25),
    "LogGamma(0.3)": row(rd.LogGamma, 0.3, 1.0),
    "GeneralizedNormal": row(rd.GeneralizedNormal, 0.3, 1.2, 1.5),
    "InverseGaussian": row(rd.InverseGaussian, 1.0, 2.0),
    "SkewNormal": row(rd.SkewNormal, 0.3, 1.2, 2.0),
    "ExponentiallyModifiedNormal": row(rd.ExponentiallyModifiedNormal, 0.3, 1.2, 1.5),
}


def steps(law: Law, parameters: tuple[float | Tensor, ...], samples: int) -> dict[str, Step]:
    """Forward and forward + backward, of ours and of torch's."""
    leaves = [
        torch.as_tensor(p, dtype=torch.float32).expand(samples, *torch.as_tensor(p).shape).clone().requires_grad_()
        for p in parameters
    ]

    def ours() -> Tensor:
        return rp.rsample(law(*leaves))

    def own() -> Tensor:
        d = law(*leaves)
        return d.rsample() if d.has_rsample else d.sample()

    def without_gradient(draw: Callable[[], Tensor]) -> Step:
        def step() -> None:
            with torch.no_grad():
                draw()

        return step

    def with_gradient(draw: Callable[[], Tensor]) -> Step:
        return lambda: torch.autograd.grad(draw().square().sum(), leaves, allow_unused=True)

    found = {"ours f": without_gradient(ours), "ours f+b": with_gradient(ours)}
    if not type(law(*leaves)).__module__.startswith("reparam"):
        found["torch f"] = without_gradient(own)
        if law(*leaves).has_rsample:
            found["torch f+b"] = with_gradient(own)
    return found


def measure(contenders: dict[str, Step], rounds: int) -> dict[str, list[float]]:
    """Seconds of processor time of each contender in each round; the order within a round rotates."""
    names, times = list(contenders), {name: [] for name in contenders}
    for i in range(-1, rounds):
        turn = i % len(names)
        for name in names[turn:] + names[:turn]:
            start = time.process_time()
            contenders[name]()
            if i >= 0:
                times[name].append(time.process_time() - start)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--n", type=int, default=200_000, help="values in a draw")
    parser.add_argument("--only", default="", help="rows whose names contain one of these, with commas between")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "samplers.json")
    args = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(0)
    td.Distribution.set_default_validate_args(False)
    wanted = args.only.lower().split(",")
    results: dict[str, dict[str, float]] = {}
    load = os.getloadavg()[0]
    print(f"{'':36}{'ours, ns a value':>24}{'ours / torch':>20}\n{'':36}{'f':>12}{'f+b':>12}{'f':>10}{'f+b':>10}")
    for name, (law, parameters, size) in (BESIDE_TORCH | OURS).items():
        if not any(part in name.lower() for part in wanted):
            continue
        times = measure(steps(law, parameters, args.n // size), args.rounds)
        entry = results[name] = {}
        for what in ("f", "f+b"):
            entry[f"ours {what}, ns"] = round(1e9 * min(times[f"ours {what}"]) / args.n, 1)
        for what in ("f", "f+b"):
            if (own := times.get(f"torch {what}")) is not None:
                ratios = [a / b for a, b in zip(times[f"ours {what}"], own, strict=True)]
                entry[f"ours / torch {what}"] = round(statistics.median(ratios), 2)
        cells = [entry.get(key, "") for key in ("ours f, ns", "ours f+b, ns", "ours / torch f", "ours / torch f+b")]
        print(f"{name:36}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, (12, 12, 10, 10), strict=True)), flush=True)
    record = {
        "command": f"python benchmarks/samplers.py --rounds {args.rounds} --n {args.n}",
        "threads": 1,
        "cores": os.cpu_count(),
        "load_average_before": round(load, 1),
        "torch": torch.__version__,
    }
    if not args.only:
        args.out.write_text(json.dumps(record | {"samplers": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
