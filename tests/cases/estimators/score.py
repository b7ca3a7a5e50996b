"""The score function and its baselines."""

from itertools import combinations

import torch
from torch.distributions import Binomial, Categorical, Geometric, NegativeBinomial, Poisson

import reparam as rp
from cases.estimators.row import (
    CHOICE,
    CHOICES,
    COINS,
    DELTA,
    PHI,
    PRICES,
    THETA,
    Row,
    W,
    choice,
    coin,
    coins,
    interaction,
    one_hots,
    price,
    table,
    toy,
)

F0, F1 = toy(torch.tensor(0.0)).item(), toy(torch.tensor(1.0)).item()


def of_coin(b):
    """The variance of one row with a constant baseline."""
    return W * ((1 - THETA) * (F1 - b) + THETA * (F0 - b)) ** 2


def learned(value):
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def of_pairs():
    """The variance without replacement of two rows of a choice: over the six pairs."""
    p = torch.tensor(CHOICE, dtype=torch.float64).softmax(0)
    slopes = torch.diag(p) - p[:, None] * p
    chances, gradients = [], []
    for a, b in combinations(range(4), 2):
        first = [p[i] * p[j] / (1 - p[i]) for i, j in ((a, b), (b, a))]  # a then b, b then a
        was = torch.stack(first) / sum(first)
        costs = torch.stack([(1 - p[i]) * (PRICES[i] - PRICES[j]) for i, j in ((a, b), (b, a))])
        chances.append(sum(first))
        gradients.append((was * costs / p[[a, b]]) @ slopes[[a, b]])
    chance, gradient = torch.stack(chances)[:, None], torch.stack(gradients)
    return (chance * gradient**2).sum(0) - (chance * gradient).sum(0) ** 2


def of_one_sample():
    """The variance of a choice of which the two most probable values are summed and one of the others is sampled."""
    p = torch.tensor(CHOICE, dtype=torch.float64).softmax(0)
    order = p.argsort(descending=True)
    summed, others = order[:2], order[2:]
    b = (p * PRICES)[summed].sum() / p[summed].sum()
    rest = p[others].sum()
    scores = (torch.eye(4, dtype=torch.float64) - p)[others] * (PRICES[others] - b)[:, None] * rest
    chance = (p[others] / rest)[:, None]
    return (chance * scores**2).sum(0) - (chance * scores).sum(0) ** 2


class Learned(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.b = torch.nn.Parameter(torch.tensor(0.2))

    def forward(self):
        return 2 * self.b


def truncated(exact, at):
    """What is known of a sum without a tail too small to matter: the closed forms of the whole."""
    p = torch.tensor(at, dtype=torch.float64, requires_grad=True)
    value = exact(p)
    (slope,) = torch.autograd.grad(value.sum(), p)
    known = {"value": value.detach(), "gradient": (slope,), "variance": (0.0,)}
    return known | {"exact": exact, "second": True, "draws": 500}


ROWS = {
    "score, coin": Row(rp.Score(), coin, (PHI,), toy, {"variance": (of_coin(0.0),), "second": True, "detects": 0.02}),
    "score, coin, constant baseline": Row(
        rp.Score(0.2), coin, (PHI,), toy, {"variance": (of_coin(0.2),), "second": True, "detects": 0.02}
    ),
    "score, coin, learned baseline": Row(
        rp.Score(learned(0.2)), coin, (PHI,), toy, {"variance": (of_coin(0.2),), "second": True, "detects": 0.02}
    ),
    "score, coin, a module's baseline": Row(
        rp.Score(Learned()), coin, (PHI,), toy, {"variance": (of_coin(0.4),), "second": True, "detects": 0.02}
    ),
    "score, coins, moving average": Row(rp.Score(rp.MovingAverage(0.5)), coins, (COINS,), interaction, {"n": 3, "second": True}),
    "score, choice, moving average": Row(rp.Score(rp.MovingAverage()), choice, (CHOICE,), price, {"n": 2, "second": True}),
    "score, Poisson": Row(
        rp.Score(2.0), Poisson, (1.7,), lambda z: (z - 1) ** 2, {"n": 4, "exact": lambda r: r + (r - 1) ** 2, "second": True}
    ),
    "leave-one-out, coin": Row(
        rp.LeaveOneOut(), coin, (PHI,), toy, {"n": 2, "variance": (DELTA**2 * W * (0.5 - W),), "second": True, "detects": 0.01}
    ),
    "leave-one-out, coins": Row(rp.LeaveOneOut(), coins, ((COINS, COINS[::-1]),), interaction, {"n": 4, "second": True}),
    "leave-one-out, choice": Row(rp.LeaveOneOut(), choice, (CHOICE,), price, {"n": 3, "second": True}),
    "leave-one-out, Poisson": Row(
        rp.LeaveOneOut(), Poisson, (1.7,), lambda z: (z - 1) ** 2, {"n": 4, "exact": lambda r: r + (r - 1) ** 2, "second": True}
    ),
    "enumerate, coin": Row(rp.Enumerate(), coin, (PHI,), toy, {"variance": (0.0,), "second": True, "draws": 2000}),
    "enumerate, coins": Row(rp.Enumerate(), coins, (COINS,), interaction, {"variance": (0.0,), "second": True, "draws": 2000}),
    "enumerate, all but a tail of Poisson": Row(
        rp.Enumerate(tail=1e-14),
        Poisson,
        ((1.7, 60.0),),
        lambda z: (z - 1) ** 2,
        truncated(lambda r: r + (r - 1) ** 2, (1.7, 60.0)),
    ),
    "enumerate, all but a tail of Geometric": Row(
        rp.Enumerate(tail=1e-14), Geometric, (0.3,), lambda z: z, truncated(lambda p: (1 - p) / p, 0.3)
    ),
    "enumerate, all but a tail of NegativeBinomial": Row(
        rp.Enumerate(tail=1e-14), lambda p: NegativeBinomial(4.0, p), (0.3,), lambda z: z, truncated(lambda p: 4 * p / (1 - p), 0.3)
    ),
    "enumerate, all but the tails of Binomial": Row(
        rp.Enumerate(tail=1e-12),
        lambda p: Binomial(1000, p),
        (0.3,),
        lambda z: (z / 1e3 - 0.5) ** 2,
        truncated(lambda p: p * (1 - p) / 1e3 + (p - 0.5) ** 2, 0.3),
    ),
    "without replacement, coin": Row(
        rp.WithoutReplacement(), coin, (PHI,), toy, {"n": 2, "variance": (0.0,), "second": True, "draws": 2000}
    ),
    "without replacement, choice": Row(
        rp.WithoutReplacement(), choice, (CHOICE,), price, {"n": 2, "variance": (of_pairs(),), "second": True}
    ),
    "without replacement, coins": Row(
        rp.WithoutReplacement(), coins, ((COINS, COINS[::-1]),), interaction, {"n": 4, "second": True, "draws": 20_000}
    ),
    "without replacement, choice by probabilities": Row(
        rp.WithoutReplacement(),
        lambda w: Categorical(w / w.sum(-1, keepdim=True)),
        ((0.1, 0.4, 0.2, 0.3),),
        price,
        {"n": 3, "second": True},
    ),
    "without replacement, one-hots": Row(
        rp.WithoutReplacement(), one_hots, (CHOICES,), table, {"n": 5, "second": True, "draws": 20_000}
    ),
    "sum and sample, choice": Row(
        rp.SumAndSample(2), choice, (CHOICE,), price, {"n": 3, "variance": (of_one_sample(),), "second": True}
    ),
    "sum and sample, coins": Row(
        rp.SumAndSample(3), coins, ((COINS, COINS[::-1]),), interaction, {"n": 5, "second": True, "draws": 20_000}
    ),
    "sum and sample, all of a choice": Row(
        rp.SumAndSample(4), choice, (CHOICE,), price, {"n": 4, "variance": (0.0,), "second": True, "draws": 2000}
    ),
}
