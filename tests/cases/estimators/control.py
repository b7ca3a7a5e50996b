"""Control variates: REBAR, RELAX, LAX, MuProp."""

import torch
from torch.distributions import Bernoulli, Normal, OneHotCategorical

import reparam as rp
from cases.estimators.row import (
    CHOICE,
    CHOICES,
    COINS,
    PHI,
    THETA,
    Row,
    W,
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


def weighed_coin(probs):
    return Bernoulli(probs)


def weighed_one_hot(weights):
    return OneHotCategorical(weights)


def bent(s):
    """A surrogate for coins, of one element each."""
    return 0.2 * s**2 - 0.1 * s.sin() + 0.1


def bent_event(s):
    """One for vectors."""
    return 0.7 * (s.sum(-1) - 1.0) ** 2 - 0.3 * s[..., 0]


def bent_events(s):
    return bent_event(s).sum(-1)


# The variance of the score function with a constant c for a baseline: REBAR's of a cost that is c between the values.
F0, F1 = toy(0.0), toy(1.0)
SCORE = W * ((1 - THETA) * F1 + THETA * F0) ** 2
C = 0.2
CONSTANT = W * ((1 - THETA) * (F1 - C) + THETA * (F0 - C)) ** 2


def flat(z):
    """The toy at its values, constant between."""
    return torch.where((z == 0) | (z == 1), toy(z), C + 0 * z)


def constant(s):
    return torch.full_like(s, C)


LOC, SCALE = 0.4, 1.3


def normal(loc, scale):
    return Normal(loc, scale)


def quadratic(x):
    return (x + 0.3) ** 2


def expected_quadratic(loc, scale):
    return (loc + 0.3) ** 2 + scale**2


def step(x):
    return (x > 1.0).to(x.dtype)


def expected_step(loc, scale):
    return torch.special.ndtr((loc - 1.0) / scale)


def ramp(x):
    return torch.sigmoid(3 * (x - 1.0))


SECOND = {"second": True}
D = LOC + 0.3
ROWS = {
    "REBAR, coin": Row(rp.REBAR(0.5), coin, (PHI,), toy, {"n": 1, "detects": 0.01, **SECOND}),
    "REBAR, coin, scale 0": Row(rp.REBAR(0.5, 0.0), coin, (PHI,), toy, {"variance": (SCORE,), "detects": 0.01, **SECOND}),
    "REBAR, coin, constant between": Row(rp.REBAR(0.5), coin, (PHI,), flat, {"variance": (CONSTANT,), "detects": 0.01, **SECOND}),
    "REBAR, coins": Row(rp.REBAR(0.3, 0.9), coins, (COINS,), interaction, {"n": 2, **SECOND}),
    "REBAR, coin of a probability": Row(rp.REBAR(0.5), weighed_coin, (THETA,), toy, {"n": 2, "detects": 0.03, "second": None}),
    "REBAR, batch": Row(rp.REBAR(0.5), coin, ((PHI, -0.5, 2.0),), toy, {"n": 2, "detects": 0.02, **SECOND}),
    "REBAR, one-hot": Row(rp.REBAR(0.5), one_hot, (CHOICE,), price_of_one_hot, {"n": 2, **SECOND}),
    "REBAR, one-hot of a weight": Row(rp.REBAR(1.0), weighed_one_hot, ((1.0, 2.0, 3.5),), interaction, {"n": 2, **SECOND}),
    "REBAR, several one-hot": Row(rp.REBAR(0.5), one_hots, (CHOICES,), table, {"n": 4, "detects": 0.2, "second": None}),
    "RELAX, coin": Row(rp.RELAX(bent), coin, (PHI,), toy, {"n": 1, "detects": 0.01, **SECOND}),
    "RELAX, coin, constant": Row(rp.RELAX(constant), coin, (PHI,), toy, {"variance": (CONSTANT,), "detects": 0.01, **SECOND}),
    "RELAX, coins": Row(rp.RELAX(bent_event, 0.3), coins, (COINS,), interaction, {"n": 2, **SECOND}),
    "RELAX, coins, and the cost": Row(rp.RELAX(bent_event, 0.3, 0.8), coins, (COINS,), interaction, {"n": 2, **SECOND}),
    "RELAX, batch": Row(rp.RELAX(bent), coin, ((PHI, -0.5, 2.0),), toy, {"n": 2, "detects": 0.02, **SECOND}),
    "RELAX, indices": Row(rp.RELAX(bent_event), choice, (CHOICE,), price, {"n": 2, **SECOND}),
    "RELAX, one-hot": Row(rp.RELAX(bent_event), one_hot, (CHOICE,), price_of_one_hot, {"n": 2, **SECOND}),
    "RELAX, several one-hot": Row(rp.RELAX(bent_events), one_hots, (CHOICES,), table, {"n": 4, "detects": 0.2, "second": None}),
    "LAX, step": Row(rp.LAX(ramp), normal, (LOC, SCALE), step, {"n": 1, "exact": expected_step, **SECOND}),
    "LAX, the cost itself": Row(
        rp.LAX(quadratic),
        normal,
        (LOC, SCALE),
        quadratic,
        {"n": 1, "exact": expected_quadratic, "variance": (4 * SCALE**2, 4 * D**2 + 8 * SCALE**2), "second": None},
    ),
    "MuProp, coin": Row(rp.MuProp(), coin, (PHI,), toy, {"n": 1, "detects": 0.01, **SECOND}),
    "MuProp, coins": Row(rp.MuProp(), coins, (COINS,), interaction, {"n": 2, **SECOND}),
    "MuProp, coin of a probability": Row(rp.MuProp(), weighed_coin, (THETA,), toy, {"n": 2, "detects": 0.03, "second": None}),
    "MuProp, batch": Row(rp.MuProp(), coin, ((PHI, -0.5, 2.0),), toy, {"n": 2, "detects": 0.02, **SECOND}),
    "MuProp, one-hot": Row(rp.MuProp(), one_hot, (CHOICE,), price_of_one_hot, {"n": 2, **SECOND}),
    "MuProp, several one-hot": Row(rp.MuProp(), one_hots, (CHOICES,), table, {"n": 4, "detects": 0.2, "second": None}),
}
