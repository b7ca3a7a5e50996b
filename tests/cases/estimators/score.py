"""The score function and its baselines."""

import torch
from torch.distributions import Binomial, Geometric, NegativeBinomial, Poisson

import reparam as rp
from cases.estimators.row import (
    CHOICE,
    COINS,
    DELTA,
    PHI,
    THETA,
    Row,
    W,
    choice,
    coin,
    coins,
    interaction,
    price,
    toy,
)

F0, F1 = toy(torch.tensor(0.0)).item(), toy(torch.tensor(1.0)).item()


def of_coin(b):
    """The variance of one row with a constant baseline."""
    return W * ((1 - THETA) * (F1 - b) + THETA * (F0 - b)) ** 2


def learned(value):
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


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
}
