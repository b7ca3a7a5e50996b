"""Laws of integers: stochastic triples, and the same differences for every component in turn."""

import torch
from torch.distributions import Bernoulli, Binomial, Geometric, Independent, NegativeBinomial, Poisson

import reparam as rp
from cases.estimators.row import CHOICE, CHOICES, COINS, PHI, Row, choice, coin, coins, interaction, one_hots, price, table, toy

CENTRE = 2.5
LONG = torch.arange(400, dtype=torch.float64)


def square(z):
    return (z - CENTRE) ** 2


def step(z):
    return (z > CENTRE).double()


def wave(z):
    return torch.cos(1.3 * z) + step(z)


def summed(make, f):
    """E[f] by a sum over the first integers, for parameters of a batch: all that there are to rounding."""

    def exact(*parameters):
        q = make(*(p.unsqueeze(0) for p in parameters))
        z = LONG.reshape(-1, *(1,) * parameters[0].dim())
        return (q.log_prob(z).exp() * f(z)).sum(0)

    return exact


def row(make, parameters, f, exact=None, estimator=None, **known):
    return Row(
        estimator or rp.StochasticTriple(), make, parameters, f, {"exact": exact or summed(make, f), "draws": 50_000, **known}
    )


def binomial(probs):
    return Binomial(5, probs)


def binomial_of_logits(logits):
    return Binomial(5, logits=logits)


def binomial_sum(make, f):
    def exact(parameter):
        q = make(parameter.unsqueeze(0))
        z = torch.arange(6, dtype=torch.float64).reshape(-1, *(1,) * parameter.dim())
        return (q.log_prob(z).exp() * f(z)).sum(0)

    return exact


def geometric_of_logits(logits):
    return Geometric(logits=logits)


def negative(total_count, probs):
    return NegativeBinomial(total_count, probs)


def negative_of_logits(total_count, logits):
    return NegativeBinomial(total_count, logits=logits)


def poissons(rate):
    return Independent(Poisson(rate), 1)


def pair(z):
    """An interaction of two counts."""
    return z[..., 0] * z[..., 1] + (z.sum(-1) > 4).double()


def exact_pair(rate):
    return rate.prod(-1) + torch.special.gammainc(torch.tensor(5.0, dtype=torch.float64), rate.detach().sum(-1)) + _tail(rate)


def _tail(rate):
    """Zero, with the gradient of P(sum > 4): the sum is Poisson too."""
    total = rate.sum(-1)
    slope = torch.exp(Poisson(total.detach()).log_prob(torch.tensor(4.0, dtype=torch.float64)))
    return slope * (total - total.detach())


def dearest(z):
    """Of the first of two binomial counts and the second."""
    return torch.maximum(z[..., 0], z[..., 1]) ** 2


def binomials(probs):
    return Independent(Binomial(3, probs), 1)


def exact_dearest(probs):
    k = torch.arange(4, dtype=torch.float64)
    p = Binomial(3, probs.unsqueeze(-1)).log_prob(k).exp()
    joint = p[..., 0, :].unsqueeze(-1) * p[..., 1, :].unsqueeze(-2)
    return (joint * torch.maximum(k.unsqueeze(-1), k) ** 2).sum((-2, -1))


RATE, P, COUNT = 3.0, 0.4, 2.5
SHORT, EVERY, FULL = rp.StochasticTriple(slices=False), rp.StochasticTriple(every=True), rp.MeasureValued()

ROWS = {
    "StochasticTriple, Poisson": row(Poisson, ((0.4, RATE, 9.0),), square),
    "StochasticTriple, Poisson, step": row(Poisson, ((0.4, RATE, 9.0),), step),
    "StochasticTriple, Poisson, large": row(
        Poisson, (1e4,), lambda z: (z - 1e4) ** 2 / 1e4, lambda rate: (rate + (rate - 1e4) ** 2) / 1e4
    ),
    "StochasticTriple, Poissons": row(poissons, ((0.7, 1.9),), pair, exact_pair, n=2),
    "StochasticTriple, Poissons, every": row(poissons, ((0.7, 1.9),), pair, exact_pair, EVERY),
    "StochasticTriple, Binomial": row(binomial, ((0.3, 0.9),), wave, binomial_sum(binomial, wave)),
    "StochasticTriple, Binomial of logits": row(
        binomial_of_logits, ((-2.0, 0.5),), square, binomial_sum(binomial_of_logits, square)
    ),
    "StochasticTriple, Binomials": row(binomials, ((0.2, 0.7),), dearest, exact_dearest),
    "StochasticTriple, Geometric": row(Geometric, ((0.3, P, 0.9),), step),
    "StochasticTriple, Geometric of logits": row(geometric_of_logits, ((-1.0, 0.5),), wave),
    "StochasticTriple, NegativeBinomial": row(negative, (COUNT, P), square, draws=200_000),
    "StochasticTriple, NegativeBinomial of logits": row(negative_of_logits, ((COUNT, 0.3), (-0.4, 0.8)), wave),
    "StochasticTriple, coin": Row(rp.StochasticTriple(), coin, (PHI,), toy, {"variance": (0.0,)}),
    "StochasticTriple, coins": Row(rp.StochasticTriple(), coins, (COINS,), interaction, {"n": 2}),
    "StochasticTriple, coins of probs": Row(
        rp.StochasticTriple(), lambda p: Independent(Bernoulli(p), 1), ((0.0, 0.3, 1.0),), interaction, {"n": 2}
    ),
    "StochasticTriple, choice": Row(rp.StochasticTriple(), choice, (CHOICE,), price, {"variance": (0.0,)}),
    "StochasticTriple, one-hots": Row(rp.StochasticTriple(), one_hots, (CHOICES,), table),
    "StochasticTriple, Poisson, no slices": row(Poisson, (RATE,), square, estimator=SHORT, draws=400_000, variance=(4 * RATE,)),
    "StochasticTriple, Binomial, no slices": row(
        binomial, (P,), square, binomial_sum(binomial, square), SHORT, draws=400_000, variance=(25 * 4 * 4 * P * (1 - P),)
    ),
    "MeasureValued, Poissons": row(poissons, ((0.7, 1.9),), pair, exact_pair, FULL, draws=200_000),
    "MeasureValued, Binomials": row(binomials, ((0.2, 0.7),), dearest, exact_dearest, FULL, draws=200_000),
    "MeasureValued, Geometric": row(Geometric, ((0.2, P, 0.9),), wave, estimator=FULL, draws=400_000, n=2),
    "MeasureValued, Geometric of logits": row(geometric_of_logits, ((-1.0, 0.5),), square, estimator=FULL, draws=400_000),
    "MeasureValued, NegativeBinomial": row(negative, (COUNT, P), wave, estimator=FULL, draws=400_000),
    "MeasureValued, NegativeBinomial of logits": row(
        negative_of_logits, ((COUNT, 0.3), (-0.4, 0.8)), wave, estimator=FULL, draws=400_000
    ),
}
