"""Relaxations and straight-through estimators: biased, each exactly as documented."""

import torch
from torch.distributions import Bernoulli, OneHotCategorical

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
    T,
    W,
    coin,
    coins,
    interaction,
    one_hot,
    one_hots,
    price_of_one_hot,
    table,
    toy,
)
from oracle.relaxation import (
    euler,
    euler_coin,
    gumbel,
    gumbel_coin,
    heun,
    of_hard_coin,
    of_relaxed_coin,
    over_choice,
    over_choices,
    over_coins,
    relaxed_choice,
    slope,
)

F64 = torch.float64
THREE = (0.5, -1.0, 0.2)
SLOPES = 2 * (0 - T), 2 * (1 - T)  # of the toy at 0 and 1


def wavy(z):
    """A cost that is no polynomial."""
    return torch.sin(2 * z) + torch.exp(-z)


WAVY = tuple(slope(wavy, b).item() for b in (0.0, 1.0))


def steep(z):
    """Of one-hot vectors: no quadratic function."""
    return torch.exp(0.5 * z @ PRICES[:3].to(z.dtype)) + (z[..., 0] - z[..., 1]) ** 3


def square(z):
    """Of one-hot vectors: quadratic."""
    return (z @ PRICES[:3].to(z.dtype) - z[..., 0]) ** 2 + z[..., 1]


def truth(make, parameters, f):
    """The gradient of E[f], enumerated."""
    leaf = torch.tensor(parameters, dtype=F64, requires_grad=True)
    value = rp.expect(f, make(leaf), estimator=rp.Enumerate())
    return torch.autograd.grad(value.sum(), leaf)


def coin_of(p):
    return Bernoulli(probs=p)


def one_hot_of(p):
    return OneHotCategorical(probs=p)


CHANCES = (0.5, 0.2, 0.3)
BATCH = (-1.0, 0.3, 1.2)
three = torch.tensor(THREE, dtype=F64)
soft_price = relaxed_choice(steep, 0.7)
HEUN_VARIANCE = W * (((1 - THETA) * SLOPES[1] - THETA * SLOPES[0]) / 2) ** 2

ROWS = {
    "GumbelSoftmax 0.5, coin": Row(rp.GumbelSoftmax(0.5), coin, (PHI,), toy, of_relaxed_coin(toy, PHI, 0.5)),
    "GumbelSoftmax 2.0, coin": Row(rp.GumbelSoftmax(2.0), coin, (PHI,), wavy, of_relaxed_coin(wavy, PHI, 2.0)),
    "GumbelSoftmax 0.7, choice": Row(
        rp.GumbelSoftmax(0.7),
        one_hot,
        (THREE,),
        steep,
        {"value": float(soft_price(three)), "gradient": (slope(soft_price, three),), "exact": soft_price, "second": True},
    ),
    "GumbelSoftmax, hard 0.5, coin": Row(rp.GumbelSoftmax(0.5, hard=True), coin, (PHI,), toy, of_hard_coin(toy, PHI, 0.5)),
    "GumbelSoftmax, hard 1.0, coin": Row(rp.GumbelSoftmax(1.0, hard=True), coin, (PHI,), wavy, of_hard_coin(wavy, PHI, 1.0)),
    "GumbelSoftmax, hard 0.7, choice": Row(
        rp.GumbelSoftmax(0.7, hard=True), one_hot, (THREE,), steep, {"gradient": (over_choice(steep, THREE, gumbel(0.7)),), "n": 2}
    ),
    "GumbelSoftmax, hard, probs": Row(
        rp.GumbelSoftmax(0.5, hard=True), coin_of, (THETA,), toy, {"gradient": (of_hard_coin(toy, PHI, 0.5)["gradient"][0] / W,)}
    ),
    "GumbelRao 0.5, coin": Row(rp.GumbelRao(0.5, k=1), coin, (PHI,), toy, of_hard_coin(toy, PHI, 0.5)),
    "GumbelRao 0.5, coin, k = 10": Row(rp.GumbelRao(0.5, k=10), coin, (PHI,), toy, of_hard_coin(toy, PHI, 0.5, 10)),
    "GumbelRao 0.7, choice": Row(
        rp.GumbelRao(0.7, k=5), one_hot, (THREE,), steep, {"gradient": (over_choice(steep, THREE, gumbel(0.7)),), "n": 2}
    ),
    "GumbelRao 1.0, coins": Row(
        rp.GumbelRao(1.0, k=3),
        coins,
        (COINS,),
        interaction,
        {"gradient": (over_coins(interaction, COINS, gumbel_coin(1.0)),), "n": 2},
    ),
    "GumbelRao 1.0, choices": Row(
        rp.GumbelRao(1.0, k=2), one_hots, (CHOICES,), table, {"gradient": (over_choices(table, CHOICES, gumbel(1.0)),), "n": 2}
    ),
    "StraightThrough, coin": Row(
        rp.StraightThrough(),
        coin,
        (PHI,),
        toy,
        {"gradient": (W * (THETA * SLOPES[1] + (1 - THETA) * SLOPES[0]),), "variance": (W**3 * (SLOPES[1] - SLOPES[0]) ** 2,)},
    ),
    "StraightThrough, probs": Row(
        rp.StraightThrough(), coin_of, (THETA,), wavy, {"gradient": (THETA * WAVY[1] + (1 - THETA) * WAVY[0],), "n": 3}
    ),
    "StraightThrough, coins": Row(
        rp.StraightThrough(),
        coins,
        (COINS,),
        interaction,
        {"gradient": (over_coins(interaction, COINS, euler_coin),), "n": 2},
    ),
    "StraightThrough, choices": Row(
        rp.StraightThrough(), one_hots, (CHOICES,), table, {"gradient": (over_choices(table, CHOICES, euler),), "n": 2}
    ),
    "ReinMax, coin": Row(rp.ReinMax(), coin, (PHI,), toy, {"gradient": (W * DELTA,), "variance": (HEUN_VARIANCE,)}),
    "ReinMax, coins of a batch": Row(rp.ReinMax(), coin, (BATCH,), toy, {"gradient": truth(coin, BATCH, toy)}),
    "ReinMax, coin, no quadratic": Row(rp.ReinMax(), coin, (PHI,), wavy, {"gradient": (W * sum(WAVY) / 2,)}),
    "ReinMax, coins": Row(rp.ReinMax(), coins, (COINS,), interaction, {"gradient": truth(coins, COINS, interaction), "n": 2}),
    "ReinMax, choice": Row(
        rp.ReinMax(), one_hot, (CHOICE,), price_of_one_hot, {"gradient": truth(one_hot, CHOICE, price_of_one_hot)}
    ),
    "ReinMax, choices": Row(rp.ReinMax(), one_hots, (CHOICES,), table, {"gradient": truth(one_hots, CHOICES, table), "n": 4}),
    "ReinMax 2.0, choice, no quadratic": Row(
        rp.ReinMax(2.0),
        one_hot,
        (THREE,),
        steep,
        {"gradient": (over_choice(steep, THREE, heun(2.0)),), "n": 2},
    ),
    "ReinMax, probs": Row(rp.ReinMax(), one_hot_of, (CHANCES,), square, {"gradient": truth(one_hot_of, CHANCES, square), "n": 2}),
}
