"""Coupled laws: the right marginals, the right coupling, whichever way the marginals' own paths run, and far out."""

import math

import mpmath as mp
import pytest
import torch
import torch.distributions as td

import reparam as rp
from reparam.distributions.gaussian_copula import GaussianCopula
from reparam.stats import law_tests

RHO = 0.7


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def pair(rho=RHO):
    return torch.tensor([[1.0, rho], [rho, 1.0]], dtype=torch.float64)


# A path that rises, two that fall with their noise (Gumbel, a negative scale), one on normal and one on uniform noise.
MARGINALS = [
    td.Exponential(torch.tensor(2.0, dtype=torch.float64)),
    td.Gumbel(torch.tensor(0.5, dtype=torch.float64), 2.0),
    td.TransformedDistribution(td.Laplace(torch.tensor(0.0, dtype=torch.float64), 1.0), [td.AffineTransform(1.0, -3.0)]),
    td.Normal(torch.tensor(-1.0, dtype=torch.float64), 3.0),
    td.Uniform(torch.tensor(-1.0, dtype=torch.float64), 3.0),
]


@pytest.mark.parametrize("i", range(5))
def test_each_component_follows_its_marginal_and_rises_with_the_others(i):
    d = GaussianCopula(MARGINALS, torch.full((5, 5), RHO, dtype=torch.float64).fill_diagonal_(1.0))
    x = rp.rsample(d, (100_000,), source=rp.Fresh(torch.Generator().manual_seed(0)))
    u = MARGINALS[i].cdf(x[:, i])
    for verdict in law_tests(u):
        assert verdict, verdict
    # Of normal scores whose correlation is rho: a standard error of (1 - rho^2) / sqrt(n) = 0.0016.
    z = torch.special.ndtri(torch.stack([u, MARGINALS[i - 1].cdf(x[:, i - 1])]).clamp(1e-15, 1 - 1e-15))
    assert abs(float(torch.corrcoef(z)[0, 1]) - RHO) < 6.1 * 0.0016


def test_normal_marginals_make_a_multivariate_normal():
    loc, scale = double(0.3, -1.0, 2.0), double(1.0, 0.2, 3.0)
    correlation = double(1.0, 0.5, -0.3, 0.5, 1.0, 0.2, -0.3, 0.2, 1.0).reshape(3, 3)
    d = GaussianCopula(td.Normal(loc, scale), correlation)
    truth = td.MultivariateNormal(loc, correlation * scale * scale[:, None])
    eps = torch.randn(100, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = rp.path(d).push(eps)
    assert torch.allclose(x, rp.path(truth).push(eps), rtol=1e-12, atol=1e-13)
    assert torch.allclose(d.log_prob(x), truth.log_prob(x), rtol=1e-10)
    assert torch.allclose(d.entropy(), truth.entropy())
    assert torch.equal(d.mean, loc)
    assert torch.allclose(d.variance, truth.variance)
    far = loc + scale * double(35.0, -40.0, 60.0)
    assert torch.allclose(d.log_prob(far), truth.log_prob(far), rtol=1e-12)


def test_density_integrates_to_one_and_gives_the_entropy():
    d = GaussianCopula([td.Gumbel(double(0.0)[0], 1.0), td.Uniform(double(0.0)[0], 2.0)], pair(0.5))

    # Both components from the quantiles of normal values, on a grid: the integrand is smooth and dies at its ends.
    z = torch.linspace(-8.0, 8.0, 401, dtype=torch.float64)
    weight = (z[1] - z[0]) ** 2
    x = td.Gumbel(double(0.0)[0], 1.0).icdf(torch.special.ndtr(z))
    y = 2 * torch.special.ndtr(z)
    normal = torch.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    grid = torch.stack(torch.meshgrid(x, y, indexing="ij"), -1)
    inside = (x > -3.6)[:, None] & (y < 2)  # where the exact ranks that the grid is made of have not been rounded away
    log_p = d.log_prob(torch.where(inside[..., None], grid, double(0.0, 1.0)))
    slopes = (normal / torch.exp(-x - torch.exp(-x)))[:, None] * (normal * 2)
    density = torch.where(inside, torch.exp(log_p) * slopes * weight, 0.0)
    assert abs(float(density.sum()) - 1) < 1e-6
    assert abs(float((-density * log_p).sum() - d.entropy())) < 1e-5


def test_density_far_out():
    """In both tails of both components, beyond where distribution functions round to one, against 60 digits."""
    rate, scale = 2.0, 1.5
    d = GaussianCopula([td.Exponential(double(rate)[0]), td.Laplace(double(0.0)[0], scale)], pair())
    for x, y in ((1e-12, -60.0), (300.0, 400.0), (300.0, -400.0), (1e-200, 1e3), (0.3, 0.1)):
        with mp.workdps(400):
            above = mp.exp(-mp.mpf(rate) * x)
            below = mp.exp(-abs(mp.mpf(y)) / scale) / 2

            def normal(tail):
                """The z with P(Z > z) = tail <= 1/2, by Newton's method on the logarithm."""
                z = mp.sqrt(-2 * mp.log(tail))
                for _ in range(12):
                    there = mp.erfc(z / mp.sqrt(2)) / 2
                    z += there / mp.npdf(z) * mp.log(there / tail)
                return z

            z = normal(above) if above < 0.5 else -normal(1 - above)
            w = normal(below) if y > 0 else -normal(below)
            r = mp.mpf(RHO)
            coupling = -mp.log(1 - r * r) / 2 - (r * r * (z * z + w * w) - 2 * r * z * w) / (2 * (1 - r * r))
            exact = coupling + mp.log(rate) - rate * mp.mpf(x) - abs(mp.mpf(y)) / scale - mp.log(2 * scale)
        assert abs(float(d.log_prob(double(x, y))) / float(exact) - 1) < 1e-11


def test_samples_far_out():
    d = GaussianCopula(td.Exponential(torch.ones(2)), torch.eye(2))
    x = rp.path(d).push(torch.tensor([-9.0, 12.0]))
    assert torch.allclose(x, torch.tensor([1.12859e-19, 75.4107]), rtol=1e-5)
    assert torch.allclose(rp.path(d).pull(x), torch.tensor([-9.0, 12.0]))


def test_gradients_in_the_correlation_and_the_marginals():
    rho = torch.tensor(0.6, dtype=torch.float64, requires_grad=True)
    parameters = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (2.0, 0.5, 1.5, -1.0, 1.0)]
    eps = double(0.3, -1.2, 2.0, 4.0, -3.0, 0.1).reshape(3, 2)

    def make(rho, rate, m, s, low, high):
        one = torch.ones_like(rho)
        correlation = torch.stack([torch.stack([one, rho]), torch.stack([rho, one])])
        return GaussianCopula([td.Gumbel(m, s), td.Exponential(rate)], correlation), low, high

    def push(*parameters):
        return rp.path(make(*parameters)[0]).push(eps)

    x = push(rho, *parameters).detach()
    every = (rho, *parameters[:3], *parameters[3:])
    assert torch.autograd.gradcheck(lambda *p: push(*p, *every[4:]), every[:4])
    assert torch.autograd.gradcheck(lambda *p: make(*p, *every[4:])[0].log_prob(x), every[:4])


def test_shapes():
    d = GaussianCopula(td.Gumbel(torch.zeros(4, 3), 1.0), torch.eye(3))
    assert (d.batch_shape, d.event_shape) == ((4,), (3,))
    assert d.rsample((5,)).shape == (5, 4, 3)
    wide = d.expand((2, 4))
    assert wide.log_prob(wide.sample((5,))).shape == (5, 2, 4)
    assert torch.equal(wide.correlation[1, 3], torch.eye(3))
    several = GaussianCopula([td.Normal(torch.zeros(4), 1.0), td.Exponential(1.0)], torch.eye(2))
    assert (several.batch_shape, several.event_shape) == ((4,), (2,))
    assert several.expand((3, 4)).sample().shape == several.expand((3, 4)).mean.shape == (3, 4, 2)
    assert several.support.check(several.sample((9,))).all()


def test_bad_correlations_are_refused():
    normal = td.Normal(torch.zeros(2), 1.0)
    with pytest.raises(ValueError, match=r"the diagonal of a correlation is one, this one has 1 to 2; divide a covariance"):
        GaussianCopula(normal, torch.tensor([[1.0, 0.5], [0.5, 2.0]]))
    with pytest.raises(ValueError, match="not symmetric and positive definite"):
        GaussianCopula(normal, torch.tensor([[1.0, 1.5], [1.5, 1.0]]))
    with pytest.raises(ValueError, match="not symmetric and positive definite"):
        GaussianCopula(normal, torch.tensor([[1.0, 0.5], [-0.5, 1.0]]))
    with pytest.raises(ValueError, match="CorrCholesky"):
        GaussianCopula(normal, scale_tril=torch.tensor([[1.0, 0.0], [0.5, 2.0]]))
    with pytest.raises(ValueError, match="one of correlation and scale_tril"):
        GaussianCopula(normal)
    with pytest.raises(ValueError, match=r"the marginals have shape \(2,\).* correlation has shape \(3, 3\)"):
        GaussianCopula(normal, torch.eye(3))
    with pytest.raises(ValueError, match="univariate"):
        GaussianCopula(td.Dirichlet(torch.ones(2)), torch.eye(2))


def test_values_outside_the_support():
    d = GaussianCopula(td.Exponential(torch.ones(2), validate_args=False), torch.eye(2), validate_args=False)
    assert not d.log_prob(torch.tensor([-1.0, 1.0])).isnan()


def test_outside_the_support_a_copula_has_no_density():
    marginals = [td.Gamma(2.0, 1.0, validate_args=False), td.Normal(0.0, 1.0, validate_args=False)]
    d = GaussianCopula(marginals, pair().float(), validate_args=False)
    assert d.log_prob(torch.tensor([[-1.0, 0.0], [1.0, 0.0]])).isneginf().tolist() == [True, False]
