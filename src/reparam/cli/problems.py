"""The standard problems of `reparam compare`, and the user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent, Normal
from torch.nn.functional import softplus

from reparam.cli.words import nearest
from reparam.diagnostics.entries import Entry
from reparam.errors import BadInputError
from reparam.estimators import LeaveOneOut, Pathwise, Score
from reparam.named import call, find
from reparam.noise import Antithetic, Sobol

__all__ = ["PROBLEMS", "Problem", "problem"]


@dataclass(frozen=True)
class Problem:
    """What `rp.diagnose` is given.

    Attributes:
        title: in a few words.
        text: the problem in a sentence or two.
        f: the cost.
        q: the law.
        estimators: to compare; None for all that serve.
        exact: the true gradient, where it is known.
    """

    title: str
    text: str
    f: Callable[[Tensor], Tensor]
    q: Distribution
    estimators: Sequence[Entry] | Mapping[str, Entry] | None = None
    exact: Tensor | None = None


def _parameter(value: float | Tensor) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float32).clone().requires_grad_()


def quadratic() -> Problem:
    return Problem(
        "Quadratic",
        "f(z) = (z − 2)², z ~ Normal(loc, scale) at loc = 1, scale = 0.7: smooth, of one variable.",
        lambda z: (z - 2.0) ** 2,
        Normal(_parameter(1.0), _parameter(0.7)),
    )


def _toy(t: float) -> Problem:
    return Problem(
        f"Toy of REBAR, t = {t}",
        f"f(b) = (b − {t})², b ~ Bernoulli(sigmoid(logits)) at logits = −1: the two costs differ by {1 - 2 * t:.3g} only.",
        lambda b: (b - t) ** 2,
        Bernoulli(logits=_parameter(-1.0)),
    )


def logistic() -> Problem:
    """The optimum of the location is found by Newton's method; the scales are those of Laplace's approximation."""
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer()
    x = torch.tensor(found.data[:, :10], dtype=torch.float32)
    x = torch.cat([(x - x.mean(0)) / x.std(0), torch.ones(len(x), 1)], 1)
    sign = torch.tensor(2 * found.target - 1, dtype=torch.float32)
    prior = 1.0

    def cost(w: Tensor) -> Tensor:
        return softplus(-sign * (w @ x.T)).sum(-1) + 0.5 * prior * (w * w).sum(-1)

    w = torch.zeros(x.shape[1])
    for _ in range(20):
        p = torch.sigmoid(x @ w)
        hessian = (x.T * (p * (1 - p))) @ x + prior * torch.eye(len(w))
        w = w - torch.linalg.solve(hessian, x.T @ (p - (sign + 1) / 2) + prior * w)
    # A step off the optimum, so that there is a gradient to be seen.
    loc, log_scale = _parameter(w + 0.1), _parameter(-0.5 * hessian.diagonal().log())
    return Problem(
        "Bayesian logistic regression",
        "−log p(y, w), w ~ Normal(loc, scale), a component for each of 10 features of 569 breast-cancer diagnoses and one for the "
        "intercept: near the optimum of a mean-field posterior, on the full batch. "
        "Gradients are in loc and in log scale, which the remarks call scale.",
        cost,
        Independent(Normal(loc, log_scale.exp()), 1),
        [Pathwise(), (Pathwise(), Antithetic()), (Pathwise(), Sobol(seed=0)), LeaveOneOut(), Score()],
    )


def polynomial() -> Problem:
    c, p, size = 0.45, 1.5, 128
    logits = _parameter(torch.zeros(size))
    with torch.no_grad():
        theta = logits.sigmoid()
        exact = theta * (1 - theta) * ((1 - c) ** p - c**p) / size
    return Problem(
        "Polynomial programming",
        f"f(b) = mean |bᵢ − {c}|^{p}, b of {size} coins, at logits = 0: each gradient has the noise of all other coins.",
        lambda b: (b - c).abs().pow(p).mean(-1),
        Independent(Bernoulli(logits=logits), 1),
        exact=exact,
    )


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "quadratic": quadratic,
    "toy-0.45": lambda: _toy(0.45),
    "toy-0.499": lambda: _toy(0.499),
    "logistic": logistic,
    "polynomial": polynomial,
}


def problem(name: str) -> Problem:
    """A standard problem, or what the user's `module:function` returns.

    That function takes nothing and returns `(f, q)` or `(f, q, estimators)`. Its module is imported from the current folder or
    from where Python looks: only because the user named it.

    Raises:
        BadInputError: for an unknown problem; for a module or function that is not there, fails, or returns something else.
    """
    if ":" not in name:
        if name not in PROBLEMS:
            raise BadInputError(f"there is no problem {name}{nearest(name, PROBLEMS)}; your own is MODULE:FUNCTION")
        return PROBLEMS[name]()
    made = call(name)
    if not isinstance(made, tuple) or len(made) not in (2, 3) or not callable(made[0]) or not isinstance(made[1], Distribution):
        came = f"({', '.join(type(part).__name__ for part in made)})" if isinstance(made, tuple) else type(made).__name__
        raise BadInputError(f"{name} returned {came}: it must return (f, q) or (f, q, estimators), q a torch.distributions object")
    doc = " ".join((find(name).__doc__ or "").split())
    return Problem(name, doc or f"{type(made[1]).__name__}, of {name}.", *made)
