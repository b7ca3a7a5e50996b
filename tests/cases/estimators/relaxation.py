"""Relaxations: biased, each exactly as documented. What the code samples is integrated here over the noise, on a grid."""

from itertools import product

import torch
from torch.distributions import Bernoulli, OneHotCategorical
from torch.func import grad, vmap

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

F64 = torch.float64
THREE = (0.5, -1.0, 0.2)
SLOPES = 2 * (0 - T), 2 * (1 - T)  # of the toy at 0 and 1


def wavy(z):
    """A cost that is no polynomial."""
    return torch.sin(2 * z) + torch.exp(-z)


WAVY = tuple(float(grad(wavy)(torch.tensor(b, dtype=F64))) for b in (0.0, 1.0))


# Coins: the relaxed value is sigmoid((logit + x) / t), x logistic.

X = torch.linspace(-60.0, 60.0, 6001, dtype=F64)
LOGISTIC = torch.sigmoid(X) * torch.sigmoid(-X) * (X[1] - X[0])  # the trapezoidal rule, spectrally accurate for analytic functions


def relaxed_coin(f, t):
    """E[f] under the relaxed law, as a function of the logit."""

    def exact(logit):
        z = torch.sigmoid((logit.unsqueeze(-1) + X) / t)
        return (f(z) * LOGISTIC).sum(-1)

    return exact


def of_relaxed_coin(f, t):
    """Mean value and gradient in the logit, and the variance of the gradient."""
    z = torch.sigmoid((PHI + X) / t)
    slope = vmap(grad(f))(z) * z * (1 - z) / t
    mean = float((slope * LOGISTIC).sum())
    known = {
        "value": float((f(z) * LOGISTIC).sum()),
        "gradient": (mean,),
        "variance": (float((slope**2 * LOGISTIC).sum()) - mean**2,),
    }
    return known | {"exact": relaxed_coin(f, t), "second": True}


def moments_given(b, t):
    """Mean and variance, given a coin's outcome, of the derivative of its relaxed value in the logit."""
    s = torch.linspace(0.0, 60.0, 60001, dtype=F64)  # scores on the side of the outcome, by Simpson's rule
    weight = torch.ones_like(s)
    weight[1:-1:2], weight[2:-1:2] = 4, 2
    side = 2 * b - 1
    density = torch.sigmoid(side * s - PHI) * torch.sigmoid(PHI - side * s) * weight * (s[1] - s[0]) / 3
    density = density / (THETA if b else 1 - THETA)
    z = torch.sigmoid(side * s / t)
    slope = z * (1 - z) / t
    mean = float((slope * density).sum())
    return mean, float((slope**2 * density).sum()) - mean**2


def of_hard_coin(slopes, t, k=1):
    """Mean and variance of a straight-through gradient, averaged over k relaxed values given the outcome."""
    (m0, v0), (m1, v1) = moments_given(0, t), moments_given(1, t)
    mean = THETA * slopes[1] * m1 + (1 - THETA) * slopes[0] * m0
    within = (THETA * slopes[1] ** 2 * v1 + (1 - THETA) * slopes[0] ** 2 * v0) / k
    between = THETA * (1 - THETA) * (slopes[1] * m1 - slopes[0] * m0) ** 2
    return {"gradient": (mean,), "variance": (within + between,)}


# One choice of three: the relaxed value is softmax((logits + Gumbel noise) / t), of which only differences matter.


def relaxed_choice(f, t):
    """E[f] under the relaxed law, as a function of three logits: an integral over two differences of scores to the third."""
    u = torch.linspace(-40.0, 40.0, 401, dtype=F64)
    u = torch.stack(torch.meshgrid(u, u, indexing="ij"), -1).flatten(0, 1)
    scores = torch.cat([u, torch.zeros(len(u), 1, dtype=F64)], -1)
    z = torch.softmax(scores / t, -1)

    def exact(logits):
        # Gumbel variables at the logits: the density of their differences is 2 Π exp(l − s) / (Σ exp(l − s))³, Σ s fixed.
        a = logits - scores
        return (f(z) * (2 * (a.sum(-1) - 3 * a.logsumexp(-1)).exp())).sum() * 0.2**2

    return exact


def of_hard_choice(f, logits, t):
    """The mean of the straight-through gradient: over outcomes, and over how far below the largest score the others are."""
    y = torch.arange(
        -36.0, 4.6, 0.2, dtype=F64
    )  # the logarithm of a difference, for an integrand that is smooth and falls at both ends
    y = torch.stack(torch.meshgrid(y, y, indexing="ij"), -1).flatten(0, 1)
    below = -y.exp()
    total = torch.zeros(3, dtype=F64)
    for i in range(3):
        scores = torch.cat([below[:, :i], torch.zeros(len(y), 1, dtype=F64), below[:, i:]], -1)
        a = logits - scores
        density = (2 * (a.sum(-1) - 3 * a.logsumexp(-1)).exp()) * y.sum(-1).exp() * 0.2**2
        z = torch.softmax(scores / t, -1)
        slope = grad(f)(torch.eye(3, dtype=F64)[i])
        total += (z * (slope - (z * slope).sum(-1, keepdim=True)) / t * density.unsqueeze(-1)).sum(0)
    return total


# Straight-through and ReinMax need no integral: outcomes are enumerated, and Jacobians written out.


def enumerated_coins(f, logits, slope):
    """Σ_z p(z) ∂f/∂z · slope(z, θ)."""
    theta = torch.tensor(logits, dtype=F64).sigmoid()
    total = torch.zeros_like(theta)
    for outcome in product((0.0, 1.0), repeat=len(theta)):
        z = torch.tensor(outcome, dtype=F64)
        total += torch.where(z > 0, theta, 1 - theta).prod() * grad(f)(z) * slope(z, theta)
    return total


def enumerated_choices(f, logits, jacobian):
    """The same for independent choices, rows of `logits`; the slopes times a symmetric Jacobian of outcome and probabilities."""
    p = torch.tensor(logits, dtype=F64).softmax(-1)
    total = torch.zeros_like(p)
    for outcome in product(range(p.shape[-1]), repeat=len(p)):
        z = torch.eye(p.shape[-1], dtype=F64)[list(outcome)]
        chance = (p * z).sum(-1).prod()
        total += chance * torch.stack([jacobian(a, b) @ s for a, b, s in zip(z, p, grad(f)(z), strict=True)])
    return total


def euler(z, p):
    return torch.diag(p) - torch.outer(p, p)


def heun(z, p, t=1.0):
    """As the paper has it: the softmax at half way, taken twice, less half of that at the start."""
    warm = torch.softmax(p.log() / t, -1)
    return 2 * euler(z, (z + warm) / 2) - euler(z, p) / 2


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


def cold(p):
    return Bernoulli(probs=p)


def likely(p):
    return OneHotCategorical(probs=p)


CHANCES = (0.5, 0.2, 0.3)
BATCH = (-1.0, 0.3, 1.2)
three = torch.tensor(THREE, dtype=F64)
soft_price = relaxed_choice(steep, 0.7)
HEUN_VARIANCE = W * (((1 - THETA) * SLOPES[1] - THETA * SLOPES[0]) / 2) ** 2

ROWS = {
    "GumbelSoftmax 0.5, coin": Row(rp.GumbelSoftmax(0.5), coin, (PHI,), toy, of_relaxed_coin(toy, 0.5)),
    "GumbelSoftmax 2.0, coin": Row(rp.GumbelSoftmax(2.0), coin, (PHI,), wavy, of_relaxed_coin(wavy, 2.0)),
    "GumbelSoftmax 0.7, choice": Row(
        rp.GumbelSoftmax(0.7),
        one_hot,
        (THREE,),
        steep,
        {"value": float(soft_price(three)), "gradient": (grad(soft_price)(three),), "exact": soft_price, "second": True},
    ),
    "GumbelSoftmax, hard 0.5, coin": Row(rp.GumbelSoftmax(0.5, hard=True), coin, (PHI,), toy, of_hard_coin(SLOPES, 0.5)),
    "GumbelSoftmax, hard 1.0, coin": Row(rp.GumbelSoftmax(1.0, hard=True), coin, (PHI,), wavy, of_hard_coin(WAVY, 1.0)),
    "GumbelSoftmax, hard 0.7, choice": Row(
        rp.GumbelSoftmax(0.7, hard=True), one_hot, (THREE,), steep, {"gradient": (of_hard_choice(steep, three, 0.7),), "n": 2}
    ),
    "GumbelSoftmax, hard, probs": Row(
        rp.GumbelSoftmax(0.5, hard=True), cold, (THETA,), toy, {"gradient": (of_hard_coin(SLOPES, 0.5)["gradient"][0] / W,)}
    ),
    "GumbelRao 0.5, coin": Row(rp.GumbelRao(0.5, k=1), coin, (PHI,), toy, of_hard_coin(SLOPES, 0.5)),
    "GumbelRao 0.5, coin, k = 10": Row(rp.GumbelRao(0.5, k=10), coin, (PHI,), toy, of_hard_coin(SLOPES, 0.5, 10)),
    "GumbelRao 0.7, choice": Row(
        rp.GumbelRao(0.7, k=5), one_hot, (THREE,), steep, {"gradient": (of_hard_choice(steep, three, 0.7),), "n": 2}
    ),
    "StraightThrough, coin": Row(
        rp.StraightThrough(),
        coin,
        (PHI,),
        toy,
        {"gradient": (W * (THETA * SLOPES[1] + (1 - THETA) * SLOPES[0]),), "variance": (W**3 * (SLOPES[1] - SLOPES[0]) ** 2,)},
    ),
    "StraightThrough, probs": Row(
        rp.StraightThrough(), cold, (THETA,), wavy, {"gradient": (THETA * WAVY[1] + (1 - THETA) * WAVY[0],), "n": 3}
    ),
    "StraightThrough, coins": Row(
        rp.StraightThrough(),
        coins,
        (COINS,),
        interaction,
        {"gradient": (enumerated_coins(interaction, COINS, lambda z, theta: theta * (1 - theta)),), "n": 2},
    ),
    "StraightThrough, choices": Row(
        rp.StraightThrough(), one_hots, (CHOICES,), table, {"gradient": (enumerated_choices(table, CHOICES, euler),), "n": 2}
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
        {"gradient": (enumerated_choices(lambda z: steep(z[0]), (THREE,), lambda z, p: heun(z, p, 2.0))[0],), "n": 2},
    ),
    "ReinMax, probs": Row(rp.ReinMax(), likely, (CHANCES,), square, {"gradient": truth(likely, CHANCES, square), "n": 2}),
}
