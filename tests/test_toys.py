"""Toys of the literature, trained to their optimum by every unbiased estimator.

The toy of REBAR (arXiv:1703.07370) and RELAX (arXiv:1711.00123) is one coin and the cost (b − t)², best at θ = 0 for t < ½.
Polynomial programming (arXiv:2304.08612) is 128 coins and the mean of |bᵢ − t|ᵖ. Nothing here can fail by chance in practice: the
asserted distance to the optimum is many times what is left after training.
"""

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Independent

import reparam as rp


class Curve(nn.Module):
    """What RELAX learns for one coin."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, 10), nn.Tanh(), nn.Linear(10, 1))

    def forward(self, z):
        return self.net(z.unsqueeze(-1)).squeeze(-1)


UNBIASED = {
    "score": rp.Score,
    "score, moving average": lambda: rp.Score(baseline=rp.MovingAverage(0.9)),
    "leave one out": rp.LeaveOneOut,
    "without replacement": rp.WithoutReplacement,
    "sum and sample": lambda: rp.SumAndSample(1),
    "ARM": rp.ARM,
    "DisARM": rp.DisARM,
    "REBAR": lambda: rp.REBAR(0.5, 0.2),
    "RELAX": lambda: rp.RELAX(Curve()),
    "MuProp": rp.MuProp,
    "measure-valued": rp.MeasureValued,
    "stochastic triple": rp.StochasticTriple,
    "enumerate": rp.Enumerate,
}
ROWS = {"without replacement": 2}  # the whole support of one coin


def train(law, cost, estimator, start, steps, rate, n):
    torch.manual_seed(0)  # of what RELAX learns
    w = start.clone().requires_grad_()
    learned = estimator.surrogate.parameters() if isinstance(estimator, rp.RELAX) else ()
    adam = torch.optim.Adam([w, *learned], rate)
    source = rp.Fresh(torch.Generator().manual_seed(0))
    for _ in range(steps):
        adam.zero_grad()
        rp.expect(cost, law(w), estimator=estimator, n=n, source=source).backward()
        adam.step()
    return w.detach()


@pytest.mark.parametrize("name", UNBIASED)
def test_rebar_toy_is_trained_to_its_optimum(name):
    n = ROWS.get(name, 100)
    w = train(lambda w: Bernoulli(logits=w), lambda b: (b - 0.45) ** 2, UNBIASED[name](), torch.zeros(()), 300, 0.1, n)
    assert w.sigmoid() < 0.02


@pytest.mark.parametrize("name", ["leave one out", "ARM", "DisARM", "measure-valued", "enumerate"])
def test_where_the_gain_is_small_those_whose_noise_is_small_with_it_arrive(name):
    """At t = .499 the gradient is 5e-4 at the start; the variance of these scales with its square."""
    w = train(lambda w: Bernoulli(logits=w), lambda b: (b - 0.499) ** 2, UNBIASED[name](), torch.zeros(()), 300, 0.1, 100)
    assert w.sigmoid() < 0.02


@pytest.mark.parametrize("power", [1.5, 2, 3])
@pytest.mark.parametrize("name", ["leave one out", "ARM", "DisARM", "REBAR"])
def test_polynomial_programming_with_128_coins(name, power):
    def cost(z):
        return ((z - 0.45).abs() ** power).mean(-1)

    start = torch.zeros(128)
    w = train(lambda w: Independent(Bernoulli(logits=w), 1), cost, UNBIASED[name](), start, 400, 0.1, 16)
    best, first = 0.45**power, (0.45**power + 0.55**power) / 2
    reached = (best + w.sigmoid() * (0.55**power - 0.45**power)).mean()
    assert reached - best < 0.1 * (first - best)
