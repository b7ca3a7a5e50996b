"""Coupled rows: antithetic pairs and swaps."""

import torch
from torch.distributions import Bernoulli, Categorical

import reparam as rp
from cases.estimators.row import (
    CHOICE,
    CHOICES,
    COINS,
    DELTA,
    PHI,
    THETA,
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

q, m = min(THETA, 1 - THETA), abs(THETA - 0.5)
DISARM = DELTA**2 * q * (1 - q) ** 2 * (0.5 - q)
ARM = DELTA**2 * (2 / 3 * (1 / 8 - m**3) - (1 / 4 - m**2) ** 2)


def weighed_coin(probs):
    return Bernoulli(probs)


def weighed_choice(weights):
    return Categorical(weights)


def choice_of_two(logit):
    return Categorical(logits=torch.stack([torch.zeros_like(logit), logit], -1))


def toy_of_index(z):
    return toy(z.double())


SEVEN = (0.3, -0.4, 1.0, 0.0, -1.2, 0.8, 0.1)


def uneven(z):
    return torch.tensor([1.0, -0.5, 2.0, 0.3, 0.8, -1.0, 0.2], dtype=torch.float64)[z]


ROWS = {
    "DisARM, coin": Row(rp.DisARM(), coin, (PHI,), toy, {"n": 2, "variance": (DISARM,), "detects": 0.01}),
    "DisARM, fair coin": Row(rp.DisARM(), coin, (0.0,), toy, {"n": 2, "variance": (0.0,), "detects": 0.01}),
    "DisARM, coins": Row(rp.DisARM(), coins, (COINS,), interaction, {"n": 4}),
    "DisARM, coin of a probability": Row(rp.DisARM(), weighed_coin, (THETA,), toy, {"n": 4, "detects": 0.01}),
    "DisARM, batch": Row(rp.DisARM(), coin, ((PHI, -0.5, 2.0),), toy, {"n": 2, "detects": 0.01}),
    "DisARM, choice": Row(rp.DisARM(), choice, (CHOICE,), price, {"n": 2}),
    "DisARM, choice of two": Row(
        rp.DisARM(), choice_of_two, (PHI,), toy_of_index, {"n": 2, "variance": (DISARM,), "detects": 0.01}
    ),
    "DisARM, seven choices": Row(rp.DisARM(), choice, (SEVEN,), uneven, {"n": 2}),
    "DisARM, batch of choices": Row(rp.DisARM(), choice, ((CHOICE, CHOICE[::-1]),), price, {"n": 4}),
    "DisARM, choice of a weight": Row(rp.DisARM(), weighed_choice, ((1.0, 2.0, 3.5, 0.5),), price, {"n": 2}),
    "DisARM, one-hot": Row(rp.DisARM(), one_hot, (CHOICE,), price_of_one_hot, {"n": 2}),
    "DisARM, several choices": Row(rp.DisARM(), one_hots, (CHOICES,), table, {"n": 4, "detects": 0.2}),
    "ARM, coin": Row(rp.ARM(), coin, (PHI,), toy, {"n": 2, "variance": (ARM,), "detects": 0.01}),
    "ARM, fair coin": Row(rp.ARM(), coin, (0.0,), toy, {"n": 2, "variance": (DELTA**2 / 48,), "detects": 0.01}),
    "ARM, coins": Row(rp.ARM(), coins, (COINS,), interaction, {"n": 4}),
    "ARM, coin of a probability": Row(rp.ARM(), weighed_coin, (THETA,), toy, {"n": 4, "detects": 0.01}),
    "ARM, batch": Row(rp.ARM(), coin, ((PHI, -0.5, 2.0),), toy, {"n": 2, "detects": 0.01}),
    "ARSM, choice": Row(rp.ARSM(), choice, (CHOICE,), price, {"n": 1}),
    "ARSM, choice of two": Row(rp.ARSM(), choice_of_two, (PHI,), toy_of_index, {"n": 1, "variance": (ARM,), "detects": 0.01}),
    "ARSM, batch of choices": Row(rp.ARSM(), choice, ((CHOICE, CHOICE[::-1]),), price, {"n": 2}),
    "ARSM, choice of a weight": Row(rp.ARSM(), weighed_choice, ((1.0, 2.0, 3.5, 0.5),), price, {"n": 1}),
    "ARSM, one-hot": Row(rp.ARSM(), one_hot, (CHOICE,), price_of_one_hot, {"n": 1}),
    "ARSM, several choices": Row(rp.ARSM(), one_hots, (CHOICES,), table, {"n": 2}),
}
