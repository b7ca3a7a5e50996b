"""Bayesian networks: the law of what they give, by each method, and the bound that they are trained by."""

import copy

import pytest
import torch
from torch import nn
from torch.distributions import Normal
from torch.nn import functional as F

from reparam.nn import bayesianize
from reparam.stats import mean_test

METHODS = ("local", "flipout", "weights")


@pytest.mark.parametrize("method", METHODS)
def test_mean_and_variance_of_a_linear_layer(method):
    layer = nn.Linear(3, 2, dtype=torch.float64)
    net = bayesianize(layer, num_data=10, method=method, scale=0.5)
    x = torch.randn(4, 3, dtype=torch.float64)
    with torch.no_grad():
        y = torch.stack([net(x) for _ in range(4000)])
        q = net.posterior()
        mean, variance = net.module(x), F.linear(x**2, q["weight"].variance, q["bias"].variance)
    # Catches errors of 0.2 standard deviations in the mean and of 0.3 in the variance, relative; 16 tests.
    for z in ((y - mean) / variance.sqrt()).flatten(1).T:
        assert (v := mean_test(z, 0.0, alpha=1e-10)), v
        assert (v := mean_test(z**2, 1.0, alpha=1e-10)), v


def test_bound_per_datum():
    net = bayesianize(nn.Linear(2, 1), num_data=50)
    log_likelihood = Normal(net(torch.randn(7, 2)), 1.0).log_prob(torch.randn(7, 1)).sum(-1)
    torch.testing.assert_close(net.elbo(log_likelihood), log_likelihood.mean() - net.kl() / 50)
    for wrong in (log_likelihood.sum(), log_likelihood[:, None], torch.randn(51), torch.empty(0)):
        with pytest.raises(ValueError):
            net.elbo(wrong)


def test_copies_are_of_their_own():
    net = bayesianize(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)), num_data=10)
    x = torch.randn(5, 3)
    net(x)
    other = copy.deepcopy(net)
    with torch.no_grad():
        for p in other.log_scale.parameters():
            p.fill_(-30.0)
    torch.testing.assert_close(other(x), net.module(x))
    assert not torch.allclose(net(x), net.module(x))
