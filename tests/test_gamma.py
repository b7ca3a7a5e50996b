"""Gamma and its relations: gradients of expectations with closed forms, small shapes, generators, Wishart matrices, densities.

Expectations: |t| < 6.1 (false alarms 1e-9 each), with a standard error of at most 1 % of the truth, so that none passes by noise.
"""

import functools
import math
import warnings

import mpmath as mp
import pytest
import scipy.stats as st
import torch
import torch.distributions as td

import reparam as rp
from reparam.distributions.chi import Chi
from reparam.distributions.generalized_normal import GeneralizedNormal
from reparam.distributions.inverse_wishart import InverseWishart
from reparam.distributions.log_gamma import LogGamma
from reparam.distributions.nakagami import Nakagami
from reparam.paths.gamma import log_gamma_push, log_gamma_sample

N = 100_000
DOUBLE = functools.partial(torch.tensor, dtype=torch.float64)


def fresh(seed=0):
    return rp.Fresh(torch.Generator().manual_seed(seed))


def sobol():
    return rp.Sobol(seed=1)


def assert_mean(values, truth):
    """The mean of independent values, at 6.1 standard errors of at most 1 % of the truth."""
    values = values.detach().double()
    error = float(values.std()) / math.sqrt(len(values))
    assert error <= 0.01 * abs(truth), f"a standard error of {error:g} says nothing about {truth:g}"
    assert abs(float(values.mean()) - truth) <= 6.1 * error, f"{float(values.mean()):g} +- {error:g}, wanted {truth:g}"


def rowwise(make, f, shape, n=N, source=None):
    """Single-draw derivatives of `f` in the shape: each row has a shape of its own."""
    a = torch.full((n,), shape, dtype=torch.float64, requires_grad=True)
    return torch.autograd.grad(f(rp.rsample(make(a), source=source or fresh())).sum(), a)[0]


def expectation_slope(f, shape):
    """d/da E[f(G)], by quadrature in log x."""
    with mp.workdps(20):

        def mean(a):
            density = lambda y: mp.exp(a * y - mp.exp(y) - mp.loggamma(a))  # noqa: E731
            low = mp.mpf(-45) / a
            points = sorted({low, low / 4, low / 16, mp.log(a) - 3, mp.log(a), mp.log(a) + 1, mp.log(a + 40)})
            return mp.quad(lambda y: f(mp.exp(y)) * density(y), points)

        return float(mp.diff(mean, mp.mpf(shape), h=mp.mpf(10) ** -6 * shape))


@pytest.mark.parametrize("shape", [0.3, 1.0, 5.0, 100.0, 1e4])
def test_gradients_of_expectations(shape):
    def make(a):
        return td.Gamma(a, torch.ones_like(a))

    assert_mean(rowwise(make, lambda z: z, shape), 1.0)
    assert_mean(rowwise(make, lambda z: z.square(), shape), 2 * shape + 1)
    assert_mean(rowwise(make, torch.log, shape), float(mp.psi(1, shape)))


@pytest.mark.parametrize("shape", [0.3, 1.0, 5.0])
def test_gradient_of_a_bounded_expectation(shape):
    truth = expectation_slope(lambda x: 1 / (1 + mp.exp(-x)), shape)
    assert_mean(rowwise(lambda a: td.Gamma(a, torch.ones_like(a)), torch.sigmoid, shape), truth)


@pytest.mark.parametrize("shape", [1e-6, 1e-3, 0.01, 0.3, 2.0, 1e5])
def test_small_shapes_keep_their_logarithms(shape):
    """E[log z] = psi(a) and its derivatives, where torch's samples are 42 % the smallest float at 0.01."""

    def make(a):
        return LogGamma(a, torch.ones_like(a))

    z = rp.rsample(make(torch.full((N,), shape, dtype=torch.float64)), source=fresh())
    assert z.isfinite().all()
    assert len(set(z.tolist())) == N  # no atoms
    truth = float(mp.digamma(shape))
    error = math.sqrt(float(mp.psi(1, shape)) / N)
    assert abs(float(z.mean()) - truth) < 6.1 * error
    assert_mean(rowwise(make, lambda y: y, shape), float(mp.psi(1, shape)))
    single = torch.full((N,), shape, requires_grad=True)
    x = rp.rsample(LogGamma(single, torch.ones(N)), source=fresh())
    assert x.dtype == torch.float32
    assert_mean(torch.autograd.grad(x.sum(), single)[0], float(mp.psi(1, shape)))


@pytest.mark.parametrize("shape", [1e-3, 0.3, 5.0, 1e3])
@pytest.mark.parametrize("route", ["push", "sample"])
def test_second_derivatives_of_expectations(shape, route):
    """d2/da2 E[log z] = psi''(a) and d2/da2 E[z^2] = 2, through samples at which every derivative is taken anew."""
    a = torch.full((N,), shape, dtype=torch.float64, requires_grad=True)
    if route == "push":
        y = log_gamma_push(a, rp.Noise(rp.noise.EXPONENTIAL, a.shape, a.dtype).draw(source=fresh()))
    else:
        y = log_gamma_sample(a, torch.Size(), torch.Generator().manual_seed(0))
    costs = [(y, float(mp.psi(2, shape)))]
    if 0.1 < shape < 100:  # at the others, too few samples bear the square
        costs.append(((2 * y).exp(), 2.0))
    for value, truth in costs:
        (first,) = torch.autograd.grad(value.sum(), a, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), a, retain_graph=True)
        assert_mean(second, truth)


def test_hessian_through_a_sampled_expectation():
    a, rate = torch.tensor(2.5, dtype=torch.float64), torch.tensor(1.5, dtype=torch.float64)
    eps = rp.Noise(rp.noise.EXPONENTIAL, torch.Size(), torch.float64).draw(2**14, source=sobol())

    def cost(a, rate):
        return (rp.path(td.Gamma(a, rate)).push(eps) ** 2).mean()

    # E[z^2] = a (a + 1) / rate^2
    hessian = torch.func.hessian(cost, argnums=(0, 1))(a, rate)
    truth = [[2 / rate**2, -2 * (2 * a + 1) / rate**3], [-2 * (2 * a + 1) / rate**3, 6 * a * (a + 1) / rate**4]]
    for row, wanted in zip(hessian, truth, strict=True):
        for found, right in zip(row, wanted, strict=True):
            assert abs(float(found / right) - 1) < 2e-3  # the error of the lattice


def test_values_beyond_the_floats_are_held_there_with_zero_gradient():
    a = torch.full((1000,), 0.01, requires_grad=True)
    x = rp.rsample(td.Gamma(a, 1.0), source=fresh())
    tiny = torch.finfo(torch.float32).tiny
    held = x <= 1.0001 * tiny
    assert 0.3 < held.float().mean() < 0.55  # 42 %
    slopes = torch.autograd.grad(x.log().sum(), a)[0]
    assert (slopes[held] == 0).all()
    assert (slopes[~held] > 0).all()


def test_generators_and_transforms():
    d = td.Gamma(torch.tensor([0.5, 2.0]), torch.tensor([1.0, 2.0]))
    assert torch.equal(rp.rsample(d, (5,), source=fresh()), rp.rsample(d, (5,), source=fresh()))
    state = torch.get_rng_state()
    rp.rsample(d, (5,), source=fresh())
    assert torch.equal(state, torch.get_rng_state())

    def cost(a):
        return rp.rsample(td.Gamma(a, torch.ones_like(a)), (3,)).sum()

    slopes = torch.func.vmap(torch.func.grad(cost), randomness="different")(torch.tensor([1.0, 1.0, 5.0]))
    assert slopes.isfinite().all()
    assert slopes[0] != slopes[1]


def test_distribution_functions():
    """cdf and icdf with derivatives in every parameter, where torch has none."""
    a = torch.tensor(2.5, dtype=torch.float64, requires_grad=True)
    x = torch.tensor([1e-8, 0.5, 30.0], dtype=torch.float64)
    from reparam.paths import cdf, icdf

    p = cdf(td.Gamma(a, torch.tensor(2.0, dtype=torch.float64)), x)
    assert torch.allclose(p.detach(), torch.from_numpy(st.gamma(2.5, scale=0.5).cdf(x.numpy())), rtol=1e-12)
    step = 1e-5
    truth = torch.from_numpy(
        (st.gamma(2.5 + step, scale=0.5).cdf(x.numpy()) - st.gamma(2.5 - step, scale=0.5).cdf(x.numpy())) / 2e-5
    )
    slope = torch.stack([torch.autograd.grad(v, a, retain_graph=True)[0] for v in p])
    assert torch.allclose(slope[:2], truth[:2], rtol=1e-7)
    back = icdf(td.Gamma(a, torch.tensor(2.0, dtype=torch.float64)), p[:2])
    assert torch.allclose(back.detach(), x[:2], rtol=1e-10)


def test_generalized_normal_between_its_named_cases():
    loc, scale = torch.tensor(0.3, dtype=torch.float64), torch.tensor(1.5, dtype=torch.float64)
    eps = rp.Noise(rp.noise.EXPONENTIAL, torch.Size([1000]), torch.float64).draw(source=sobol())
    laplace = rp.path(td.Laplace(loc, scale)).push(eps)
    assert torch.allclose(rp.path(GeneralizedNormal(loc, scale, 1.0)).push(eps), laplace, rtol=1e-11, atol=1e-11)
    normal = 0.3 + 1.5 / math.sqrt(2) * -torch.special.ndtri(torch.exp(-eps))
    assert torch.allclose(rp.path(GeneralizedNormal(loc, scale, 2.0)).push(eps), normal, rtol=1e-9, atol=1e-9)
    power = torch.full((N,), 3.0, dtype=torch.float64, requires_grad=True)
    slopes = torch.autograd.grad(rp.rsample(GeneralizedNormal(0.0, 1.0, power), source=fresh()).square().sum(), power)[0]
    truth = float(mp.diff(lambda p: mp.gamma(3 / p) / mp.gamma(1 / p), 3))
    assert_mean(slopes, truth)


@pytest.mark.parametrize(
    ("d", "truth"),
    [
        (LogGamma(DOUBLE(2.3), DOUBLE(1.7)), st.loggamma(2.3, loc=-math.log(1.7))),
        (LogGamma(DOUBLE(1e-2), DOUBLE(1.7)), st.loggamma(1e-2, loc=-math.log(1.7))),
        (Nakagami(DOUBLE(0.8), DOUBLE(2.0)), st.nakagami(0.8, scale=math.sqrt(2.0))),
        (Nakagami(DOUBLE(40.0), DOUBLE(2.0)), st.nakagami(40.0, scale=math.sqrt(2.0))),
        (Chi(DOUBLE(2.5)), st.chi(2.5)),
        (GeneralizedNormal(DOUBLE(0.3), DOUBLE(1.5), DOUBLE(0.7)), st.gennorm(0.7, 0.3, 1.5)),
        (GeneralizedNormal(DOUBLE(0.3), DOUBLE(1.5), DOUBLE(4.0)), st.gennorm(4.0, 0.3, 1.5)),
    ],
    ids=lambda v: type(v).__name__,
)
def test_densities_and_moments(d, truth):
    x = rp.rsample(d, (50,), source=fresh())
    assert torch.allclose(d.log_prob(x), torch.from_numpy(truth.logpdf(x.numpy())), rtol=1e-9)
    assert abs(float(d.mean) - truth.mean()) < 1e-9 * max(1, abs(truth.mean()))
    assert abs(float(d.variance) / truth.var() - 1) < 1e-7
    assert abs(float(d.entropy()) - float(truth.entropy())) < 1e-6
    around = d.mode + torch.tensor([-1e-3, 1e-3], dtype=torch.float64)
    peak = d.log_prob(d.mode)
    inside = d.support.check(around)
    assert d.support.check(d.mode)
    assert (d.log_prob(torch.where(inside, around, d.mode)) <= peak).all()


@pytest.mark.parametrize(
    ("p", "q"),
    [
        (LogGamma(0.3, 2.0), LogGamma(2.0, 1.0)),
        (Nakagami(0.8, 2.0), Nakagami(2.0, 1.0)),
        (Chi(1.5), Chi(4.0)),
    ],
    ids=lambda d: type(d).__name__,
)
def test_divergences(p, q):
    x = rp.rsample(p, (N,), source=fresh())
    values = (p.log_prob(x) - q.log_prob(x)).double()
    divergence = float(td.kl_divergence(p, q))
    assert abs(float(values.mean()) - divergence) < 6.1 * float(values.std()) / math.sqrt(N)
    assert float(td.kl_divergence(p, p)) == 0


# Wishart matrices

FACTOR = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.8, 0.0], [-0.3, 0.2, 2.0]], dtype=torch.float64)


def test_wishart_samples_have_a_cholesky_factor():
    """Torch's own sampler at these settings returns 29 % that have none."""
    with warnings.catch_warnings(action="ignore"):  # torch warns of low degrees of freedom
        d = td.Wishart(torch.tensor(9.1), torch.eye(10), validate_args=False)
    with warnings.catch_warnings(action="error"):
        for x in (rp.rsample(d, (20_000,), source=fresh()), rp.path(d).push(rp.path(d).noise.draw((2000,), source=fresh()))):
            assert d.support.check(x).all()
            assert d.log_prob(x).isfinite().all()


@pytest.mark.parametrize("df", [2.01, 2.5, 4.0, 50.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_matrices_are_inside_the_support_with_finite_gradients(df, dtype):
    for make in (td.Wishart, InverseWishart):
        df_, factor = torch.tensor(df, dtype=dtype, requires_grad=True), FACTOR.to(dtype, copy=True).requires_grad_()
        with warnings.catch_warnings(action="ignore"):  # torch warns of low degrees of freedom
            d = make(df_, scale_tril=factor)
        x = rp.rsample(d, (20_000,), source=fresh())
        assert d.support.check(x).all()
        slopes = torch.autograd.grad(x.diagonal(dim1=-2, dim2=-1).log().sum(), (df_, factor))
        assert all(s.isfinite().all() for s in slopes)
        assert slopes[0] != 0


def test_wishart_gradients_of_expectations():
    """E[a'Xa] = df a'Sa, and E[log det X] = sum of digammas + p log 2 + log det S."""
    n = 20_000
    df = torch.full((n,), 4.5, dtype=torch.float64, requires_grad=True)
    with warnings.catch_warnings(action="ignore"):
        x = rp.rsample(td.Wishart(df, scale_tril=FACTOR.expand(n, 3, 3)), source=fresh())
    direction = torch.tensor([1.0, -0.5, 0.3], dtype=torch.float64)
    form = torch.einsum("i,nij,j->n", direction, x, direction)
    scale = float(direction @ FACTOR @ FACTOR.mT @ direction)
    assert_mean(torch.autograd.grad(form.sum(), df, retain_graph=True)[0], scale)
    truth = sum(float(mp.psi(1, (4.5 - i) / 2)) / 2 for i in range(3))
    assert_mean(torch.autograd.grad(torch.logdet(x).sum(), df)[0], truth)


def test_inverse_wishart_moments_and_gradients():
    """The diagonal is inverse gamma, log-determinants are those of the inverse, and the density is torch's, changed in variable."""
    n = 20_000
    df = torch.full((n,), 9.5, dtype=torch.float64, requires_grad=True)
    d = InverseWishart(df, scale_tril=FACTOR.expand(n, 3, 3))
    x = rp.rsample(d, source=fresh())
    truth = -sum(float(mp.psi(1, (9.5 - i) / 2)) / 2 for i in range(3))
    assert_mean(torch.autograd.grad(torch.logdet(x).sum(), df)[0], truth)
    scale = FACTOR @ FACTOR.mT
    first = InverseWishart(9.5, scale)
    corner = x[:, 2, 2].detach()
    values = torch.from_numpy(st.invgamma(7.5 / 2, scale=float(scale[2, 2]) / 2).cdf(corner.numpy()))
    assert abs(float(values.mean()) - 0.5) < 6.1 / math.sqrt(12 * n)
    one = InverseWishart(torch.tensor(7.5, dtype=torch.float64), torch.full((1, 1), 2.0, dtype=torch.float64))
    law = td.InverseGamma(one.df / 2, torch.tensor(1.0, dtype=torch.float64))
    at = torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64)
    assert torch.allclose(one.log_prob(at.reshape(-1, 1, 1)), law.log_prob(at))
    assert torch.allclose(one.variance.squeeze(), law.variance)
    assert torch.allclose(one.mean.squeeze(), law.mean)
    with warnings.catch_warnings(action="ignore"):
        wishart = td.Wishart(first.df, precision_matrix=scale)
    some = x[:20].detach()
    change = 4 * torch.logdet(some)  # |d X^-1 / d X| = |X|^-(p + 1)
    assert torch.allclose(first.log_prob(some), wishart.log_prob(torch.linalg.inv(some)) - change)
    assert torch.allclose(first.scale_matrix, scale)
    mean = x.detach().mean(0)
    assert ((mean - first.mean).abs() < 6.1 * (first.variance / n).sqrt()).all()


def test_inverse_wishart_refuses():
    with pytest.raises(ValueError, match=r"df is 1\.5 at least; matrices of size 3 need more than 2"):
        InverseWishart(1.5, torch.eye(3))
    with pytest.raises(ValueError, match="one of scale_matrix and scale_tril"):
        InverseWishart(5.0)
    with pytest.raises(ValueError, match="must end in a square matrix"):
        InverseWishart(5.0, torch.ones(3))


def test_a_matrix_that_is_not_definite_has_no_inverse_wishart_density():
    d = InverseWishart(5.0, torch.eye(2), validate_args=False)
    assert d.log_prob(torch.stack([-torch.eye(2), torch.eye(2)])).isfinite().tolist() == [False, True]


def test_a_scale_that_is_not_definite_is_named():
    with pytest.raises(ValueError, match=r"InverseWishart: scale_matrix .* not finite"):
        InverseWishart(5.0, torch.full((2, 2), torch.nan))
