"""Measure-valued derivatives."""

import math

import torch
from torch.distributions import (
    Bernoulli,
    Categorical,
    Exponential,
    Gamma,
    Independent,
    Laplace,
    Normal,
    Uniform,
    Weibull,
)

import reparam as rp
from cases.estimators.row import (
    CHOICE,
    CHOICES,
    COINS,
    PHI,
    Row,
    choice,
    coin,
    coins,
    interaction,
    one_hot,
    one_hots,
    price,
    price_of_one_hot,
    table,
    toy,
)

MU, SIGMA, K = 0.7, 1.3, 1.2
SHIFT = MU - K


def square(x):
    return (x - K) ** 2


def step(x):
    return (x > K).double()


def logarithm(x):
    return x.log()


def exact_gamma_step(a):
    """P(X > K) of Gamma(a, 2), by a sum of density over a grid of log x, differentiable in a."""
    y = torch.linspace(math.log(K), 5.0, 20_001, dtype=torch.float64).reshape(-1, *(1,) * a.dim())
    density = torch.exp(a * (y + math.log(2)) - 2 * y.exp() - torch.lgamma(a))
    return torch.trapezoid(density, y, dim=0)


def normals(loc, scale):
    return Independent(Normal(loc, scale), 1)


def corner(x):
    """One where both components are beyond K, and an interaction."""
    return (x > K).all(-1).double() + x[..., 0] ** 2 * x[..., 1]


def exact_corner(loc, scale):
    tails = torch.special.ndtr((loc - K) / scale)
    return tails.prod(-1) + (loc[..., 0] ** 2 + scale[..., 0] ** 2) * loc[..., 1]


ROWS = {
    "MeasureValued, Normal": Row(
        rp.MeasureValued(),
        Normal,
        (MU, SIGMA),
        square,
        {
            "exact": lambda loc, scale: (loc - K) ** 2 + scale**2,
            "variance": (SHIFT**2 * (16 / math.pi - 4), 4 * SHIFT**2 + 4 * SIGMA**2),
            "draws": 400_000,
        },
    ),
    "MeasureValued, Normal, parts apart": Row(
        rp.MeasureValued(coupled=False),
        Normal,
        (MU, SIGMA),
        square,
        {
            "exact": lambda loc, scale: (loc - K) ** 2 + scale**2,
            "variance": (SHIFT**2 * (8 / math.pi - 2) + 4 * SIGMA**2 / math.pi, 16 * SHIFT**2 + 8 * SIGMA**2),
            "draws": 400_000,
        },
    ),
    "MeasureValued, Normal, step": Row(
        rp.MeasureValued(),
        Normal,
        ((MU, -2.0), (SIGMA, 2.5)),
        step,
        {"exact": lambda loc, scale: torch.special.ndtr((loc - K) / scale), "n": 2, "detects": 0.03},
    ),
    "MeasureValued, Normals": Row(
        rp.MeasureValued(), normals, ((0.5, 1.0), (0.8, 1.5)), corner, {"exact": exact_corner, "n": 2, "detects": 0.1}
    ),
    "MeasureValued, Laplace": Row(
        rp.MeasureValued(),
        Laplace,
        (MU, SIGMA),
        lambda x: square(x) + 3 * step(x),
        {"exact": lambda loc, scale: (loc - K) ** 2 + 2 * scale**2 + 1.5 * torch.exp((loc - K) / scale)},
    ),
    "MeasureValued, Exponential": Row(
        rp.MeasureValued(), Exponential, ((0.5, 2.0),), step, {"exact": lambda rate: torch.exp(-rate * K), "detects": 0.05}
    ),
    "MeasureValued, Exponential, parts apart": Row(
        rp.MeasureValued(coupled=False), Exponential, (2.0,), step, {"exact": lambda rate: torch.exp(-rate * K), "detects": 0.05}
    ),
    "MeasureValued, Gamma": Row(
        rp.MeasureValued(),
        lambda rate: Gamma(2.5, rate),
        (1.5,),
        lambda x: x**2,
        {"exact": lambda rate: 2.5 * 3.5 / rate**2},
    ),
    "MeasureValued, Gamma, concentration": Row(
        rp.MeasureValued(),
        Gamma,
        (1.3, 1.5),
        logarithm,
        {"exact": lambda a, rate: torch.digamma(a) - rate.log(), "draws": 8_000, "detects": 0.2},
    ),
    "MeasureValued, Gamma, concentration, parts apart": Row(
        rp.MeasureValued(coupled=False),
        lambda a: Gamma(a, torch.full_like(a, 2.0)),
        (1.0,),
        step,
        {"exact": exact_gamma_step, "draws": 8_000},
    ),
    "MeasureValued, Weibull": Row(
        rp.MeasureValued(),
        lambda scale: Weibull(scale, torch.full_like(scale, 1.7)),
        (0.9,),
        step,
        {"exact": lambda scale: torch.exp(-((K / scale) ** 1.7)), "detects": 0.05},
    ),
    "MeasureValued, Uniform": Row(
        rp.MeasureValued(), Uniform, (-0.5, 2.0), step, {"exact": lambda low, high: (high - K) / (high - low), "detects": 0.03}
    ),
    "MeasureValued, coin": Row(rp.MeasureValued(), coin, (PHI,), toy, {"variance": (0.0,)}),
    "MeasureValued, coin of probs": Row(rp.MeasureValued(), Bernoulli, ((0.0, 0.3, 1.0),), toy, {"variance": (0.0,)}),
    "MeasureValued, coins": Row(rp.MeasureValued(), coins, (COINS,), interaction, {"n": 2}),
    "MeasureValued, coins, batch": Row(rp.MeasureValued(), coins, ((COINS, (0.1, 2.0, -2.0)),), interaction),
    "MeasureValued, choice": Row(rp.MeasureValued(), choice, (CHOICE,), price, {"variance": (0.0,)}),
    "MeasureValued, choice of probs": Row(rp.MeasureValued(), Categorical, ((0.5, 0.0, 0.2, 0.3),), price, {"variance": (0.0,)}),
    "MeasureValued, one-hot": Row(rp.MeasureValued(), one_hot, (CHOICE,), price_of_one_hot, {"variance": (0.0,)}),
    "MeasureValued, one-hots": Row(rp.MeasureValued(), one_hots, (CHOICES,), table, {"n": 2}),
}
