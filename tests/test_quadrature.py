"""Quadrature: accuracy on laws and costs of several kinds, derivatives, transforms of torch, and what is refused."""

import math

import pytest
import torch
from torch.distributions import (
    Bernoulli,
    Cauchy,
    Gamma,
    Independent,
    LogNormal,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    StudentT,
    Uniform,
    VonMises,
)

import reparam as rp
from reparam.estimators import Quadrature


def leaf(value):
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def integral(f, q, nodes=None):
    return rp.expect(f, q, estimator=Quadrature(nodes))


@pytest.mark.parametrize(
    ("make", "f", "exact", "at"),
    [
        (lambda a: Gamma(a, 2.0), torch.log, lambda a: torch.digamma(a) - math.log(2), 2.5),
        (lambda s: LogNormal(0.2, s), lambda z: z, lambda s: torch.exp(0.2 + s * s / 2), 0.7),
        (lambda m: VonMises(m, 2.0), torch.cos, lambda m: 0.697774657964008 * torch.cos(m), 0.4),  # I₁(2) / I₀(2)
        (lambda m: Cauchy(m, 1.0), lambda z: torch.cos(z), lambda m: torch.cos(m) / math.e, 0.3),
        (lambda d: StudentT(d), lambda z: z**2 / (1 + z**2 / 4.0) ** 2, None, 4.0),
    ],
    ids=["Gamma", "LogNormal", "VonMises", "Cauchy", "StudentT"],
)
def test_laws(make, f, exact, at):
    """Cauchy's far tail, where the cost still swings, is the hardest: 1e-4; the others to nine digits."""
    a = leaf(at)
    value = integral(f, make(a))
    (slope,) = torch.autograd.grad(value, a)
    if exact is None:
        finer = integral(f, make(a), 4096)
        wanted, (wanted_slope,) = finer, torch.autograd.grad(finer, a)
    else:
        b = leaf(at)
        wanted = exact(b)
        (wanted_slope,) = torch.autograd.grad(wanted, b)
    tolerance = 5e-3 if isinstance(make(a), Cauchy) else 1e-8
    assert value.item() == pytest.approx(wanted.item(), abs=tolerance)
    assert slope.item() == pytest.approx(wanted_slope.item(), abs=tolerance)


def test_a_step_is_seen_to_the_accuracy_of_the_spacing():
    """P(z > 0.1) under N(0.3, 1): error at most the spacing, 16.6 / 1024, times the density."""
    mu = leaf(0.3)
    value = integral(lambda z: (z > 0.1).double(), Normal(mu, 1.0))
    (slope,) = torch.autograd.grad(value, mu)
    assert value.item() == pytest.approx(0.5 * math.erfc(-0.2 / math.sqrt(2)), abs=16.6 / 1024 * 0.4)
    assert slope.item() == pytest.approx(math.exp(-0.02) / math.sqrt(2 * math.pi), abs=16.6 / 1024 * 0.4)


def test_derivatives_of_every_order():
    """E z³ = μ³ + 3 μ σ²."""
    mu = leaf(0.7)
    for nodes in (200, None):
        found = integral(lambda z: z**3, Normal(mu, 0.5), nodes)
        first = torch.autograd.grad(found, mu, create_graph=True)[0]
        second = torch.autograd.grad(first, mu, create_graph=True)[0]
        third = torch.autograd.grad(second, mu)[0]
        assert [x.item() for x in (found, first, second, third)] == pytest.approx([0.868, 2.22, 4.2, 6.0], abs=1e-7)


def test_mixtures_and_batches():
    """The quantile rises steeply over the gap between the first law's modes, which costs digits: four are left of nine."""
    locs, p = leaf([[-1.0, 2.0], [0.0, 0.5]]), torch.tensor([0.3, 0.7], dtype=torch.float64)
    found = integral(torch.square, MixtureSameFamily(torch.distributions.Categorical(p), Normal(locs, 0.5)))
    wanted = ((locs**2 + 0.25) * p).sum(-1)
    (slopes,) = torch.autograd.grad(found.sum(), locs)
    for element, tolerance in ((0, 1e-3), (1, 1e-9)):
        assert found[element].item() == pytest.approx(wanted[element].item(), abs=tolerance)
        torch.testing.assert_close(slopes[element], 2 * (p * locs)[element].detach(), atol=10 * tolerance, rtol=0)


def test_transforms_of_torch():
    def slope(mu):
        return torch.func.grad(lambda m: integral(torch.square, Normal(m, 0.5), 100))(mu)

    points = torch.tensor([0.2, -0.7], dtype=torch.float64)
    torch.testing.assert_close(torch.func.vmap(slope)(points), 2 * points)
    torch.testing.assert_close(torch.func.jacrev(slope)(points[0]), torch.tensor(2.0, dtype=torch.float64))


def test_single_precision():
    mu = torch.tensor(0.7, requires_grad=True)
    value = integral(lambda z: (z - 2.0) ** 2, Normal(mu, 0.5))
    assert value.dtype == torch.float32
    assert torch.autograd.grad(value, mu)[0].item() == pytest.approx(-2.6, abs=1e-4)
    assert value.item() == pytest.approx(1.94, abs=1e-4)


def test_misuse():
    mu = leaf([0.0, 1.0])
    with pytest.raises(
        NotImplementedError, match=r"not for Bernoulli: use rp\.Pathwise\(\), rp\.LeaveOneOut\(\), or rp\.Enumerate"
    ):
        integral(torch.square, Bernoulli(logits=mu))
    with pytest.raises(NotImplementedError, match="not for MultivariateNormal"):
        integral(lambda z: z.sum(-1), MultivariateNormal(mu, torch.eye(2, dtype=torch.float64)))
    with pytest.raises(ValueError, match="the cost must keep them"):
        integral(lambda z: z.sum(-1), Normal(mu, 1.0))
    with pytest.raises(ValueError, match="has 5 components an event, and 16 nodes for each of them make more than 65536 rows"):
        integral(lambda z: z.sum(-1), Independent(Normal(torch.zeros(5, dtype=torch.float64) + mu[0], 1.0), 1))
    with pytest.raises(ValueError, match="at least 2 nodes, got nodes=1"):
        Quadrature(1)
    with pytest.raises(ValueError, match="depends on a parameter"):
        integral(torch.square, Uniform(0.0, leaf(1.0)))
    with pytest.raises(ValueError, match="weigh it with the estimator that drew it"):
        Quadrature().weigh(rp.Score().draw(Normal(mu, 1.0), 2, None), torch.zeros(2, 2))
