"""What a row of the table says, and the problems that several families share."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.distributions import Bernoulli, Categorical, Independent, OneHotCategorical


class Row(NamedTuple):
    """An estimator, a law as a function of its parameters, their values, a cost, and what is known (`check_estimator`)."""

    estimator: Any
    make: Callable[..., Any]
    parameters: tuple[Any, ...]
    f: Callable[..., Any]
    known: dict[str, Any] = {}


def coin(logits):
    return Bernoulli(logits=logits)


def coins(logits):
    return Independent(Bernoulli(logits=logits), 1)


def choice(logits):
    return Categorical(logits=logits)


def one_hot(logits):
    return OneHotCategorical(logits=logits)


def one_hots(logits):
    return Independent(OneHotCategorical(logits=logits), 1)


# The coin of TRUTHS: sigmoid(PHI) = THETA, and the toy of REBAR and RELAX.
THETA, T = 0.3, 0.45
PHI = math.log(THETA / (1 - THETA))
DELTA, W = 1 - 2 * T, THETA * (1 - THETA)


def toy(z):
    return (z - T) ** 2


COINS = (0.5, -1.0, 0.2)


def interaction(z):
    """A cost of several coins that is not a sum of costs of each."""
    return (z.sum(-1) - 1.2) ** 2 + z.prod(-1)


CHOICE = (0.5, -1.0, 0.2, 1.1)
PRICES = torch.tensor([1.0, -0.5, 2.0, 0.3], dtype=torch.float64)


def price(z):
    """Of an index."""
    return PRICES[z.long()]


def price_of_one_hot(z):
    """The same of a one-hot vector; quadratic between them."""
    return (z * PRICES.to(z.dtype)).sum(-1) + 0.5 * (z[..., 0] - z[..., 2]) ** 2


CHOICES = ((0.5, -1.0, 0.2), (0.0, 0.7, -0.3))


def table(z):
    """Of two one-hot vectors of three: an interaction of the two."""
    a, b = z[..., 0, :], z[..., 1, :]
    return (a * b).sum(-1) + (a[..., 0] - 2 * b[..., 1]) ** 2 + b[..., 2]
