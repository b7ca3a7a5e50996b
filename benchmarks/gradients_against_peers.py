"""Variance and time of gradient estimates, beside Storchastic, Pyro and TensorFlow Probability (on JAX, compiled).

The same problem, parameters and number of rows for all, in one run, the libraries taking turns. `variance` is the sum over the
parameters of the variance of one gradient estimate; `error` the squared error of their mean over what that variance lets expect
(one, unless biased); `ms` the median time of one, forward and backward. The last column is variance times time, as a ratio to ours
for the same method: above 1, the peer needs that many times the time for the same accuracy.

    pip install pyro-ppl storchastic "tensorflow-probability[jax]" "jax[cpu]<0.5"     # those that are missing are left out
    python benchmarks/gradients_against_peers.py
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.distributions import Bernoulli, Independent, Normal, OneHotCategorical

import reparam as rp

ROWS = 8
T = 0.45
COINS = torch.linspace(-2, 2, 128)
LOC, SCALE = torch.linspace(-1, 1, 100), 0.7
CHOICES = torch.linspace(-1, 1, 200).reshape(20, 10)
PRICES = torch.linspace(0, 1, 10) ** 2

Step = Callable[[], np.ndarray]


def coins_cost(z):
    """Polynomial programming: the mean over 128 coins of (z - t)^2."""
    return ((z - T) ** 2).mean(-1)


def normal_cost(z):
    return ((z - 0.3) ** 2).sum(-1)


def choices_cost(z):
    """Twenty choices among ten; their total price is to be 5."""
    return ((z * PRICES).sum((-2, -1)) - 5) ** 2


PROBLEMS = {
    "coins": (COINS, lambda w: Independent(Bernoulli(logits=w), 1), coins_cost),
    "normal": (LOC, lambda w: Independent(Normal(w, SCALE), 1), normal_cost),
    "choices": (CHOICES, lambda w: Independent(OneHotCategorical(logits=w), 1), choices_cost),
}


def ours() -> dict[tuple[str, str], Step]:
    methods = {
        "coins": {
            "score": rp.Score(),
            "score, moving average": rp.Score(baseline=rp.MovingAverage()),
            "leave one out": rp.LeaveOneOut(),
            "ARM": rp.ARM(),
            "DisARM": rp.DisARM(),
            "REBAR": rp.REBAR(0.5),
            "Gumbel-softmax (biased)": rp.GumbelSoftmax(1.0),
        },
        "normal": {"pathwise": rp.Pathwise(), "score": rp.Score(), "leave one out": rp.LeaveOneOut()},
        "choices": {
            "score": rp.Score(),
            "score, moving average": rp.Score(baseline=rp.MovingAverage()),
            "leave one out": rp.LeaveOneOut(),
            "REBAR": rp.REBAR(0.5),
            "Gumbel-softmax (biased)": rp.GumbelSoftmax(1.0),
        },
    }

    def step(problem: str, estimator: rp.Estimator) -> Step:
        start, law, cost = PROBLEMS[problem]
        w = start.clone().requires_grad_()

        def once() -> np.ndarray:
            loss = rp.expect(cost, law(w), estimator=estimator, n=ROWS)
            return torch.autograd.grad(loss, w)[0].numpy()

        return once

    return {(problem, name): step(problem, e) for problem, named in methods.items() for name, e in named.items()}


def storchastic() -> dict[tuple[str, str], Step]:
    import storch

    m = storch.method
    methods = {
        "coins": {
            "score": lambda: m.ScoreFunction("z", n_samples=ROWS, baseline_factory=None),
            "leave one out": lambda: m.ScoreFunction("z", n_samples=ROWS, baseline_factory="batch_average"),
            "ARM": lambda: m.ARM("z", n_samples=ROWS // 2),  # pairs
            "REBAR": lambda: m.REBAR("z", n_samples=ROWS),
            "Gumbel-softmax (biased)": lambda: m.GumbelSoftmax("z", n_samples=ROWS),
        },
        "normal": {
            "pathwise": lambda: m.Reparameterization("z", n_samples=ROWS),
            "score": lambda: m.ScoreFunction("z", n_samples=ROWS, baseline_factory=None),
            "leave one out": lambda: m.ScoreFunction("z", n_samples=ROWS, baseline_factory="batch_average"),
        },
        "choices": {
            "score": lambda: m.ScoreFunction("z", n_samples=ROWS, baseline_factory=None),
            "leave one out": lambda: m.ScoreFunction("z", n_samples=ROWS, baseline_factory="batch_average"),
            # Its REBAR and Gumbel-softmax of one-hot choices end in a KeyError, with torch 2.13.
        },
    }

    laws = {
        "coins": lambda w: Bernoulli(logits=w),
        "choices": lambda w: OneHotCategorical(logits=w),
    }  # it takes no Independent here

    def step(problem: str, make: Callable[[], torch.nn.Module]) -> Step:
        start, law, cost = PROBLEMS[problem]
        w = start.clone().requires_grad_()
        method = make()

        def once() -> np.ndarray:
            w.grad = None
            storch.add_cost(cost(method(laws.get(problem, law)(w))), "cost")
            storch.backward()
            return w.grad.detach().numpy().copy()

        return once

    return {(problem, name): step(problem, make) for problem, named in methods.items() for name, make in named.items()}


def pyro() -> dict[tuple[str, str], Step]:
    import pyro as library
    from pyro import distributions as dist
    from pyro.infer import Trace_ELBO, TraceGraph_ELBO

    laws = {
        "coins": lambda w: dist.Bernoulli(logits=w).to_event(1),
        "normal": lambda w: dist.Normal(w, SCALE).to_event(1),
        "choices": lambda w: dist.OneHotCategorical(logits=w).to_event(1),
    }

    def step(problem: str, kind: type, infer: dict | None = None) -> Step:
        start, _, cost = PROBLEMS[problem]
        w = start.clone().requires_grad_()
        elbo = kind(num_particles=ROWS, vectorize_particles=True)
        # The model's law of z is the guide's, so that what is left of the bound is the cost. Under the score function it has no
        # gradient, as the guide's log-density has none there: else it would be noise on top.
        of_model = w if problem == "normal" else w.detach()

        def model() -> None:
            library.factor("cost", -cost(library.sample(f"z, {problem}", laws[problem](of_model))))

        def guide() -> None:
            library.sample(f"z, {problem}", laws[problem](w), infer=infer)  # its moving average goes by the name

        def once() -> np.ndarray:
            w.grad = None
            if kind is Trace_ELBO:
                elbo.differentiable_loss(model, guide).backward()
            else:
                elbo.loss_and_grads(model, guide)
            return w.grad.numpy().copy()

        return once

    average = {"baseline": {"use_decaying_avg_baseline": True}}
    steps = {("normal", "pathwise"): step("normal", Trace_ELBO)}
    for problem in ("coins", "choices"):
        steps[problem, "score"] = step(problem, Trace_ELBO)
        steps[problem, "score, moving average"] = step(problem, TraceGraph_ELBO, average)
    return steps


def tfp() -> dict[tuple[str, str], Step]:
    import jax
    from jax import numpy as jnp
    from tensorflow_probability.substrates import jax as library

    d = library.distributions
    laws = {
        "coins": lambda w: d.Independent(d.Bernoulli(logits=w, dtype=jnp.float32), 1),
        "normal": lambda w: d.Independent(d.Normal(w, SCALE), 1),
        "choices": lambda w: d.Independent(d.OneHotCategorical(logits=w, dtype=jnp.float32), 1),
        "relaxed coins": lambda w: d.Independent(d.RelaxedBernoulli(1.0, logits=w), 1),
        "relaxed choices": lambda w: d.Independent(d.RelaxedOneHotCategorical(1.0, logits=w), 1),
    }
    prices = jnp.asarray(PRICES.numpy())
    costs = {
        "coins": coins_cost,
        "normal": normal_cost,
        "choices": lambda z: ((z * prices).sum((-2, -1)) - 5) ** 2,
    }

    def step(problem: str, law: str, through: bool) -> Step:
        w = jnp.asarray(PROBLEMS[problem][0].numpy())

        def loss(w, key):
            q = laws[law](w)
            z = q.sample(ROWS, seed=key)
            return library.monte_carlo.expectation(costs[problem], z, log_prob=q.log_prob, use_reparameterization=through)

        gradient, keys = jax.jit(jax.grad(loss)), iter(jax.random.split(jax.random.PRNGKey(0), 200_000))
        return lambda: np.asarray(gradient(w, next(keys)))

    return {
        ("coins", "score"): step("coins", "coins", False),
        ("coins", "Gumbel-softmax (biased)"): step("coins", "relaxed coins", True),
        ("normal", "pathwise"): step("normal", "normal", True),
        ("normal", "score"): step("normal", "normal", False),
        ("choices", "score"): step("choices", "choices", False),
        ("choices", "Gumbel-softmax (biased)"): step("choices", "relaxed choices", True),
    }


def exact(problem: str) -> np.ndarray:
    """The gradient of the expected cost, in closed form."""
    w = PROBLEMS[problem][0].double().requires_grad_()
    if problem == "coins":
        p = w.sigmoid()
        loss = ((1 - 2 * T) * p + T**2).mean()
    elif problem == "normal":
        loss = ((w - 0.3) ** 2 + SCALE**2).sum()
    else:
        p, prices = w.softmax(-1), PRICES.double()
        mean = (p * prices).sum(-1)
        loss = (mean.sum() - 5) ** 2 + ((p * prices**2).sum(-1) - mean**2).sum()
    return torch.autograd.grad(loss, w)[0].numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "gradients_against_peers.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    logging.disable(logging.INFO)

    steps: dict[tuple[str, str, str], Step] = {}
    for library, make in (("reparam", ours), ("Storchastic", storchastic), ("Pyro", pyro), ("TFP, jitted", tfp)):
        try:
            steps |= {(problem, name, library): step for (problem, name), step in make().items()}
        except ImportError as error:
            print(f"{library} is left out: {error}")
    draws: dict[tuple[str, str, str], list[np.ndarray]] = {key: [] for key in steps}
    seconds: dict[tuple[str, str, str], list[float]] = {key: [] for key in steps}
    for key, step in list(steps.items()):
        try:
            for _ in range(3):
                step()
        except Exception as error:  # a peer that does not run with the torch that is here
            print(f"{' '.join(key)} is left out: {type(error).__name__}: {error}")
            del steps[key]
    for _ in range(args.draws):
        for key, step in steps.items():
            start = time.perf_counter()
            gradient = step()
            seconds[key].append(time.perf_counter() - start)
            draws[key].append(gradient.astype(np.float64))

    rows = []
    for problem, name, library in sorted(steps, key=lambda key: (key[0], key[1], key[2] != "reparam", key[2])):
        key = (problem, name, library)
        sample = np.stack(draws[key])
        variance, error = sample.var(0, ddof=1), sample.mean(0) - exact(problem)
        rows.append(
            {
                "problem": problem,
                "method": name,
                "library": library,
                "variance": float(variance.sum()),
                # The squared error of the mean over its expectation without bias: one, give or take sqrt(2 / parameters).
                "error": float((error**2).sum() / (variance.sum() / args.draws)),
                "ms": 1e3 * float(np.median(seconds[key])),
            }
        )
    base = {(r["problem"], r["method"]): r["variance"] * r["ms"] for r in rows if r["library"] == "reparam"}
    print(f"{'problem':9}{'method':26}{'library':13}{'variance':>10}{'error':>8}{'ms':>8}{'variance x time':>18}")
    for r in rows:
        ratio = r["variance"] * r["ms"] / base.get((r["problem"], r["method"]), math.nan)
        r["variance x time, ratio to ours"] = None if math.isnan(ratio) else ratio
        print(f"{r['problem']:9}{r['method']:26}{r['library']:13}{r['variance']:10.3g}{r['error']:8.2f}{r['ms']:8.3f}{ratio:18.2f}")
    result = {"rows": ROWS, "draws": args.draws, "threads": 1, "torch": torch.__version__, "results": rows}
    args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
